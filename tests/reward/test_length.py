"""Eq. 3."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwz import text
from lwz.reward import length


def test_words_are_counted_as_longwriter_counts_them():
  assert length.count_words is text.count_words


def equation_3(n, lower, upper, max_words):
  """The three branches as the paper prints them."""
  if lower <= n <= upper:
    return 1.0
  if n < lower:
    return n / lower
  return (max_words - n) / (max_words - upper)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=3, max_size=3), st.integers(0, 4000))
def test_equation_3_clamped(bounds, n):
  lower, upper, max_words = sorted(bounds)
  got = length.length_reward(n, lower, upper, max_words)
  expected = 0.0 if n > upper and n >= max_words else max(equation_3(n, lower, upper, max_words), 0)
  assert got == pytest.approx(expected, abs=1e-12)
  assert 0 <= got <= 1


def test_known_points():
  got = length.length_reward([0, 500, 1000, 1500, 2000, 3000, 4000, 9000], 1000, 2000, 4000)
  np.testing.assert_allclose(got, [0, 0.5, 1, 1, 1, 0.5, 0, 0])


def test_no_division_by_zero_at_the_edges():
  np.testing.assert_array_equal(length.length_reward([0, 1, 5, 6], 0, 5, 5), [1, 1, 1, 0])
  assert length.length_reward(0, 0, 0, 0) == 1
  assert length.length_reward(1, 0, 0, 0) == 0


def test_broadcasts_over_prompts_and_samples():
  lower_P1, upper_P1 = np.array([[100], [200]]), np.array([[100], [400]])
  got = length.length_reward(np.array([50, 100, 400]), lower_P1, upper_P1, 700)
  np.testing.assert_allclose(got, [[0.5, 1, 0.5], [0.25, 0.5, 1]])


def test_float32_input_and_scalars():
  assert length.length_reward(np.float32(5), 10, 20, 30) == 0.5
  assert isinstance(length.length_reward(5, 10, 20, 30), float)
  got = length.length_reward(np.array([5, 25], np.float32), 10, 20, 30)
  np.testing.assert_allclose(got, [0.5, 0.5])


@pytest.mark.parametrize(
  ('arguments', 'claim'),
  [
    ((5, 20, 10, 30), 'lower <= upper'),
    ((5, 10, 40, 30), 'upper <= max_words'),
    ((5, -1, 10, 30), 'lower >= 0'),
    ((-1, 0, 10, 30), 'num_words >= 0'),
    (([5, 5], [1, 20], 10, 30), 'lower <= upper'),
    ((float('nan'), 0, 10, 30), 'num_words >= 0'),
  ],
)
def test_impossible_bounds_are_refused(arguments, claim):
  with pytest.raises(ValueError, match=claim):
    length.length_reward(*arguments)
