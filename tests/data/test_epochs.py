"""An epoch takes every item once, in an order that its number alone determines."""

import numpy as np
import pytest

from lwz.data import epochs


@pytest.mark.parametrize('num', [1, 2, 3, 7, 16])
def test_every_epoch_is_a_permutation_whatever_the_step_takes(num):
  items = 7
  taken = [i for step in range(42) for i in epochs.take(items, step, num, np.random.default_rng)]
  whole = len(taken) // items
  for epoch in range(whole):
    part = taken[epoch * items : (epoch + 1) * items]
    assert part == np.random.default_rng(epoch).permutation(items).tolist()


def test_epochs_have_other_orders():
  first, second = (epochs.take(20, step, 20, np.random.default_rng) for step in (0, 1))
  assert first != second and sorted(first) == sorted(second)
