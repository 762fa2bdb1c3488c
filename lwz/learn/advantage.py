"""From rewards to advantages: every trajectory against its siblings.

All functions take a validity mask: a sample whose judge failed neither counts in the statistics of
its group nor receives an advantage. A group without spread gets exactly zero. What the paper needs
is jitted: one compilation takes less time than those of its operations, one by one.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real, Shaped

from lwz import types

AnyArray = types.AnyArray
Reward = Real[AnyArray, 'P G']
Scores = Real[AnyArray, 'P G R']
Weights = Real[AnyArray, 'R']
Valid = Shaped[AnyArray, 'P G']  # bool, or 0 and 1
Advantage = Float[Array, 'P G']
Relative = Callable[..., Array]  # (reward_PG, valid_PG) -> advantage_PG


@jax.jit
def spread(reward_PG: Reward, valid_PG: Valid | None = None) -> Bool[Array, 'P']:
  """Whether a group holds at least two different valid rewards."""
  reward_PG, valid_PG = _arrays(reward_PG, valid_PG)
  low_P = jnp.min(jnp.where(valid_PG, reward_PG, jnp.inf), axis=1)
  high_P = jnp.max(jnp.where(valid_PG, reward_PG, -jnp.inf), axis=1)
  return high_P > low_P


@jax.jit
def group_relative(
  reward_PG: Reward, valid_PG: Valid | None = None, *, eps: Real[ArrayLike, ''] = 1e-4
) -> Advantage:
  """A_i = (r_i - mean(r)) / (std(r) + eps) over the valid samples of each group.

  The paper's group normalisation (arXiv 2506.18841, section 2; DeepSeekMath, arXiv 2402.03300,
  section 4.1.2), with the sample standard deviation (ddof 1), as TRL, verl and Tunix take it.

  >>> print(group_relative(jnp.array([[0.0, 1.0]])).round(3))  # mean 0.5, std 0.7071
  [[-0.707  0.707]]
  """
  reward_PG, valid_PG = _arrays(reward_PG, valid_PG)
  centred_PG, num_P1 = _centred(reward_PG, valid_PG)
  variance_P1 = jnp.sum(centred_PG**2, axis=1, keepdims=True) / jnp.maximum(num_P1 - 1.0, 1.0)
  return jnp.where(centred_PG == 0, 0.0, centred_PG / (jnp.sqrt(variance_P1) + eps))


@jax.jit
def centred(reward_PG: Reward, valid_PG: Valid | None = None) -> Advantage:
  """A_i = r_i - mean(r): without the standard deviation, which favours groups that nearly agree.

  Dr. GRPO (arXiv 2503.20783, section 3.2); its other half is `losses.budget_mean`.
  """
  return _centred(*_arrays(reward_PG, valid_PG))[0]


@jax.jit
def leave_one_out(reward_PG: Reward, valid_PG: Valid | None = None) -> Advantage:
  """A_i = r_i - mean of the others' rewards = n / (n - 1) (r_i - mean(r)), n of them valid.

  RLOO (arXiv 2402.14740, section 3.3): the baseline of a sample does not depend on it.

  >>> leave_one_out(jnp.array([[0.0, 0.0, 3.0]])).tolist()
  [[-1.5, -1.5, 3.0]]
  """
  centred_PG, num_P1 = _centred(*_arrays(reward_PG, valid_PG))
  return centred_PG * (num_P1 / jnp.maximum(num_P1 - 1.0, 1.0))


def components(scores_PGR: Scores, valid_PG: Valid | None = None) -> Float[Array, 'P G R']:
  """The advantages of every reward alone."""
  each = range(scores_PGR.shape[-1])
  return jnp.stack([group_relative(scores_PGR[:, :, r], valid_PG) for r in each], axis=-1)


@jax.jit
def balanced(
  scores_PGR: Scores, weights_R: Weights | None = None, valid_PG: Valid | None = None
) -> Advantage:
  """A = (A_length + A_writing + A_format) / 3: normalise each reward, then average (Eq. 5).

  With weights, sum_r w_r A_r / sum_r w_r. No reward outweighs another by its scale.
  """
  return _mean_over_rewards(components(scores_PGR, valid_PG), weights_R)


def batch_balanced(
  scores_PGR: Scores,
  weights_R: Weights | None = None,
  valid_PG: Valid | None = None,
  *,
  eps: Real[ArrayLike, ''] = 1e-4,
) -> Advantage:
  """A = (S - mean(S)) / (std(S) + eps) over the batch, S = sum_r w_r A_r with weights of 1.

  GDPO (arXiv 2601.05242): Eq. 5 of the paper with a second normalisation, so that the size of a
  step depends neither on how many rewards there are nor on how far they agree. The standard
  deviation is the sample's (ddof 1), of the valid samples of all groups.
  """
  advantage_PGR = components(scores_PGR, valid_PG)
  weights_R = jnp.ones(scores_PGR.shape[-1]) if weights_R is None else weights_R
  total_PG = jnp.sum(advantage_PGR * jnp.asarray(weights_R, jnp.float32)[None, None, :], axis=-1)
  valid_PG = jnp.ones_like(total_PG) if valid_PG is None else jnp.asarray(valid_PG, jnp.float32)
  num = jnp.sum(valid_PG)
  centred_PG = (total_PG - jnp.sum(total_PG) / jnp.maximum(num, 1.0)) * valid_PG
  std = jnp.sqrt(jnp.sum(centred_PG**2) / jnp.maximum(num - 1.0, 1.0))
  # Groups sum to zero, and so does the batch: its mean would add but rounding to a silent group.
  silent_P1 = jnp.all(total_PG == 0, axis=1)[:, None]
  return jnp.where(silent_P1, 0.0, centred_PG / (std + eps))


def mean_reward(
  scores_PGR: Scores,
  weights_R: Weights | None = None,
  valid_PG: Valid | None = None,
  *,
  relative: Relative = group_relative,
) -> Advantage:
  """The paper's ablation of Eq. 5: average the raw rewards, then compare once.

  `relative` says how: `group_relative` unless told, `centred`, `leave_one_out`.
  """
  return relative(_mean_over_rewards(scores_PGR, weights_R), valid_PG)


def choose_groups(spread_P: Sequence[bool] | np.ndarray, num_groups: int) -> list[int]:
  """Returns the groups to learn from.

  Dynamic sampling (DAPO, arXiv 2503.14476, Eq. 11): while some are missing, and not too often, the
  caller samples more. The first groups with spread are taken; in place of missing ones stand the
  first without, which add nothing to the gradient and keep the shapes.

  >>> choose_groups([False, True, True, False], num_groups=3)
  [1, 2, 0]
  """
  useful = np.flatnonzero(spread_P)[:num_groups].tolist()
  silent = np.flatnonzero(np.logical_not(spread_P)).tolist()
  missing = num_groups - len(useful)
  if missing > len(silent):
    raise ValueError(f'{len(spread_P)} groups were sampled, {num_groups} are to be chosen')
  return useful + silent[:missing]


def measure(
  scores_PGR: Scores, names: Sequence[str], valid_PG: Valid | None = None
) -> dict[str, float]:
  """Returns metrics of how informative the rewards of a step are.

  `advantage/NAME`: mean |A| of that reward alone over the valid samples, about 0.8 where every
  group has spread and 0 where none has. `zero_variance/NAME`: the share of groups in which that
  reward is the same for all samples; `zero_variance/all`: in which every reward is.
  """
  _, whole_PG = _arrays(scores_PGR[:, :, 0], valid_PG)
  spread_PR = np.stack(
    [np.asarray(spread(scores_PGR[:, :, r], valid_PG)) for r in range(len(names))], axis=-1
  )
  size_PGR = np.abs(np.asarray(components(scores_PGR, valid_PG)))
  num_valid = max(int(np.sum(whole_PG)), 1)
  out = {'zero_variance/all': float(np.mean(~spread_PR.any(axis=1)))}
  for r, name in enumerate(names):
    out[f'zero_variance/{name}'] = float(np.mean(~spread_PR[:, r]))
    out[f'advantage/{name}'] = float(size_PGR[:, :, r].sum() / num_valid)
  return out


def _arrays(reward_PG, valid_PG):
  """Returns float32 rewards and a bool mask, all True by default."""
  reward_PG = jnp.asarray(reward_PG, jnp.float32)
  if valid_PG is None:
    return reward_PG, jnp.ones_like(reward_PG, bool)
  return reward_PG, jnp.asarray(valid_PG, bool)


def _centred(reward_PG, valid_PG):
  """r - mean(r) of the valid samples, 0 elsewhere and in groups without spread; their number."""
  num_P1 = jnp.sum(valid_PG, axis=1, keepdims=True).astype(jnp.float32)
  safe_PG = jnp.where(valid_PG, reward_PG, 0.0)  # an invalid reward may be NaN
  mean_P1 = jnp.sum(safe_PG, axis=1, keepdims=True) / jnp.maximum(num_P1, 1.0)
  counts_PG = valid_PG & spread(safe_PG, valid_PG)[:, None]
  return jnp.where(counts_PG, safe_PG - mean_P1, 0.0), num_P1


@jax.jit
def _mean_over_rewards(values_PGR, weights_R):
  values_PGR = jnp.asarray(values_PGR, jnp.float32)
  if weights_R is None:
    return jnp.mean(values_PGR, axis=-1)
  weights_R = jnp.asarray(weights_R, jnp.float32)
  return jnp.sum(values_PGR * weights_R[None, None, :], axis=-1) / jnp.sum(weights_R)
