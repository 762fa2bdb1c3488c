"""JSON and JSON lines of unknown origin: errors name the file, and the line or the field."""

import codecs
import contextlib
import gzip
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Literal, NamedTuple

from etils import epath

LARGEST = 1 << 26  # bytes of a JSON document or line, which takes ten times as much memory
_EXPANDS = 200  # times; gzip makes a tenth of a text, a hundredth of a log


class Span(NamedTuple):
  """A number of this kind, `int` or `float`, from `low` to `high`, both included."""

  kind: type
  low: float
  high: float


Fields = Mapping[str, type | Span]
_KINDS: dict[type, str] = {
  **{int: 'whole number', float: 'number', bool: 'true or false', str: 'text'},
  **{list: 'list', dict: 'object'},
}


def check_regular(path: epath.PathLike) -> None:
  """Raises ValueError for a FIFO, a device or a socket: to read it may never end."""
  path = os.fspath(path)
  if '://' in path:  # a bucket holds nothing else
    return
  mode = os.stat(path).st_mode
  if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    raise ValueError(f'{path}: a FIFO, device or socket, not a file; remove it')


@contextlib.contextmanager
def opened(path: epath.PathLike) -> Iterator[IO[bytes] | gzip.GzipFile]:
  """The bytes of a file to read, of `.gz` unpacked; raises ValueError if it is none, or damaged."""
  check_regular(path)
  try:
    with epath.Path(path).open('rb') as raw:
      yield gzip.GzipFile(fileobj=raw) if os.fspath(path).lower().endswith('.gz') else raw
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(f'{path}: damaged gzip: {error}; pack it again') from error


def contents(path: epath.PathLike, largest: int = LARGEST) -> bytes:
  """Returns the bytes of a file; raises ValueError if it is none, or has more than `largest`."""
  with opened(path) as file:
    size = epath.Path(path).stat().length
    data = file.read(largest + 1) if size <= largest else b''
  if max(size, len(data)) > largest:
    raise ValueError(f'{path}: {size:,} bytes, more than the {largest:,} that are read; split it')
  return data


