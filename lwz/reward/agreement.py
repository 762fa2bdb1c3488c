"""Agreement of two rewards about the same samples, within each group: what GRPO would have seen."""

import numpy as np
from jaxtyping import Bool, Float, Real


def within_groups(
  first_PG: Real[np.ndarray, 'P G'],
  second_PG: Real[np.ndarray, 'P G'],
  valid_PG: Bool[np.ndarray, 'P G'],
) -> tuple[Float[np.ndarray, 'P'], Float[np.ndarray, 'P']]:
  """Returns Kendall's tau-b of each group's valid samples, and whether its best changes, 0 or 1.

  tau-b = (concordant - discordant pairs) / sqrt(pairs untied in one x pairs untied in the other):
  1 for one order, -1 for the reverse, about 0 for unrelated ones. The best changes if no sample is
  the best by both, ties included. NaN for a group without spread in either.
  """
  from scipy import stats  # here, as it takes a second

  tau_P, changed_P = np.full(len(valid_PG), np.nan), np.full(len(valid_PG), np.nan)
  for p, valid_G in enumerate(valid_PG):
    a, b = first_PG[p, valid_G], second_PG[p, valid_G]
    if len(a) and np.ptp(a) and np.ptp(b):
      tau_P[p] = stats.kendalltau(a, b).statistic
      changed_P[p] = not np.any((a == a.max()) & (b == b.max()))
  return tau_P, changed_P
