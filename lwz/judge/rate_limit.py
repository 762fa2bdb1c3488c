"""Budgets per minute, kept by spreading what is taken evenly over the time."""

import asyncio
import math
import time
from collections.abc import Callable


class Pace:
  """At most `per_minute` units in any minute; `math.inf` lets everything through.

  Taking n units moves the moment of the next one by n * 60 / per_minute seconds. There is no burst,
  so a budget holds in every window, not in the mean alone.
  """

  def __init__(self, per_minute: int | float, clock: Callable[[], float] = time.monotonic):
    if not per_minute > 0:
      raise ValueError(f'per_minute={per_minute} must be above 0; inf is no limit')
    self._seconds = 60.0 / per_minute  # per unit; 0 where there is no limit
    self._clock = clock
    self._next = -math.inf

  def book(self, amount: int | float) -> float:
    """Takes `amount` units, and returns the seconds to wait before they are used."""
    now = self._clock()
    start = max(now, self._next)
    self._next = start + amount * self._seconds
    return start - now

  def correct(self, amount: int | float) -> None:
    """Takes (or, negative, gives back) what a booking was wrong by."""
    self._next += amount * self._seconds

  def hold(self, seconds: int | float) -> None:
    """Nothing begins in the next `seconds`: the server asked for it."""
    self._next = max(self._next, self._clock() + seconds)

  async def take(self, amount: int | float) -> None:
    """Books, and waits."""
    if (seconds := self.book(amount)) > 0:
      await asyncio.sleep(seconds)
