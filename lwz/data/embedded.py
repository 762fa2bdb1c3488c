"""The embedded corpus: the language reference and docstrings of the Python installation."""

import ast
import collections.abc
import gc
import inspect
import os
import pathlib
import re
import sysconfig
import warnings

from lwz import types
from lwz.data import prose

SOURCES = REFERENCE, STDLIB = 'reference', 'stdlib'  # of its documents
_SKIP = {'test', 'tests', 'idlelib', 'lib2to3', 'site-packages', 'dist-packages'} | {
  'pydoc_data',  # the topics, read by name
  'encodings',  # tables
}
_Node = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# Characters; a shorter text cannot have twenty words, and cleaning it takes most of the time.
_SHORT = 80
_UNDERLINE = re.compile(r'^([*=^~#"-])\1{2,}$')
_SIGNATURE = re.compile(
  r'^(?:(?:class|exception|async|await|classmethod|static) )*'
  r'(?=.*[.(])([A-Za-z_]\w\w+(?:\.\w+)*)(\(.*\))?$'
)


def topics() -> list[types.Document]:
  """The language reference (`pydoc help` topics), one document per section or definition.

  A section begins at an underlined heading; a definition is a signature (`str.join(iterable)`)
  followed by a deeper indented description, and is titled by its name (`str.join`).
  """
  # A module of strings: it has been part of every Python since 2.5.
  from pydoc_data import topics as reference

  found = []
  for key in sorted(reference.topics):
    found.extend(_sections(reference.topics[key]))
  return found


def _sections(text: str) -> collections.abc.Iterator[types.Document]:
  """The sections and definitions of one topic, in the order of their ends."""
  title, body = '', []
  name, inside, indent = '', [], -1  # the open definition, if `name` is not ''

  def document(heading, paragraphs):
    return types.Document(heading, prose.join(paragraphs), REFERENCE)

  found = prose.blocks(text)
  for i, (column, lines) in enumerate(found):
    if name and column <= indent:
      yield document(name, inside)
      name, inside, indent = '', [], -1
    if len(lines) > 1 and _UNDERLINE.match(lines[-1]):
      yield document(title, body)
      title, body = prose.unmark(re.sub(r'^[\d.]+ ', '', ' '.join(lines[:-1]))), []
      title = title.replace('"', '')
      continue
    names = [match[1] for line in lines if (match := _SIGNATURE.match(line.strip()))]
    if len(names) == len(lines) and i + 1 < len(found) and found[i + 1][0] > column:
      if name:
        yield document(name, inside)
      name, inside, indent = names[0], [], column
      continue
    (inside if name else body).extend(prose.paragraphs(lines) or [prose.GAP])
  yield document(name, inside)
  yield document(title, body)


def docstrings(root: pathlib.Path | None = None) -> list[types.Document]:
  """The docstrings below `root` (default: the standard library), read without importing anything.

  A title is the last two parts of the dotted name: `Pdb.do_list`, `http.cookiejar`.
  """
  root = root or pathlib.Path(sysconfig.get_path('stdlib'))
  collects = gc.isenabled()
  gc.disable()  # syntax trees are a million small objects: garbage collection takes half the time
  try:
    return [document for path in _sources(root) for document in _of_module(path, root)]
  finally:
    if collects:
      gc.enable()


def _sources(root: pathlib.Path) -> collections.abc.Iterator[pathlib.Path]:
  """The Python files below a folder in sorted order, without tests and tables."""
  for folder, folders, files in os.walk(root):
    folders[:] = sorted(set(folders) - _SKIP)
    yield from (pathlib.Path(folder, file) for file in sorted(files) if file.endswith('.py'))


def _of_module(path: pathlib.Path, root: pathlib.Path) -> list[types.Document]:
  """The docstrings of one file; none if it is a template or an example that does not parse."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # old escapes in other people's strings
      tree = ast.parse(path.read_bytes())
  except (SyntaxError, ValueError):
    return []
  name = path.relative_to(root).with_suffix('').parts
  return list(_docstrings([part for part in name if part != '__init__'], tree))


def _docstrings(name: list[str], tree: _Node) -> collections.abc.Iterator[types.Document]:
  """The docstrings of a module, class or function and of those defined directly in it."""
  text = ast.get_docstring(tree, clean=False)
  if text and len(text) > _SHORT:
    text = inspect.cleandoc(text)
    blocks = (prose.paragraphs(lines) or [prose.GAP] for _, lines in prose.blocks(text))
    title = '.'.join(part.strip('_') or part for part in name[-2:])
    yield types.Document(title, prose.join([p for block in blocks for p in block]), STDLIB)
  for child in tree.body:
    if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
      yield from _docstrings([*name, child.name], child)
