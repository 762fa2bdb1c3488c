"""The writing reward: a reward model's raw score, mapped to [0, 1].

A Bradley-Terry score has neither origin nor unit: only differences were trained. Its mean and
spread over held-out texts, measured when the reward model was trained, give it both. Several reward
models may form an ensemble with a lower confidence bound, and each may be a server.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lwz.reward import protocols

# (request, answer) pairs -> rewards [B] in [0, 1], NaN where there is no judgement.
Scorer = Callable[[Sequence[tuple[str, str]]], np.ndarray]


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
  small_B = np.exp(-np.abs(z_B))  # cannot overflow
  return np.where(z_B < 0, small_B, 1.0) / (1.0 + small_B)


def lower_bound(rewards_MB: np.ndarray, caution: int | float) -> np.ndarray:
  """mean - caution * spread over M reward models, a lower confidence bound. [B]

  The spread is the sample standard deviation (0 for one model). Models disagree where the policy
  has left their training distribution, and there a single one is exploited (Coste et al., 2023,
  "Reward Model Ensembles Help Mitigate Overoptimization"). NaN where one failed.

    lower_bound([[0.6, 0.9], [0.6, 0.3]], 1.0) -> [0.6, 0.176]
  """
  rewards_MB = np.asarray(rewards_MB, np.float64)
  spread_B = rewards_MB.std(axis=0, ddof=1) if len(rewards_MB) > 1 else 0.0
  return np.clip(rewards_MB.mean(axis=0) - caution * spread_B, 0.0, 1.0)


def ensemble(scorers: Sequence[Scorer], caution: int | float) -> Scorer:
  """Returns one scorer of several: `lower_bound` of their rewards."""

  def score(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    return lower_bound(np.stack([scorer(pairs) for scorer in scorers]), caution)

  return score


def remote(
  post: Callable[[Mapping[str, Any], Callable[[Any], list[float | None]]], list[float | None]],
  *,
  faults: tuple[type[Exception], ...],
  scale: Scale | None = None,
  batch: int = 8,
  protocol: protocols.Protocol = protocols.PROTOCOLS[''],
  model: str = '',
) -> Scorer:
  """Returns a scorer that asks a server by JSON, `batch` pairs per call, see `protocols`.

  A score is a number, or null if the server has none; `scale` is of those that are not rewards in
  [0, 1]. `post` sends a payload and returns the scores that its second argument reads in the
  answer, which raises ValueError for one of another form; retries and timeouts are its own. Its
  `faults` are exceptions that mean no answer: the pairs of that call are NaN, and their samples are
  masked. Any other exception stops the run.

  The scorer raises ValueError if, without `scale`, a score lies outside [0, 1].
  """

  def score(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    rewards_B = np.full(len(pairs), np.nan)
    for start in range(0, len(pairs), batch):
      part = pairs[start : start + batch]
      read = functools.partial(protocols.read, num=len(part), protocol=protocol)
      try:
        found = post(protocol.body(part, model), read)
      except faults:
        continue
      rewards_B[start : start + len(part)] = _scaled(found, scale)
    return rewards_B

  return score


def _scaled(found: Sequence[float | None], scale: Scale | None) -> np.ndarray:
  """Returns a server's scores as rewards; NaN for none, and for one that is not finite."""
  scores_B = np.array([np.nan if x is None else x for x in found], np.float64)
  scores_B = np.where(np.isfinite(scores_B), scores_B, np.nan)
  if scale is not None:
    return squash(scores_B, scale)
  if np.any((scores_B < 0) | (scores_B > 1)):
    raise ValueError(
      'a reward server gave a score outside [0, 1]: name the mean and the spread of its scores as '
      'reward.mean and reward.std'
    )
  return scores_B
