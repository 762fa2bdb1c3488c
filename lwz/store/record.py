"""Records as lines of JSON, for metrics and samples."""

import json
import math
from typing import Any


def plain(value: Any) -> Any:
  """Returns the value as JSON has it: array scalars as numbers, NaN and infinities as None (null).

  Raises ValueError for a value that JSON can't hold, such as an array of several elements.
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
  """Returns the record as one line with its newline; see `plain` for the values."""
  return json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + '\n'
