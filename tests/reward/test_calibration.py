"""What is said of a reward model, by hand and against models whose faults are known."""

import numpy as np
import pytest

from lwz.reward import calibration


def test_accuracy_by_group_counts_a_tie_half():
  table = calibration.by_group(np.array([1.0, -2.0, 0.0, 3.0]), ['b', 'a', 'a', 'b'])
  assert table == [('all', 4, 0.625), ('a', 2, 0.25), ('b', 2, 1.0)]


def test_lengths_are_compared_against_the_longer_text():
  groups = calibration.length_groups(np.array([100, 50, 95, 0]), np.array([50, 100, 100, 0]))
  assert [g.split()[-1] for g in groups] == ['longer', 'shorter', 'long', 'long']


def test_a_model_that_is_right_as_often_as_it_says_has_no_error():
  rng = np.random.default_rng(0)
  size = rng.uniform(0, 4, 200_000)
  right = rng.random(size.size) < 1 / (1 + np.exp(-size))
  honest = np.where(right, size, -size)
  assert calibration.calibration_error(honest) < 0.01
  assert calibration.calibration_error(4 * honest) > 0.1
  assert calibration.calibration_error(honest / 10) > 0.1


def test_calibration_by_hand():
  margin = np.log(3.0)  # confidence 3 / 4
  assert calibration.calibration_error(np.array([margin, -margin])) == pytest.approx(0.25)
  assert calibration.calibration_error(np.full(3, 1e4)) == 0


def test_a_model_that_counts_words_is_found_out():
  words = np.array([10, 40, 90, 300])
  assert calibration.length_bias(2.0 * words - 5, words) == pytest.approx(1)
  assert calibration.length_bias(-1.0 * words, words) == pytest.approx(-1)
  assert calibration.length_bias(np.ones(4), words) == 0
