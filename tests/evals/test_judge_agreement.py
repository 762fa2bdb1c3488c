"""Agreement of two judges: known values, and what it says of equal, unrelated and shifted marks."""

import numpy as np
import pytest
from scipy import stats

from lwz.evals import judge_agreement


def test_ranks_and_alpha_are_those_of_the_books():
  rng = np.random.default_rng(0)
  first = rng.integers(1, 11, 60).astype(float)
  second = np.clip(first + rng.integers(-2, 3, 60), 1, 10)
  found = judge_agreement.of(first, second, np.arange(60), 0)
  assert found.rho == pytest.approx(stats.spearmanr(first, second).statistic)
  assert found.low < found.rho < found.high
  assert found.same == np.mean(first == second) and found.items == found.queries == 60
  every = np.r_[first, second]
  pairs = (every[:, None] - every[None, :]) ** 2
  expected = pairs.sum() / (len(every) * (len(every) - 1))
  assert found.alpha == pytest.approx(1 - np.mean((first - second) ** 2) / expected)


def test_equal_unrelated_and_milder_judges():
  marks = np.tile(np.arange(1.0, 11), 20)
  equal = judge_agreement.of(marks, marks, np.arange(200), 0)
  assert equal.rho == equal.alpha == equal.same == pytest.approx(1) and equal.difference == 0
  other = np.random.default_rng(1).permutation(marks)
  apart = judge_agreement.of(marks, other, np.arange(200), 0)
  assert abs(apart.rho) < 0.2 and abs(apart.alpha) < 0.2
  milder = judge_agreement.of(marks, marks + 5, np.arange(200), 0)
  assert milder.rho == pytest.approx(1) and milder.alpha < 0.5 and milder.difference == 5


def test_an_interval_is_over_queries_and_not_over_marks():
  rng = np.random.default_rng(2)
  first = rng.normal(size=30)
  second = first + rng.normal(size=30)
  alone = judge_agreement.of(first, second, range(30), 0)
  five = judge_agreement.of(np.repeat(first, 5), np.repeat(second, 5), np.repeat(range(30), 5), 0)
  assert five.rho == pytest.approx(alone.rho) and five.items == 150 and five.queries == 30
  assert five.high - five.low == pytest.approx(alone.high - alone.low, rel=0.01)


def test_a_judge_who_says_the_same_of_all_and_nobody_at_all():
  flat = judge_agreement.of([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0, 1, 2], 0)
  assert np.isnan(flat.rho)
  none = judge_agreement.of([], [], [], 0)
  assert none.items == 0 and np.isnan([none.rho, none.alpha, none.same, none.difference]).all()
