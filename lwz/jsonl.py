"""JSON lines: one record per line; errors name the file and the line."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from etils import epath


class Line(NamedTuple):
  """A line that is not blank: its record, or `fault`, the reason why it holds none."""

  number: int  # from 1
  data: bytes
  record: dict[str, Any]
  fault: str = ''


def scan(lines: Iterable[bytes]) -> Iterator[Line]:
  """The lines of a file, one at a time, without the blank ones; never raises for a broken line."""
  for number, data in enumerate(lines, start=1):
    if not (text := data.removeprefix(codecs.BOM_UTF8).strip()):
      continue
    try:
      record = json.loads(text.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
      yield Line(number, data, {}, f'not JSON: {error}')
      continue
    if isinstance(record, dict):
      yield Line(number, data, record)
    else:
      yield Line(number, data, {}, f'expected a JSON object, found {type(record).__name__}')


def stream(path: epath.PathLike) -> Iterator[dict[str, Any]]:
  """The records of a file, one at a time; see `read` for what it raises."""
  with epath.Path(path).open('rb') as lines:
    for line in scan(lines):
      if line.fault:
        raise _broken(path, line.number, line.fault)
      yield line.record


def read(
  path: epath.PathLike,
  parse: Callable[[dict[str, Any]], Any] = lambda record: record,
  *,
  skip: Literal['none', 'last', 'all'] = 'none',
) -> tuple[list[Any], int]:
  """The records of a file, each through `parse`.

  Args:
    path: the file, UTF-8.
    parse: makes a value of a record; raises ValueError if the record is wrong.
    skip: which broken lines are skipped and counted: none, the last (its writer was killed), or
      all.

  Returns:
    The values in the file's order, and the number of skipped lines.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is broken; the message begins with `file:line`.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; expected one JSON object per line')
  lines = list(scan(path.read_bytes().split(b'\n')))
  values, num_skipped = [], 0
  for line in lines:
    try:
      if line.fault:
        raise ValueError(line.fault)
      values.append(parse(line.record))
    except ValueError as error:
      if skip == 'none' or (skip == 'last' and line is not lines[-1]):
        raise _broken(path, line.number, error) from error
      num_skipped += 1
  return values, num_skipped


def _broken(path: epath.PathLike, number: int, fault: ValueError | str) -> ValueError:
  return ValueError(f'{path}:{number}: {fault}; mend or delete the line')


def write(path: epath.PathLike, records: Iterable[dict[str, Any]]) -> None:
  """Writes one record per line, UTF-8 as it is, and makes the folder if it is missing."""
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(record, ensure_ascii=False) + '\n' for record in records))


def field(record: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
  """`record[name]`, checked to be of `kind`; a missing one is `default`, or an error without it."""
  value = record.get(name, default)
  if value is None:
    raise ValueError(f'no field {name!r}; there are {sorted(record)}')
  if not isinstance(value, kind) or isinstance(value, bool):
    raise ValueError(f'{name!r} should be {kind.__name__}, found {type(value).__name__}')
  if isinstance(value, str):
    value.encode()  # half of a surrogate pair is a ValueError here, instead of hours later
  return value
