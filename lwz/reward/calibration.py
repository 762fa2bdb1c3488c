"""Quality of a reward model on held-out pairs: accuracy, calibration, bias toward length.

A margin is r(chosen) - r(rejected); under Bradley-Terry its sigmoid is the probability that the
chosen text is the better one.
"""

from collections.abc import Sequence

import numpy as np

SAME = 0.1  # of the longer text: a smaller difference of length is none


def by_group(margin_B: np.ndarray, groups: Sequence[str]) -> list[tuple[str, int, float]]:
  """Returns (group, num_pairs, accuracy): 'all' first, then each group. A tie is half right."""
  right_B = np.where(margin_B == 0, 0.5, margin_B > 0)
  names = np.array(groups)
  table = [('all', len(right_B), float(right_B.mean()))]
  for group in sorted(set(groups)):
    here = names == group
    table.append((group, int(here.sum()), float(right_B[here].mean())))
  return table


def length_groups(chosen_B: np.ndarray, rejected_B: np.ndarray) -> list[str]:
  """Compares lengths: the better one 'shorter', 'as long' (within SAME) or 'longer'."""
  difference_B = (chosen_B - rejected_B) / np.maximum(np.maximum(chosen_B, rejected_B), 1)
  return [
    'better one as long' if abs(d) <= SAME else f'better one {"longer" if d > 0 else "shorter"}'
    for d in difference_B
  ]


def calibration_error(margin_B: np.ndarray, num_bins: int = 10) -> float:
  """Returns the expected calibration error (Guo et al., 2017) of sigmoid(|margin|) as a confidence.

  sum over bins of n / N * |accuracy - mean confidence|, bins of equal width over [0.5, 1].
  0 if the model is right as often as its confidence; both over- and underconfidence increase it.
  """
  confidence_B = 1.0 / (1.0 + np.exp(-np.minimum(np.abs(margin_B), 700.0)))
  right_B = np.where(margin_B == 0, 0.5, margin_B > 0)
  bin_B = np.minimum(((confidence_B - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
  error = 0.0
  for k in np.unique(bin_B):
    here = bin_B == k
    error += here.mean() * abs(right_B[here].mean() - confidence_B[here].mean())
  return float(error)


def length_bias(scores_B: np.ndarray, words_B: np.ndarray) -> float:
  """Returns Pearson's correlation of score and length; 0 if either has no spread."""
  if np.ptp(scores_B) < 1e-12 or np.ptp(words_B) < 1e-12:
    return 0.0
  return float(np.corrcoef(scores_B, words_B)[0, 1])
