"""Rate limits per minute, without bursts."""

import asyncio
import math
import time
from collections.abc import Callable


class Pace:
  """A limit of `per_minute` units in any minute; `math.inf` is no limit.

  Taking n units delays the next one by n * 60 / per_minute seconds. There are no bursts, so the
  limit holds in every window, not only on average.
  """

  def __init__(self, per_minute: int | float, clock: Callable[[], float] = time.monotonic):
    if not per_minute > 0:
      raise ValueError(f'per_minute={per_minute} must be above 0; inf is no limit')
    self._seconds = 60.0 / per_minute  # per unit; 0 if there is no limit
    self._clock = clock
    self._next = -math.inf

  def book(self, amount: int | float) -> float:
    """Takes `amount` units and returns the seconds to wait before using them."""
    now = self._clock()
    start = max(now, self._next)
    self._next = start + amount * self._seconds
    return start - now

  def correct(self, amount: int | float) -> None:
    """Takes more units (or, negative, gives some back) after a wrong estimate."""
    self._next += amount * self._seconds

  def hold(self, seconds: int | float) -> None:
    """Delays the next unit by at least `seconds`, as a server may ask."""
    self._next = max(self._next, self._clock() + seconds)

  async def take(self, amount: int | float) -> None:
    """Takes `amount` units and waits until they may be used."""
    if (seconds := self.book(amount)) > 0:
      await asyncio.sleep(seconds)
