"""Budgets per minute."""

import asyncio
import math

import pytest

from lwz.judge import rate_limit


def test_no_window_holds_more_than_the_budget():
  now = [0.0]
  limit = rate_limit.Pace(120, lambda: now[0])
  waits = [limit.book(1) for _ in range(240)]
  assert waits == pytest.approx([0.5 * i for i in range(240)])
  now[0] = 1000.0
  assert limit.book(1) == 0.0  # what was not used is not saved up
  assert limit.book(1) == pytest.approx(0.5)


def test_a_wrong_booking_is_made_good_and_a_server_is_obeyed():
  limit = rate_limit.Pace(60, lambda: 0.0)
  limit.book(100)
  limit.correct(-90)
  assert limit.book(0) == pytest.approx(10)
  limit.hold(25)
  assert limit.book(0) == pytest.approx(25)


def test_no_limit_never_waits():
  limit = rate_limit.Pace(math.inf)
  assert [limit.book(1e9) for _ in range(3)] == [0, 0, 0]
  asyncio.run(limit.take(1e12))


def test_nothing_is_no_budget():
  with pytest.raises(ValueError, match='per_minute=0'):
    rate_limit.Pace(0)
