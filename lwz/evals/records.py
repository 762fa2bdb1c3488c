"""Benchmark files in the formats in which they are published; broken records are reported."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from lwz import jsonl

# Halves of surrogate pairs: invalid in UTF-8, and refused by servers.
_HALVES = re.compile('[\ud800-\udfff]')
_QUESTIONS = ('question', 'query', 'prompt')
_NUMBER = re.compile(r'\d[\d,，_ ]*')


class Reject(NamedTuple):
  """A rejected record: `file:number`, of its line or element, and the reason."""

  where: str
  reason: str


def read(path: epath.PathLike) -> tuple[list[tuple[str, dict[str, Any]]], list[Reject]]:
  """The (place, record) pairs of a JSON or JSON-lines file, and the rejected records.

  The file is an array of objects, one object, an object that holds such an array, or lines of
  objects.

  Raises FileNotFoundError if there is no file, ValueError for an array that has no end.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; expected the benchmark as JSON or JSON lines')
  found, rejects = [], []
  for line in jsonl.records(path, lambda record: any(name in record for name in _QUESTIONS)):
    if line.fault:
      rejects.append(Reject(f'{path}:{line.number}', line.fault[:200]))
    else:
      found.append((f'{path}:{line.number}', line.record))
  return found, rejects


def text(record: Mapping[str, Any], *names: str) -> str:
  """The first of the named fields that is a text, cleaned; '' if there is none."""
  for name in names:
    value = record.get(name)
    if isinstance(value, str) and value.strip():
      return clean(value)
  return ''


def clean(value: str) -> str:
  """The text without outer blanks; half of a surrogate pair becomes U+FFFD."""
  return _HALVES.sub('\N{REPLACEMENT CHARACTER}', value).strip()


def number(value: Any) -> int | None:
  """A whole number from 0 to 10^15: 2000, 2000.0, '2000', '2,000 words'; else None."""
  if isinstance(value, bool):
    return None
  if isinstance(value, str):
    found = _NUMBER.search(value)
    value = re.sub(r'\D', '', found[0]) if found and '-' not in value[: found.start()] else None
    value = int(value) if value and len(value) < 16 else None
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  return value if isinstance(value, int) and 0 <= value < 10**15 else None


def flat(value: Any) -> Iterator[Any]:
  """The leaves of nested lists, in order: [[a, [b]], c] -> a, b, c."""
  stack = [value]
  while stack:
    item = stack.pop()
    if isinstance(item, Sequence) and not isinstance(item, str | bytes):
      stack.extend(reversed(item))
    else:
      yield item
