"""Agreement of two judges about the same answers."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from lwz.evals import ratings

_RESAMPLES = 1_000


class Agreement(NamedTuple):
  """How two judges' numbers for the same items agree; the interval of rho is of 95 %."""

  items: int
  queries: int
  rho: float  # Spearman's
  low: float
  high: float
  alpha: float  # Krippendorff's, of interval data
  same: float  # share of items with equal numbers
  difference: float  # mean of the second minus the first


def of(
  first_N: Sequence[float], second_N: Sequence[float], queries_N: Sequence[Hashable], seed: int
) -> Agreement:
  """Returns the agreement about N items; the interval is from a bootstrap over their queries.

  rho is the correlation of ranks, ties with their mean rank; a sample of the bootstrap keeps these.
  alpha = 1 - D_o / D_e, the squared difference of the two numbers of an item over that of any two
  numbers (Krippendorff, 2004, chapter 11): 1 for equal numbers, about 0 for unrelated ones, and
  lower than rho where one judge is milder. NaN where a judge says the same of all.
  """
  values_2N = np.array([first_N, second_N], float)
  names, place_N = np.unique(np.array([str(q) for q in queries_N]), return_inverse=True)
  ranks_2N = stats.rankdata(values_2N, axis=1) if values_2N.size else values_2N
  x_N, y_N = ranks_2N - ranks_2N.mean(axis=1, keepdims=True) if values_2N.size else ranks_2N
  moments = np.array([np.ones_like(x_N), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N])
  by_query_6Q = np.array([np.bincount(place_N, m, len(names)) for m in moments])
  rho, low, high = float(_correlation(by_query_6Q.sum(axis=1))), np.nan, np.nan
  if len(names) > 1:
    samples = ratings.resample(len(names), _RESAMPLES, seed)
    low, high = map(float, ratings.interval(_correlation(by_query_6Q[:, samples].sum(axis=2))))
  alpha = np.nan
  if expected := 2 * np.var(values_2N, ddof=1) if values_2N.size > 1 else 0.0:
    alpha = float(1 - np.mean((values_2N[1] - values_2N[0]) ** 2) / expected)
  same, difference = np.nan, np.nan
  if values_2N.size:
    same = float(np.mean(values_2N[0] == values_2N[1]))
    difference = float(np.mean(values_2N[1] - values_2N[0]))
  return Agreement(values_2N.shape[1], len(names), rho, low, high, alpha, same, difference)


def _correlation(moments_6: np.ndarray) -> np.ndarray:
  """Returns Pearson's correlation from the sums of 1, x, y, xx, yy and xy: [6, ...] -> [...]."""
  num, x, y, xx, yy, xy = moments_6
  spread = (num * xx - x * x) * (num * yy - y * y)
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.where(spread > 1e-9 * num**4, (num * xy - x * y) / np.sqrt(spread), np.nan)
