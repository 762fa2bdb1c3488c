"""Order of items over epochs, as a pure function of the step: a resumed run needs no state."""

from collections.abc import Callable

import numpy as np


def take(
  num_items: int, step: int, num: int, rng: Callable[[int], np.random.Generator]
) -> list[int]:
  """Returns the indices of the `num` items of a step, counted from 0.

  Items are taken without replacement, in a new permutation in each epoch, by the generator
  `rng(epoch)`; a step may reach over the end of an epoch, and over several.

  >>> take(3, 1, 2, np.random.default_rng)[0] == int(np.random.default_rng(0).permutation(3)[2])
  True
  """
  orders: dict[int, np.ndarray] = {}
  chosen = []
  for i in range(step * num, (step + 1) * num):
    epoch, place = divmod(i, num_items)
    if epoch not in orders:
      orders[epoch] = rng(epoch).permutation(num_items)
    chosen.append(int(orders[epoch][place]))
  return chosen
