"""Order of the queue: a rollout ends with its longest trajectory, so the longest start first."""

from collections.abc import Sequence

import numpy as np


def longest_first(expected: Sequence[float | int] | np.ndarray) -> list[int]:
  """Returns indices by decreasing expected length; ties keep their order, and groups together.

  With known lengths, longest-processing-time-first takes at most 4/3 of the optimal time (Graham
  1969, Bounds on multiprocessing timing anomalies), first come, first served at most twice. Writing
  prompts have a predictor: the upper end of the length that they ask for.

  >>> longest_first([100, 900, 900, 300])
  [1, 2, 3, 0]
  """
  return sorted(range(len(expected)), key=lambda i: -expected[i])
