"""From several rewards to one, before they are normalised: [P, G, R] -> [P, G].

Eq. 5 of the paper and GDPO go the other way: they normalise each reward, then average. Here one
reward is composed, and an advantage compares that alone among siblings. Each takes (scores_PGR,
weights_R, valid_PG), rewards in [0, 1]; samples that are not valid count in no group, and are 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real, Shaped

from lwz import types

AnyArray = types.AnyArray
Scores = Real[AnyArray, 'P G R']
Weights = Real[AnyArray, 'R']
Valid = Shaped[AnyArray, 'P G']  # bool, or 0 and 1
Constraints = Bool[AnyArray, 'R']
Reward = Float[Array, 'P G']

MARGIN = 0.1  # of rewards in [0, 1]: how far below its group's mean the best violator lies


def weighted_sum(scores_PGR: Scores, weights_R: Weights, valid_PG: Valid) -> Reward:
  """r = sum_r w_r s_r: what most recipes of GRPO with several rewards do.

  >>> weighted_sum(jnp.array([[[0.5, 1.0]]]), jnp.array([2.0, 1.0]), jnp.array([[True]])).tolist()
  [[2.0]]
  """
  scores_PGR, valid_PG = _arrays(scores_PGR, valid_PG)
  return jnp.sum(scores_PGR * _row(weights_R), axis=-1)


def product(scores_PGR: Scores, weights_R: Weights, valid_PG: Valid) -> Reward:
  """r = prod_r s_r^w_r: no reward makes up for another, and one that is 0 makes the whole 0.

  GR3 (arXiv 2603.10535) multiplies the reward by a factor of length, since a sum rewards whoever
  wins more by one term than the other takes; Darling (arXiv 2509.02534) multiplies quality and
  diversity. Weights are exponents: 0 leaves a reward out. A reward below 0 counts as 0.

  >>> product(jnp.array([[[0.5, 1.0]]]), jnp.array([2.0, 1.0]), jnp.array([[True]])).tolist()
  [[0.25]]
  """
  scores_PGR, valid_PG = _arrays(scores_PGR, valid_PG)
  factors_PGR = jnp.power(jnp.maximum(scores_PGR, 0.0), _row(weights_R))
  return jnp.where(valid_PG, jnp.prod(factors_PGR, axis=-1), 0.0)


def veto(
  scores_PGR: Scores,
  weights_R: Weights,
  valid_PG: Valid,
  *,
  constraint_R: Constraints,
  satisfied: float,
) -> Reward:
  """r = q if every constraint is at least `satisfied`, else 0, with q the quality.

  q = sum w_r s_r / sum w_r over the rewards that are no constraints. The veto of Rubric Anchors
  (arXiv 2508.12790), whose critical rubrics nullify all others. A quality below 0 counts as 0.
  """
  scores_PGR, valid_PG = _arrays(scores_PGR, valid_PG)
  quality_PG = _quality(scores_PGR, weights_R, constraint_R)
  kept_PG = valid_PG & ~_violates(scores_PGR, constraint_R, satisfied)
  return jnp.where(kept_PG, jnp.maximum(quality_PG, 0.0), 0.0)


def violators(
  scores_PGR: Scores,
  weights_R: Weights,
  valid_PG: Valid,
  *,
  constraint_R: Constraints,
  satisfied: float,
  margin: float = MARGIN,
) -> Reward:
  """r = q, less d for those that violate a constraint: the least d that leaves none above average.

  RLMR (arXiv 2508.18642) adapts the weight of constraints to each group, so that whoever violates
  one has a negative advantage, however well it is written. With n valid samples of which v violate,
  q as in `veto`, and q* the best of the violators,

    d = (max(q* - mean(q), 0) + margin) / (1 - v / n)

  so that r - mean(r) <= -margin for all of them (the closed form is ours). A group in which all
  violate has no advantage: its rewards are 0.
  """
  scores_PGR, valid_PG = _arrays(scores_PGR, valid_PG)
  quality_PG = _quality(scores_PGR, weights_R, constraint_R)
  broken_PG = valid_PG & _violates(scores_PGR, constraint_R, satisfied)
  num_P1 = jnp.maximum(jnp.sum(valid_PG, axis=1, keepdims=True), 1).astype(jnp.float32)
  share_P1 = jnp.sum(broken_PG, axis=1, keepdims=True).astype(jnp.float32) / num_P1
  mean_P1 = jnp.sum(quality_PG, axis=1, keepdims=True) / num_P1  # 0 where not valid
  best_P1 = jnp.max(jnp.where(broken_PG, quality_PG, -jnp.inf), axis=1, keepdims=True)
  all_P1 = share_P1 == 1.0
  less_P1 = (jnp.maximum(best_P1 - mean_P1, 0.0) + margin) / jnp.where(all_P1, 1.0, 1.0 - share_P1)
  reward_PG = quality_PG - jnp.where(broken_PG, less_P1, 0.0)
  return jnp.where(valid_PG & ~all_P1, reward_PG, 0.0)


def _arrays(scores_PGR, valid_PG):
  """Returns float32 scores, 0 where not valid (they may be NaN there), and a bool mask."""
  valid_PG = jnp.asarray(valid_PG, bool)
  return jnp.where(valid_PG[:, :, None], jnp.asarray(scores_PGR, jnp.float32), 0.0), valid_PG


def _row(weights_R):
  return jnp.asarray(weights_R, jnp.float32)[None, None, :]


def _quality(scores_PGR, weights_R, constraint_R):
  weights_R = jnp.where(constraint_R, 0.0, jnp.asarray(weights_R, jnp.float32))
  return jnp.sum(scores_PGR * _row(weights_R), axis=-1) / jnp.sum(weights_R)


def _violates(scores_PGR, constraint_R, satisfied):
  return jnp.any((scores_PGR < satisfied) & jnp.asarray(constraint_R)[None, None, :], axis=-1)
