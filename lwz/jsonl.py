"""JSON and JSON lines of unknown origin: errors name the file, and the line or the field."""

import codecs
import contextlib
import gzip
import itertools
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Literal, NamedTuple

from etils import epath

LARGEST = 1 << 26  # bytes of a JSON document or line, which takes ten times as much memory
_EXPANDS = 200  # times; gzip makes a tenth of a text, a hundredth of a log
_SIGN, _IN_TEXT = re.compile(rb'["\[\]{},]'), re.compile(rb'["\\]')  # of JSON


class Span(NamedTuple):
  """A number of this kind, `int` or `float`, from `low` to `high`, both included."""

  kind: type
  low: float
  high: float


Fields = Mapping[str, type | Span]
Parse = Callable[[dict[str, Any]], Any]  # a record to a value; raises ValueError if it is wrong
_KINDS: dict[type, str] = {
  **{int: 'whole number', float: 'number', bool: 'true or false', str: 'text'},
  **{list: 'list', dict: 'object'},
}


class Line(NamedTuple):
  """A line that is not blank: its record, or `fault`, the reason why it holds none."""

  number: int  # from 1
  data: bytes
  record: dict[str, Any]
  fault: str = ''


def check_regular(path: epath.PathLike) -> None:
  """Raises ValueError for a FIFO, a device or a socket: to read it may never end."""
  is_local = '://' not in os.fspath(path)  # a bucket holds nothing else
  if is_local and stat.S_IFMT(os.stat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
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
  if (size := max(size, len(data))) > largest:  # of .gz: at least
    raise ValueError(f'{path}: {size:,} bytes, more than the {largest:,} that are read; split it')
  return data


def lines(path: epath.PathLike) -> Iterator[bytes]:
  """The lines of a file, one at a time; of one longer than `LARGEST`, a byte more than that.

  Raises ValueError if it is no file, a line has no end for four times as much, or a gzip file
  expands as no text does.
  """
  return _joined(path, ((part, part.endswith(b'\n')) for part in _parts(path)))


def _parts(path: epath.PathLike) -> Iterator[bytes]:
  """The lines of a file; a long one in parts of a megabyte."""
  done, most = 0, LARGEST // 32
  with opened(path) as file:
    while data := file.readline(1 << 20):
      done += len(data)
      if done > most and done > (most := _EXPANDS * getattr(file, 'fileobj', file).tell()):
        raise ValueError(f'{path}: expands more than {_EXPANDS}-fold, as no text does; remove it')
      yield data


def _joined(path: epath.PathLike, parts: Iterable[tuple[bytes, bool]]) -> Iterator[bytes]:
  """Lines or elements, of parts and whether each is the last of its own; see `lines`."""
  held, length = [], 0
  for part, is_last in itertools.chain(parts, [(b'', True)]):
    held += [part] if length <= LARGEST else []
    length += len(part)
    if length > 4 * LARGEST:
      raise ValueError(f'{path}: a record of more than {4 * LARGEST:,} bytes; remove it')
    if is_last and length:
      yield b''.join(held)[: LARGEST + 1]
      held, length = [], 0


def _elements(path: epath.PathLike) -> Iterator[tuple[bytes, bool]]:
  """Parts of the elements of a JSON array; raises ValueError behind them if it has no end."""
  depth, is_text, at = 0, False, 0
  for part in _parts(path):
    begin = 0
    while found := (_IN_TEXT if is_text else _SIGN).search(part, at):
      sign, at = found[0], found.end()
      at += sign == b'\\'  # what it escapes ends no text
      is_text ^= sign == b'"'
      depth += (sign in b'[{') - (sign in b']}')
      if depth == 1 and sign == b'[':
        begin = at
      elif depth == 0 or (depth == 1 and sign == b','):
        yield part[begin : at - 1], True
        begin = at
    yield part[begin:], False
    at = max(0, at - len(part))
  yield b'', True
  if depth:
    raise ValueError(f'{path}: not a JSON array: it has no end; mend it')


def array_of(path: epath.PathLike) -> bytes:
  """Returns the first sign within a file that is one JSON array, and b'' for any other file."""
  head = b''.join(itertools.islice((part for part in _parts(path) if part.strip()), 2))
  head = head.removeprefix(codecs.BOM_UTF8).lstrip()
  array, many = re.match(rb'\[\s*(.)', head, re.S), re.match(rb'\[[^\n]*\]\s*\n\s*\[', head)
  return array[1] if array and not many else b''  # many: a list in each line


def records(
  path: epath.PathLike, is_record: Callable[[dict[str, Any]], Any] = lambda record: True
) -> Iterator[Line]:
  """The records of a file of JSON lines, of one JSON array, or of one object; see `lines`.

  Those of an array have the numbers of its elements, from 1. An object is a record, or else, where
  `is_record` denies it, holds one list of objects: its records.
  """
  if array_of(path):
    return scan(_joined(path, _elements(path)))
  heads = [*itertools.islice(scan(lines(path)), 2)]
  if len(heads) < 2 or heads[0].fault:  # an object, or nothing, or a first line that is broken
    with contextlib.suppress(AttributeError, ValueError, RecursionError):  # no object
      record = json.loads(contents(path, 4 * LARGEST).decode('utf-8-sig'))
      held = [v for v in record.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
      elements = held[0] if len(held) == 1 and not is_record(record) else [record]
      return scan(json.dumps(element).encode() for element in elements)
  return scan(lines(path))


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


def scan(lines: Iterable[bytes]) -> Iterator[Line]:
  """The lines of a file, one at a time, without the blank ones; never raises for a broken line."""
  for number, data in enumerate(lines, start=1):
    if len(data) > LARGEST:
      yield Line(number, b'', {}, f'a record of more than {LARGEST:,} bytes')
      continue
    if not (text := data.removeprefix(codecs.BOM_UTF8).strip()):
      continue
    try:
      record = json.loads(text.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
      yield Line(number, data, {}, f'not JSON: {error}')
      continue
    kind = type(record).__name__
    fault = '' if kind == 'dict' else f'expected a JSON object, found {kind}'
    yield Line(number, data, {} if fault else record, fault)


def parsed(
  path: epath.PathLike, found: Iterable[Line] | None = None, parse: Parse = lambda record: record
) -> Iterator[Any]:
  """The records of a file, or what was found of it, through `parse`; see `read` for errors."""
  for line in records(path) if found is None else found:
    try:
      if line.fault:
        raise ValueError(line.fault)
      value = parse(line.record)
    except ValueError as error:
      raise ValueError(f'{path}:{line.number}: {error}; mend or delete the record') from error
    yield value


def read(
  path: epath.PathLike,
  parse: Parse = lambda record: record,
  *,
  skip: Literal['none', 'last', 'all'] = 'none',
  records: Callable[[epath.PathLike], Iterable[Line]] = lambda path: scan(lines(path)),
) -> tuple[list[Any], int]:
  """The records of a UTF-8 file, each through `parse`, and the number of skipped lines.

  `skip` says which broken lines are skipped and counted: none, the last (its writer was killed), or
  all. `records` reads a file of another format.

  Raises FileNotFoundError if there is no such file; ValueError, beginning with `file:line`, if a
  line is broken.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; expected one JSON object per line')
  values, num_skipped, error = [], 0, None
  for line in records(path):
    if error and skip == 'last':
      raise error  # it was not the last one
    try:
      values += parsed(path, [line], parse)
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
  value = default if record.get(name) is None else record[name]
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
