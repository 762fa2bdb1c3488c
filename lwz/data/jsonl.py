"""JSON lines: one record per line, and errors that name the file and the line."""

import collections.abc
import json
from typing import Any

from etils import epath


def read(
  path: epath.PathLike,
  parse: collections.abc.Callable[[dict[str, Any]], Any],
  *,
  skip_broken: bool = False,
) -> tuple[list[Any], int]:
  """Every line of a file through `parse`; blank lines are passed over.

  Args:
    path: the file, UTF-8.
    parse: makes a value of a record; raises ValueError where the record is wrong.
    skip_broken: count the lines that cannot be read instead of stopping at the first.

  Returns:
    The values in the file's order, and how many lines were skipped.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is broken; the message begins with `file:line`.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; expected one JSON object per line')
  values, num_skipped = [], 0
  for number, line in enumerate(path.read_bytes().split(b'\n'), start=1):
    if not line.strip():
      continue
    try:
      record = json.loads(line.decode('utf-8-sig'))  # a UnicodeDecodeError is a ValueError
      if not isinstance(record, dict):
        raise ValueError(f'expected a JSON object, found {type(record).__name__}')
      values.append(parse(record))
    except ValueError as error:
      if not skip_broken:
        raise ValueError(f'{path}:{number}: {error}') from error
      num_skipped += 1
  return values, num_skipped


def write(path: epath.PathLike, records: collections.abc.Iterable[dict[str, Any]]) -> None:
  """Writes one record per line, UTF-8 as it is, and makes the folder where it is missing."""
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
    value.encode()  # half of a surrogate pair is a ValueError here, not hours later
  return value
