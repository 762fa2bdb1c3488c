"""The reward model's raw score, made into a reward in [0, 1].

A Bradley-Terry score has neither origin nor unit: only differences were trained. Its mean and
spread over held-out texts, measured when the reward model was trained, give it both.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scale:
  """Mean and standard deviation of a reward model's scores over held-out texts."""

  mean: float
  std: float

  def __post_init__(self):
    if not self.std > 0:
      raise ValueError(
        f'std={self.std}: scores without spread have no unit; measure them on more than one text'
      )


def squash(score_B: np.ndarray, scale: Scale) -> np.ndarray:
  """sigmoid((score - mean) / std): 0.5 for a typical held-out text, in (0, 1) up to rounding."""
  z_B = (np.asarray(score_B, np.float64) - scale.mean) / scale.std
  small_B = np.exp(-np.abs(z_B))  # which no score overflows
  return np.where(z_B < 0, small_B, 1.0) / (1.0 + small_B)
