"""One record, one line of JSON: what metrics and samples are kept as."""

import json
import math
from typing import Any


def plain(value: Any) -> Any:
  """Value as JSON has it: array scalars become numbers, NaN and infinities None (JSON's null).

  Raises ValueError for what JSON can't hold, an array of more than one element for instance.
  """
  if value is None or isinstance(value, (str, bool, int)):
    return value
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else None
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if getattr(value, 'shape', None) == ():
    return plain(value.item())
  raise ValueError(f'{value!r} of type {type(value).__name__} has no place in a JSON record')


def encode(record: dict[str, Any]) -> str:
  """The record as one line, newline included; every key stays, see `plain` for the values."""
  return json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + '\n'


def decode(data: bytes, where: str) -> list[dict[str, Any]]:
  """The records of a file's bytes. A torn last line (its writer was killed) is left out.

  Raises ValueError, naming `where` and the line, where any other line is not a JSON object.
  """
  lines = data.splitlines()
  records = []
  for number, line in enumerate(lines, start=1):
    try:
      record = json.loads(line)
      if not isinstance(record, dict):
        raise ValueError(f'a {type(record).__name__}, not an object')
    except ValueError as error:  # a UnicodeDecodeError and a JSONDecodeError are ValueErrors
      if number == len(lines):
        break
      raise ValueError(f'{where}:{number}: no record ({error}); mend or delete the line') from error
    records.append(record)
  return records
