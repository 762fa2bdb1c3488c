"""Agreement within groups: Kendall's tau by hand, ties, silence, and what is masked."""

import numpy as np

from lwz.reward import agreement

ALL = np.ones((1, 4), bool)


def compare(first, second, valid=None):
  first = np.atleast_2d(np.array(first, float))
  valid = np.ones(first.shape, bool) if valid is None else np.atleast_2d(valid)
  return [part.tolist() for part in agreement.within_groups(first, np.atleast_2d(second), valid)]


def test_one_order_the_reverse_and_one_pair_that_changes():
  assert compare([1, 2, 3, 4], [10.0, 20, 30, 90]) == [[1.0], [0.0]]
  assert compare([1, 2, 3, 4], [4.0, 3, 2, 1]) == [[-1.0], [1.0]]
  tau, changed = compare([1, 2, 3, 4], [1.0, 2, 4, 3])  # 5 of 6 pairs
  np.testing.assert_allclose(tau, [4 / 6])
  assert changed == [1.0]


def test_a_tie_for_the_best_is_no_change_if_one_is_the_best_of_both():
  tau, changed = compare([1, 2, 3, 4], [0.0, 1, 2, 2])
  np.testing.assert_allclose(tau, [5 / np.sqrt(6 * 5)])
  assert changed == [0.0]


def test_silent_groups_say_nothing_and_masked_samples_do_not_count():
  nan = np.nan
  found = compare([[1, 1, 1], [1, 2, 9], [1, 2, 3]], [[1.0, 2, 3], [1, 2, nan], [5, 6, 7]],
                  [[True] * 3, [True, True, False], [True, False, False]])  # fmt: skip
  np.testing.assert_array_equal(found, [[nan, 1.0, nan], [nan, 0.0, nan]])
