"""The header of a GGUF file: what it says of itself, and where its tensors lie.

Needs `pip install "lwz[gguf]"`.

    magic, version, number of tensors, number of keys
    key, kind, value                                     for each key
    name, dimensions (innermost first), type, offset     for each tensor
    bytes of the tensors, aligned

The header is read here, every count checked against the length of the file; the `gguf` package,
whose reader takes seconds for a vocabulary and trusts every count, has the types.
"""

import functools
import importlib.util
import math
import mmap
import pathlib
import struct
from typing import Any, NamedTuple

from etils import epath

from lwz import jsonl

PREFIX, SUFFIX = 'gguf:', '.gguf'
TYPES = ('F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q4_K', 'Q5_K', 'Q6_K')
_SHOWN = 5  # files of a package that a message names
# Kinds of values, by their number: what `struct` calls them; 8 is text, 9 an array.
_KINDS = dict(enumerate('BbHhIif?')) | {10: 'Q', 11: 'q', 12: 'd'}
_TEXT, _ARRAY = 8, 9


class Entry(NamedTuple):
  """Where a tensor lies in its file."""

  type: Any  # a gguf.GGMLQuantizationType
  shape: tuple[int, ...]  # outermost first
  start: int
  row_bytes: int  # of one row, along the innermost dimension


class Header(NamedTuple):
  """A file, up to the bytes of its tensors."""

  metadata: dict[str, Any]
  tensors: dict[str, Entry]


def locate(source: epath.PathLike) -> pathlib.Path | None:
  """The file that `FILE.gguf` or `gguf:PACKAGE/FILE` names, None for a source of another form.

  Raises FileNotFoundError if there is no such package or file.
  """
  text = str(source)
  path = pathlib.Path(text)
  if text.startswith(PREFIX):
    package, _, file = text.removeprefix(PREFIX).partition('/')
    try:
      spec = importlib.util.find_spec(package.split('.')[0].replace('-', '_'))
    except ValueError:  # no name of a package
      spec = None
    if spec is None or not spec.submodule_search_locations:
      raise FileNotFoundError(f'{text}: no package {package!r} is installed: pip install {package}')
    folder = pathlib.Path(spec.submodule_search_locations[0])
    path = folder / file
    if not path.is_file():
      there = ', '.join(sorted(one.name for one in folder.glob(f'*{SUFFIX}'))[:_SHOWN]) or 'none'
      raise FileNotFoundError(
        f'{text}: name a file of the package, as gguf:{package}/FILE{SUFFIX}; it has {there}'
      )
  elif path.suffix.lower() != SUFFIX or path.is_dir():
    return None
  if not path.is_file():
    raise FileNotFoundError(f'{text}: there is no file {path.name!r}; name one that exists')
  return path


def read(path: pathlib.Path) -> Header:
  """Returns keys and tensors of a file; ValueError, naming the file, if it is damaged."""
  quants(path)
  jsonl.check_regular(path)
  found = path.stat()
  return _read(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(4)  # configuration, ends, tokenizer and tensors are asked for one by one
def _read(path: pathlib.Path, size: int, time: int) -> Header:
  if size == 0:
    raise ValueError(f'{path}: is empty; download it again')
  with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
    try:
      return _header(_Cursor(data))
    except (ValueError, UnicodeDecodeError, struct.error) as error:
      raise ValueError(f'{path}: {error}; download it again, or convert the model anew') from error


class _Cursor:
  """Reads values one after another, and none beyond the end."""

  def __init__(self, data: mmap.mmap):
    self.data, self.at, self.size = data, 0, len(data)

  def take(self, num_bytes: int) -> bytes:
    if num_bytes > self.size - self.at:
      raise ValueError(f'is no whole GGUF file: {num_bytes:,} bytes are missing at {self.at:,}')
    self.at += num_bytes
    return self.data[self.at - num_bytes : self.at]

  def number(self, kind: str) -> Any:
    return struct.unpack(f'<{kind}', self.take(struct.calcsize(kind)))[0]

  def text(self) -> str:
    return self.take(self.number('Q')).decode()

  def value(self, kind: int) -> Any:
    if kind == _TEXT:
      return self.text()
    if kind in _KINDS:
      return self.number(_KINDS[kind])
    if kind != _ARRAY:
      raise ValueError(f'a value of kind {kind}, which no GGUF has')
    kind, count = self.number('I'), self.number('Q')
    if kind == _TEXT:
      if count * 8 > self.size - self.at:
        raise ValueError(f'is no whole GGUF file: an array of {count:,} texts at {self.at:,}')
      return [self.text() for _ in range(count)]
    if kind not in _KINDS:
      raise ValueError(f'an array of kind {kind}, which is not read')
    width = struct.calcsize(f'<{_KINDS[kind]}')
    return list(struct.unpack(f'<{count}{_KINDS[kind]}', self.take(width * count)))


def _header(cursor: _Cursor) -> Header:
  import gguf

  magic, version = cursor.take(4), cursor.number('I')
  if magic != b'GGUF' or version not in (2, 3):
    raise ValueError(f'begins with {magic!r}, version {version}, not with GGUF, version 2 or 3')
  num_tensors, num_keys = cursor.number('Q'), cursor.number('Q')
  if 13 * num_keys + 24 * num_tensors > cursor.size:  # the fewest bytes of each
    raise ValueError(f'is too short for {num_keys:,} keys and {num_tensors:,} tensors')
  metadata = {}
  for _ in range(num_keys):
    key = cursor.text()
    metadata[key] = cursor.value(cursor.number('I'))
  found = []
  for _ in range(num_tensors):
    name, num_dims = cursor.text(), cursor.number('I')
    if not 1 <= num_dims <= 4:
      raise ValueError(f'{name!r} has {num_dims:,} dimensions')
    shape = tuple(cursor.number('Q') for _ in range(num_dims))[::-1]
    found.append((name, shape, cursor.number('I'), cursor.number('Q')))
  align = metadata.get('general.alignment', 32)
  if not isinstance(align, int) or align < 1:
    raise ValueError(f'general.alignment = {align!r} is no number of bytes')
  begin = -(-cursor.at // align) * align
  tensors = {}
  for name, shape, number, offset in found:
    names = {kind.value: kind for kind in gguf.GGMLQuantizationType}
    if number not in names or names[number].name not in TYPES:
      known = names[number].name if number in names else number
      raise ValueError(f'{name!r} is of type {known}, not one of {", ".join(TYPES)}')
    width, size = gguf.GGML_QUANT_SIZES[names[number]]
    if shape[-1] % width:
      raise ValueError(f'{name!r} has rows of {shape[-1]:,} values, not of blocks of {width}')
    row_bytes = shape[-1] // width * size
    if begin + offset + row_bytes * math.prod(shape[:-1]) > cursor.size:
      raise ValueError(f'{name!r} is cut off')
    tensors[name] = Entry(names[number], shape, begin + offset, row_bytes)
  return Header(metadata, tensors)


def quants(name: object):
  """The module of the `gguf` package that quantises; `name` is told where it is missing."""
  try:
    from gguf import quants as found
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'{name}: needs gguf: pip install "lwz[gguf]"') from error
  return found
