"""Trajectories without an end: kept, left out, or charged for their length."""

import numpy as np
import pytest

from lwz.learn import advantage, overlong

LENGTHS = np.array([[40, 80, 85, 100], [100, 100, 10, 90]])
FINISHED = LENGTHS < 100
SCORES = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
VALID = np.array([[True, True, True, True], [True, False, True, True]])


def test_kept_they_are_as_they_were():
  scores, valid = overlong.keep(SCORES, VALID, LENGTHS, FINISHED)
  np.testing.assert_array_equal(scores, SCORES)
  np.testing.assert_array_equal(valid, VALID)


def test_left_out_they_count_in_no_statistic():
  scores, valid = overlong.mask(SCORES, VALID, LENGTHS, FINISHED)
  np.testing.assert_array_equal(valid, VALID & FINISHED)
  found = advantage.balanced(scores, None, valid)
  np.testing.assert_allclose(found[0, :3], advantage.balanced(SCORES[:1, :3])[0], rtol=1e-5)
  np.testing.assert_array_equal(np.asarray(found)[~(VALID & FINISHED)], 0)


def test_the_penalty_by_hand():
  found = overlong.penalty(LENGTHS, max_tokens=100, margin=20)
  np.testing.assert_allclose(found, [[0, 0, -0.25, -1], [-1, -1, 0, -0.5]], rtol=1e-6)
  beyond = overlong.penalty(np.array([[101, 5000]]), max_tokens=100, margin=20)
  np.testing.assert_array_equal(beyond, [[-1, -1]])


def test_a_penalty_is_on_every_reward_and_so_on_their_mean():
  scores, valid = overlong.penalise(SCORES, VALID, LENGTHS, FINISHED, max_tokens=100, margin=20)
  np.testing.assert_array_equal(valid, VALID)
  charged = SCORES.mean(-1) + overlong.penalty(LENGTHS, max_tokens=100, margin=20)
  np.testing.assert_allclose(np.mean(scores, axis=-1), charged, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('margin', [0, -1, 101])
def test_a_margin_outside_of_the_limit_is_refused(margin):
  with pytest.raises(ValueError, match='margin='):
    overlong.penalty(LENGTHS, max_tokens=100, margin=margin)
