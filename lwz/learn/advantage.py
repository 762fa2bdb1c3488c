"""From rewards to advantages: every trajectory against its siblings.

All functions take a validity mask: a sample whose judge failed neither counts in the statistics of
its group nor receives an advantage. A group without spread teaches nothing and gets exactly zero.
"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real, Shaped

from lwz import types

AnyArray = types.AnyArray
Valid = Shaped[AnyArray, 'P G']  # bool, or 0 and 1


def spread(reward_PG: Real[AnyArray, 'P G'], valid_PG: Valid | None = None) -> Bool[Array, 'P']:
  """Whether a group holds at least two different valid rewards."""
  reward_PG, valid_PG = _arrays(reward_PG, valid_PG)
  low_P = jnp.min(jnp.where(valid_PG, reward_PG, jnp.inf), axis=1)
  high_P = jnp.max(jnp.where(valid_PG, reward_PG, -jnp.inf), axis=1)
  return high_P > low_P


def group_relative(
  reward_PG: Real[AnyArray, 'P G'],
  valid_PG: Valid | None = None,
  *,
  eps: Real[ArrayLike, ''] = 1e-4,
) -> Float[Array, 'P G']:
  """A_i = (r_i - mean(r)) / (std(r) + eps) over the valid samples of each group.

  The paper's group normalisation (arXiv 2506.18841, section 2; DeepSeekMath, arXiv 2402.03300,
  section 4.1.2), with the sample standard deviation (ddof 1), as TRL, verl and Tunix take it.

  >>> group_relative(jnp.array([[0.0, 1.0]]))  # mean 0.5, std 0.7071
  [[-0.7070, 0.7070]]
  """
  reward_PG, valid_PG = _arrays(reward_PG, valid_PG)
  num_P1 = jnp.sum(valid_PG, axis=1, keepdims=True).astype(jnp.float32)
  safe_PG = jnp.where(valid_PG, reward_PG, 0.0)  # an invalid reward may be NaN
  mean_P1 = jnp.sum(safe_PG, axis=1, keepdims=True) / jnp.maximum(num_P1, 1.0)
  centred_PG = jnp.where(valid_PG, safe_PG - mean_P1, 0.0)
  variance_P1 = jnp.sum(centred_PG**2, axis=1, keepdims=True) / jnp.maximum(num_P1 - 1.0, 1.0)
  advantage_PG = centred_PG / (jnp.sqrt(variance_P1) + eps)
  return jnp.where(valid_PG & spread(safe_PG, valid_PG)[:, None], advantage_PG, 0.0)


def balanced(
  scores_PGR: Real[AnyArray, 'P G R'],
  weights_R: Real[AnyArray, 'R'] | None = None,
  valid_PG: Valid | None = None,
) -> Float[Array, 'P G']:
  """A = (A_length + A_writing + A_format) / 3: normalise each reward, then average (Eq. 5).

  With weights, sum_r w_r A_r / sum_r w_r. No reward outweighs another by its scale.
  """
  num_rewards = scores_PGR.shape[-1]
  advantages = [group_relative(scores_PGR[:, :, r], valid_PG) for r in range(num_rewards)]
  return _mean_over_rewards(jnp.stack(advantages, axis=-1), weights_R)


def mean_reward(
  scores_PGR: Real[AnyArray, 'P G R'],
  weights_R: Real[AnyArray, 'R'] | None = None,
  valid_PG: Valid | None = None,
) -> Float[Array, 'P G']:
  """The paper's ablation of Eq. 5: average the raw rewards, then normalise once."""
  return group_relative(_mean_over_rewards(scores_PGR, weights_R), valid_PG)


def _arrays(reward_PG, valid_PG):
  """float32 and bool, all valid where nothing else is said."""
  reward_PG = jnp.asarray(reward_PG, jnp.float32)
  if valid_PG is None:
    return reward_PG, jnp.ones_like(reward_PG, bool)
  return reward_PG, jnp.asarray(valid_PG, bool)


def _mean_over_rewards(values_PGR, weights_R):
  values_PGR = jnp.asarray(values_PGR, jnp.float32)
  if weights_R is None:
    return jnp.mean(values_PGR, axis=-1)
  weights_R = jnp.asarray(weights_R, jnp.float32)
  return jnp.sum(values_PGR * weights_R[None, None, :], axis=-1) / jnp.sum(weights_R)
