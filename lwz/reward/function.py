"""Rewards given as Python functions: how they are called, and what tells two of them apart.

A function has no name that a config could hold, so a run keeps a digest of what it computes: its
source without comments and layout, its defaults, the values that it closes over, and the same of
every function of the user's own that it calls. What comes from installed packages counts by name.
"""

import __future__

import ast
import dataclasses
import dis
import functools
import hashlib
import inspect
import json
import linecache
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lwz.reward import components

Function = components.Component | components.Reward
# Their own content stands in no field of a subclass.
_HOLDERS = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
_FUTURE = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})
# Of a class: what Python adds to what was written.
_ADDED = re.compile(
  r'__(dict|weakref|module|doc|annot\w*|firstlineno|static_attributes|dataclass_\w+|match_args)__'
)


def reward(name: str, given: Any) -> tuple[components.Reward, str]:
  """Returns a reward, and the text that stands for it in the identity of a run.

  `given` is a function from samples to one number each, called on any of them while others are
  still being written, or what `components.per_group` or `on_device` makes of one; with a version,
  (function, '2'), where the source cannot be read. Raises ValueError if it cannot, and no version
  is given.
  """
  fn, version = given if isinstance(given, tuple) else (given, '')
  if not (callable(fn) or isinstance(fn, components.Reward)):
    raise ValueError(f'rewards[{name!r}]: {fn!r} is no function from samples to numbers')
  made = fn if isinstance(fn, components.Reward) else components.per_answer(fn)

  @functools.wraps(made.fn, updated=())
  def checked(samples: Sequence[Any]) -> np.ndarray:
    """`samples` are groups of them if the function takes many groups."""
    values = np.asarray(made.fn(samples), np.float64)
    what, each = ('groups', (len(samples[0]),)) if made.many else ('samples', ())
    if values.shape != (len(samples), *each):
      raise ValueError(
        f'rewards[{name!r}] returned values of shape {values.shape} for {len(samples)} {what}: '
        'return one number for each sample'
      )
    return values

  try:
    what = f'{made.reads}, version {version}' if version else f'{made.reads}, {digest(made.fn)}'
  except ValueError as error:
    raise ValueError(
      f'rewards[{name!r}]: {error}; give a version, and another one whenever it changes: '
      f"rewards={{{name!r}: (function, '1')}}"
    ) from None
  return dataclasses.replace(made, fn=checked), what


def digest(value: Callable) -> str:
  """Returns a digest of a function, for which the name of a library's does not suffice."""
  found = _described(value)
  if found[0] == 'library':
    raise ValueError(f'the source of {value.__qualname__}() is not read: it is not your own')
  text = json.dumps(found)
  return f'sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}'


def _described(value: Any, outer: tuple[Any, ...] = ()) -> Any:
  """Returns a value as JSON that is the same in every process; `outer` are those it is part of.

  Raises ValueError for one that nothing but its place in memory tells from another.
  """
  kind = type(value).__name__
  if type(value) in (type(None), bool, int, float, complex, str, bytes, range):
    return [kind, repr(value)]
  for depth, one in enumerate(outer):
    if one is value:
      return ['within', depth]
  describe = functools.partial(_described, outer=(*outer, value))
  match value:
    case tuple() | list() if type(value) in (tuple, list):
      return [kind, *map(describe, value)]
    case dict() if type(value) is dict:
      return [kind, *([describe(k), describe(v)] for k, v in value.items())]
    case set() | frozenset():
      return [kind, *sorted(json.dumps(describe(one)) for one in value)]
    case re.Pattern():
      return [kind, value.pattern if isinstance(value.pattern, str) else repr(value), value.flags]
    case np.ndarray() | np.generic() if value.dtype != object:
      data = np.ascontiguousarray(value).tobytes()
      return [kind, str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()]
    case functools.partial():
      return [kind, describe(value.func), describe(value.args), describe(value.keywords)]
    case types.MethodType():
      return [kind, describe(value.__self__), describe(value.__func__)]
    case types.ModuleType():
      return [kind, value.__name__, *_module(value, describe)]
    case staticmethod() | classmethod():
      return [kind, describe(value.__func__)]
    case property():
      return [kind, describe(value.fget), describe(value.fset)]
  if _is_library(getattr(value, '__module__', None) or '') and hasattr(value, '__qualname__'):
    return ['library', value.__module__, value.__qualname__]
  if isinstance(value, types.FunctionType):
    return _function(value, describe)
  if isinstance(value, type):
    own = {k: v for k, v in vars(value).items() if not _ADDED.fullmatch(k) and _is_written(v)}
    return [kind, value.__qualname__, describe(value.__bases__), describe(own)]
  if hasattr(value, '__wrapped__'):  # by functools.cache, jax.jit
    return [kind, describe(value.__wrapped__)]
  is_own = not _is_library(type(value).__module__) and not isinstance(value, _HOLDERS)
  if is_own and hasattr(value, '__dict__'):
    return ['object', describe(type(value)), describe(dict(vars(value)))]
  raise ValueError(f'{value!r:.60} of type {kind} cannot be told from another by its content')


