"""Who writes first: a rollout ends when its longest trajectory does, so that one begins first."""

from collections.abc import Sequence

import numpy as np


def longest_first(expected: Sequence[float | int] | np.ndarray) -> list[int]:
  """Indices by falling expected length; equals keep their order, so a group stays together.

  Longest-processing-time-first ends at most 4/3 as late as the best order does where lengths are
  known (Graham 1969, Bounds on multiprocessing timing anomalies); first come, first served at most
  twice. Writing prompts bring a predictor: the upper end of the length they ask for.

  >>> longest_first([100, 900, 900, 300])
  [1, 2, 3, 0]
  """
  return sorted(range(len(expected)), key=lambda i: -expected[i])
