"""Scores without origin or unit become rewards between 0 and 1, in the same order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwz.reward import writing

SCALE = writing.Scale(mean=3.0, std=2.0)


def test_by_hand():
  # Standard scores 0, log 3 and -log 3.
  scores = 3 + 2 * np.array([0, np.log(3), -np.log(3)])
  np.testing.assert_allclose(writing.squash(scores, SCALE), [1 / 2, 3 / 4, 1 / 4], rtol=1e-12)


@given(st.floats(-60, 60), st.floats(-60, 60))
def test_a_better_score_is_never_a_lower_reward(a, b):
  low, high = writing.squash(np.array(sorted([a, b])), SCALE)
  assert 0 < low <= high < 1


def test_scores_that_differ_by_a_hundredth_of_the_spread_are_told_apart():
  rewards = writing.squash(3 + 2 * np.arange(-10, 10, 0.01), SCALE)
  assert np.all(np.diff(rewards) > 0)
  assert np.all(np.diff(rewards.astype(np.float32)) > 0)


@given(st.floats(-30, 30))
def test_it_is_symmetric_about_the_mean(distance):
  low, high = writing.squash(3.0 + np.array([-distance, distance]), SCALE)
  assert low + high == pytest.approx(1, abs=1e-12)


def test_neither_origin_nor_unit_of_the_scores_matters():
  scores = np.linspace(-5, 9, 8)
  moved = writing.squash(10 * scores + 7, writing.Scale(mean=37.0, std=20.0))
  np.testing.assert_allclose(moved, writing.squash(scores, SCALE), rtol=1e-12)


def test_no_score_overflows():
  # Warnings are errors here.
  scores = np.array([-1e308, -1e5, -1500.0, 1500.0, 1e5, 1e308])
  rewards = writing.squash(scores, SCALE)
  np.testing.assert_allclose(rewards, [0, 0, 0, 1, 1, 1], atol=1e-300)
  assert np.all(np.diff(rewards) >= 0)
  in_float32 = writing.squash(np.array([-3e38, 3e38], np.float32), SCALE)
  np.testing.assert_array_equal(in_float32, [0, 1])


def test_a_score_that_failed_stays_failed():
  rewards = writing.squash(np.array([np.nan, 3.0]), SCALE)
  np.testing.assert_array_equal(rewards, [np.nan, 0.5])


@pytest.mark.parametrize('std', [0.0, -1.0, float('nan')])
def test_scores_without_spread_have_no_unit(std):
  with pytest.raises(ValueError, match='std='):
    writing.Scale(mean=0.0, std=std)