def _function(fn: types.FunctionType, describe: Callable) -> list:
  """Returns the source of a function, and every value that it takes from outside."""
  names = sorted(set(_globals(fn.__code__)))
  closed = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
  return [
    _source(fn),
    describe(fn.__defaults__),
    describe(fn.__kwdefaults__),
    *([name, describe(_content(cell))] for name, cell in closed),
    *([name, describe(fn.__globals__[name])] for name in names if name in fn.__globals__),
  ]


def _content(cell: types.CellType) -> Any:
  try:
    return cell.cell_contents
  except ValueError:
    return 'nothing yet'


def _globals(code: types.CodeType) -> Iterator[str]:
  for one in _codes(code):
    for step in dis.get_instructions(one):
      if step.opname in ('LOAD_GLOBAL', 'LOAD_NAME'):
        yield step.argval


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
  """The code object, and those of the functions that are defined in it."""
  yield code
  for const in code.co_consts:
    if isinstance(const, types.CodeType):
      yield from _codes(const)


def _source(fn: types.FunctionType) -> str:
  """Returns the source of a function, without comments and layout.

  Raises ValueError unless it is there, and is that of the function which runs.
  """
  code, name = fn.__code__, f'{fn.__qualname__}()'
  text = _text(code.co_filename, [fn], name)
  begin = code.co_firstlineno, code.co_name
  nodes = [node for node in ast.walk(ast.parse(text)) if _begins(node) == begin]
  if len(nodes) != 1:
    raise ValueError(f'{len(nodes)} functions like {name} begin in its line')
  return ast.unparse(nodes[0])


def _text(file: str, functions: Sequence[types.FunctionType], name: str) -> str:
  """Returns the text of a file or cell, from which these functions were made."""
  linecache.checkcache(file)
  text = ''.join(linecache.getlines(file))
  if not text:
    raise ValueError(f'the source of {name} cannot be read')
  for flags in {fn.__code__.co_flags & _FUTURE for fn in functions}:
    try:
      found = set(_codes(compile(text, file, 'exec', flags, dont_inherit=True)))
    except SyntaxError:
      raise ValueError(f'the source of {name} cannot be read: it is no Python') from None
    if any(fn.__code__ not in found for fn in functions if fn.__code__.co_flags & _FUTURE == flags):
      raise ValueError(f'the source of {name} has changed since it was imported: import it again')
  return text


def _begins(node: ast.AST) -> tuple[int, str] | None:
  if isinstance(node, ast.Lambda):
    return node.lineno, '<lambda>'
  if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
    return min([node.lineno, *(one.lineno for one in node.decorator_list)]), node.name
  return None


def _module(module: types.ModuleType, describe: Callable) -> list:
  """Returns the text of a module of the user's own, and the modules and functions it imports."""
  if _is_library(module.__name__):
    return []
  values = {k: v for k, v in sorted(vars(module).items()) if not k.startswith('__')}
  made = [v for v in values.values() if isinstance(v, types.FunctionType)]
  own = [fn for fn in made if fn.__module__ == module.__name__]
  others = {
    name: describe(value)
    for name, value in values.items()
    if isinstance(value, types.ModuleType) or (value in made and value not in own)
  }
  return [_text(module.__file__ or '', own, module.__name__), others]


def _is_written(value: Any) -> bool:
  """Whether a member of a class was written there; the methods of a dataclass are not."""
  code = getattr(inspect.unwrap(value), '__code__', None) if callable(value) else None
  return code is None or code.co_filename != '<string>'


def _is_library(module: str) -> bool:
  """Whether a module is lwz's, Python's or an installed one, rather than the user's own."""
  if module == '__main__':
    return False
  if module.split('.')[0] in (*sys.stdlib_module_names, 'lwz'):
    return True
  file = getattr(sys.modules.get(module), '__file__', None) or ''
  return 'site-packages' in file or 'dist-packages' in file
