"""Numbers and durations formatted for readers."""

import math
import numbers
from typing import Any


def show(value: Any) -> str:
  """Returns a number in about four significant digits; text stays as it is.

  `show(1234567)` is '1,234,567', `show(0.08125)` is '0.0813', `show(2e-6)` is '2.00e-06', and
  a missing value (None, NaN) is an en dash.
  """
  if value is None:
    return '–'
  if isinstance(value, bool | str):
    return str(value)
  if isinstance(value, numbers.Integral):
    return f'{int(value):,}'
  number = float(value)
  if math.isnan(number):
    return '–'
  size = abs(number)
  if math.isinf(number):
    return '∞' if number > 0 else '-∞'
  if number == 0:
    return '0'
  if size < 1e-3:
    return f'{number:.2e}'
  if size < 0.1:
    return f'{number:.3g}'
  if size < 10:
    return f'{number:.3f}'
  if size < 100:
    return f'{number:.2f}'
  if size < 1000:
    return f'{number:.1f}'
  return f'{number:,.0f}'


def interval(low: Any, high: Any) -> str:
  """Returns '[low, high]', both as `show` has them; an en dash if there is neither."""
  return '–' if show(low) == show(high) == '–' else f'[{show(low)}, {show(high)}]'


def duration(seconds: float) -> str:
  """Returns a duration in words: '8s', '4m 05s', '3h 20m', '2d 04h'; NaN is an en dash."""
  if not math.isfinite(seconds):
    return '–'
  whole = max(0, round(seconds))
  minutes, second = divmod(whole, 60)
  hours, minute = divmod(minutes, 60)
  days, hour = divmod(hours, 24)
  if days:
    return f'{days}d {hour:02d}h'
  if hours:
    return f'{hours}h {minute:02d}m'
  if minutes:
    return f'{minutes}m {second:02d}s'
  return f'{second}s'