def lines(path: epath.PathLike) -> Iterator[bytes]:
  """The lines of a file, one at a time; of one longer than `LARGEST`, a byte more than that.

  Raises ValueError if it is no file, a line has no end for four times as much, or a gzip file
  expands as no text does.
  """
  done, length, whole = 0, 0, True
  with opened(path) as file:
    while data := file.readline(LARGEST + 1 if whole else 1 << 20):
      if whole:
        yield data
      done += len(data)
      packed = getattr(file, 'fileobj', file).tell()
      if done > max(LARGEST // 32, _EXPANDS * packed):
        raise ValueError(f'{path}: expands more than {_EXPANDS}-fold, as no text does; remove it')
      length = len(data) if whole else length + len(data)
      if length > 4 * LARGEST:
        raise ValueError(f'{path}: a line of more than {4 * LARGEST:,} bytes; remove it')
      # The rest of a long line is passed over.
      whole = data.endswith(b'\n') or (whole and len(data) <= LARGEST)


def document(
  path: epath.PathLike,
  fields: Mapping[str, type | Span] = {},
  *,
  remedy: str,
) -> dict[str, Any]:
  """Returns the JSON object of a file.

  Raises OSError if there is no file, and ValueError if it is not JSON, no object, or lacks one of
  `fields` in its kind; the message ends with the remedy.
  """
  data = contents(path)
  try:
    found = json.loads(data.decode('utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: not JSON: {error}; {remedy}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: expected a JSON object, found {type(found).__name__}; {remedy}')
  wrong = [f'{name} is missing' for name in fields if name not in found]
  if wrong := wrong + faults(found, fields):
    raise ValueError(f'{path}: {"; ".join(wrong)}; {remedy}')
  return found


def faults(record: Mapping[str, Any], fields: Fields) -> list[str]:
  """Returns a sentence about each field of a record that is there and not of its kind.

  >>> faults({'layers': '2', 'theta': 0.5}, {'layers': Span(int, 1, 9), 'theta': float})
  ["layers = '2' is no whole number"]
  """
  found = []
  for name, wanted in fields.items():
    if name not in record:
      continue
    value = record[name]
    kind, low, high = wanted if isinstance(wanted, Span) else (wanted, 0, 0)
    shown = repr(value) if len(repr(value)) <= 60 else f'{repr(value)[:60]}...'
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
      found.append(f'{name} = {shown} is no {_KINDS[kind]}')
    elif isinstance(wanted, Span) and not float(low) <= record[name] <= high:
      found.append(f'{name} = {shown} is outside of {low:,} to {high:,}')
  return found


class Line(NamedTuple):
  """A line that is not blank: its record, or `fault`, the reason why it holds none."""

  number: int  # from 1
  data: bytes
  record: dict[str, Any]
  fault: str = ''


def scan(lines: Iterable[bytes]) -> Iterator[Line]:
  """The lines of a file, one at a time, without the blank ones; never raises for a broken line."""
  for number, data in enumerate(lines, start=1):
    if len(data) > LARGEST:
      yield Line(number, b'', {}, f'a line of more than {LARGEST:,} bytes')
      continue
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


def parsed(
  path: epath.PathLike, lines: Iterable[Line], parse: Callable[[dict[str, Any]], Any]
) -> Iterator[Any]:
  """The records of lines, each through `parse`; see `read` for what it raises."""
  for line in lines:
    yield _parsed(path, line, parse)


def _parsed(path: epath.PathLike, line: Line, parse: Callable[[dict[str, Any]], Any]) -> Any:
  try:
    if line.fault:
      raise ValueError(line.fault)
    return parse(line.record)
  except ValueError as error:
    raise ValueError(f'{path}:{line.number}: {error}; mend or delete the line') from error


def stream(path: epath.PathLike) -> Iterator[dict[str, Any]]:
  """The records of a file, one at a time; see `read` for what it raises."""
  return parsed(path, scan(lines(path)), lambda record: record)


def read(
  path: epath.PathLike,
  parse: Callable[[dict[str, Any]], Any] = lambda record: record,
  *,
  skip: Literal['none', 'last', 'all'] = 'none',
  records: Callable[[epath.PathLike], Iterable[Line]] = lambda path: scan(lines(path)),
) -> tuple[list[Any], int]:
  """The records of a file, each through `parse`.

  Args:
    path: the file, UTF-8.
    parse: makes a value of a record; raises ValueError if the record is wrong.
    skip: which broken lines are skipped and counted: none, the last (its writer was killed), or
      all.
    records: reads a file of another format.

  Returns:
    The values in the file's order, and the number of skipped lines.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is broken; the message begins with `file:line`.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; expected one JSON object per line')
  values, num_skipped, error = [], 0, None
  for line in records(path):
    if error and skip == 'last':
      raise error  # it was not the last one
    try:
      values.append(_parsed(path, line, parse))
    except ValueError as fault:
      error = fault
      if skip == 'none':
        raise
      num_skipped += 1
  return values, num_skipped


def write(path: epath.PathLike, records: Iterable[dict[str, Any]]) -> None:
  """Writes one record per line, UTF-8 as it is, and makes the folder if it is missing."""
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(record, ensure_ascii=False) + '\n' for record in records))


def field(record: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
  """`record[name]`, checked to be of `kind`.

  An absent one, or null, is `default`; without a default, the error tells the two apart.
  """
  value = record.get(name)
  value = default if value is None else value
  if value is None:
    raise ValueError(missing(record, name))
  if isinstance(value, int) and not -(2**63) <= value < 2**63:
    raise ValueError(f'{name!r} has more than 64 bits')
  if not isinstance(value, kind) or isinstance(value, bool):
    raise ValueError(f'{name!r} should be {kind.__name__}, found {type(value).__name__}')
  if isinstance(value, str):
    value.encode()  # half of a surrogate pair is a ValueError here, instead of hours later
  return value


def missing(record: Mapping[str, Any], *names: str) -> str:
  """The reason why no field of these names holds anything: all absent, or one null or empty."""
  for name in names:
    if name in record:
      value = record[name]
      is_empty = not value.strip() if isinstance(value, str) else value in ([], {})
      kind = type(value).__name__
      said = 'null' if value is None else 'empty' if is_empty else f'no text but {kind}'
      return f'{name!r} is {said}'
  return f'no field {names[0]!r}; there are {sorted(record)!r:.200}'
