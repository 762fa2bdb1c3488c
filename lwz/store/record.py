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
