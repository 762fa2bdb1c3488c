"""Benchmark files in the formats in which they are published; broken records are reported."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from lwz import jsonl

# Halves of surrogate pairs: invalid in UTF-8, and refused by servers.
_HALVES = re.compile('[\ud800-\udfff]')
_NUMBER = re.compile(r'\d[\d,，_ ]*')


class Reject(NamedTuple):
  """A rejected record: `file:line` or `file[position]`, and the reason."""

  where: str
  reason: str


def read(path: epath.PathLike) -> tuple[list[tuple[str, dict[str, Any]]], list[Reject]]:
  """The (place, record) pairs of a JSON or JSON-lines file, and the rejected records.

  The file is an array of objects, one object, an object that holds such an array, or lines of
  objects; a broken array is read line by line.

  Raises FileNotFoundError if there is no file.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; expected the benchmark as JSON or JSON lines')
  jsonl.check_regular(path)
  data = path.read_bytes()
  whole = _whole(data)
  if whole is not None:
    found = [(f'{path}[{i}]', value) for i, value in enumerate(whole)]
    return (
      [(where, value) for where, value in found if isinstance(value, dict)],
      [
        Reject(where, f'expected a JSON object, found {type(value).__name__}')
        for where, value in found
        if not isinstance(value, dict)
      ],
    )
  # Lines of a broken array count as lines of objects.
  stripped = (line.strip().rstrip(b',') for line in data.split(b'\n'))
  lines = list(jsonl.scan(b'' if line in (b'[', b']') else line for line in stripped))
  return (
    [(f'{path}:{line.number}', line.record) for line in lines if not line.fault],
    [Reject(f'{path}:{line.number}', line.fault[:200]) for line in lines if line.fault],
  )


def _whole(data: bytes) -> list[Any] | None:
  """The array in a file; None if the file has to be read by lines."""
  first = data.lstrip(b'\xef\xbb\xbf \t\r\n')
  if first[:1] not in (b'[', b'{'):
    return None
  if first[:1] == b'{' and _is_json(first.split(b'\n', 1)[0]) and first.count(b'\n') > 1:
    return None  # JSON lines
  try:
    value = json.loads(data.decode('utf-8-sig'))
  except (ValueError, RecursionError):
    return None
  if isinstance(value, list):
    return value
  held = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
  looks_like_one = any(name in value for name in ('question', 'query', 'prompt'))
  return held[0] if len(held) == 1 and not looks_like_one else [value]


def _is_json(line: bytes) -> bool:
  try:
    json.loads(line.decode('utf-8-sig'))
  except (ValueError, RecursionError):
    return False
  return True


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
  """A whole number of at least 0: 2000, 2000.0, '2000', '2,000 words'; None for anything else."""
  if isinstance(value, bool):
    return None
  if isinstance(value, str):
    found = _NUMBER.search(value)
    value = re.sub(r'\D', '', found[0]) if found and '-' not in value[: found.start()] else None
    value = int(value) if value and len(value) < 16 else None
  if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
    value = int(value)
  return value if isinstance(value, int) and value >= 0 else None


def flat(value: Any) -> Iterator[Any]:
  """The leaves of nested lists, in order: [[a, [b]], c] -> a, b, c."""
  stack = [value]
  while stack:
    item = stack.pop()
    if isinstance(item, Sequence) and not isinstance(item, str | bytes):
      stack.extend(reversed(item))
    else:
      yield item
