"""The losses, each a page of a paper. They take log-probabilities, not models or configs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real, Shaped

from lwz import types

# What comes in may be of NumPy or of JAX, and of any precision; sums and losses are float32.
AnyArray = types.AnyArray
Mask = Shaped[AnyArray, 'B T']  # bool, or weights, nearly always 0 and 1
Scalar = Real[ArrayLike, '']
Aggregate = Callable[[AnyArray, AnyArray], Array]


def masked_mean(values_BT: Float[AnyArray, 'B T'], mask_BT: Mask) -> Float[Array, '']:
  """Mean of the values where the mask is set; 0 where it is set nowhere."""
  mask_BT = jnp.asarray(mask_BT, jnp.float32)
  return _masked_sum(values_BT, mask_BT) / jnp.maximum(jnp.sum(mask_BT), 1.0)


def token_mean(values_BT: Float[AnyArray, 'B T'], mask_BT: Mask) -> Float[Array, '']:
  """Every token of the batch weighs the same (DAPO, arXiv 2503.14476, Eq. 8)."""
  return masked_mean(values_BT, mask_BT)


def sequence_mean(values_BT: Float[AnyArray, 'B T'], mask_BT: Mask) -> Float[Array, '']:
  """Every sequence weighs the same: the mean of its own tokens (arXiv 2402.03300, Eq. 3)."""
  return sequence_budget_mean(values_BT.shape[0])(values_BT, mask_BT)


def sequence_budget_mean(num_sequences: Scalar) -> Aggregate:
  """Sum over sequences of the mean of each one's own tokens, divided by a constant.

  With `num_sequences` the count of the whole batch it is `sequence_mean` split over micro-batches.
  """
  num_sequences = jnp.asarray(num_sequences, jnp.float32)

  def aggregate(values_BT, mask_BT):
    lengths_B = jnp.sum(jnp.asarray(mask_BT, jnp.float32), axis=1)
    totals_B = _masked_sum(values_BT, mask_BT, axis=1)
    return jnp.sum(totals_B / jnp.maximum(lengths_B, 1.0)) / num_sequences

  return aggregate


def budget_mean(num_tokens: Scalar) -> Aggregate:
  """Sum over tokens, divided by a constant (Dr. GRPO, arXiv 2503.20783, section 3.2).

  With `num_tokens` the token count of the whole batch it is `token_mean` split over micro-batches:
  sums add up, and the division happens by one global number.
  """
  num_tokens = jnp.asarray(num_tokens, jnp.float32)
  return lambda values_BT, mask_BT: _masked_sum(values_BT, mask_BT) / num_tokens


def _masked_sum(values_BT, mask_BT, axis=None):
  values_BT, mask_BT = jnp.asarray(values_BT, jnp.float32), jnp.asarray(mask_BT, jnp.float32)
  return jnp.sum(jnp.where(mask_BT > 0, values_BT, 0.0) * mask_BT, axis=axis)


def next_token(
  logp_BT: Float[AnyArray, 'B T'], mask_BT: Mask, *, aggregate: Aggregate = token_mean
) -> Float[Array, '']:
  """L = - mean of log p(token), the language-modelling loss, in nats per token."""
  return -aggregate(logp_BT, mask_BT)


def bradley_terry(
  chosen_B: Float[AnyArray, 'B'], rejected_B: Float[AnyArray, 'B']
) -> Float[Array, '']:
  """L = - mean log sigmoid(r(x, y_w) - r(x, y_l)) (Eq. 4 of the paper; Bradley and Terry, 1952)."""
  margin_B = jnp.asarray(chosen_B, jnp.float32) - jnp.asarray(rejected_B, jnp.float32)
  return -jnp.mean(jax.nn.log_sigmoid(margin_B))


def kl_k3(
  logp_BT: Float[AnyArray, 'B T'], ref_logp_BT: Float[AnyArray, 'B T']
) -> Float[Array, 'B T']:
  """Per-token estimate of KL(pi || ref) >= 0: r - log r - 1 with r = ref / pi.

  The k3 estimator (http://joschu.net/blog/kl-approx.html; arXiv 2402.03300, Eq. 4). Used only
  where beta > 0.
  """
  log_ratio_BT = jnp.asarray(ref_logp_BT, jnp.float32) - jnp.asarray(logp_BT, jnp.float32)
  return jnp.expm1(log_ratio_BT) - log_ratio_BT  # near 0, exp would leave only rounding errors


def grpo(
  logp_BT: Float[AnyArray, 'B T'],
  old_logp_BT: Float[AnyArray, 'B T'],
  advantage_B: Real[AnyArray, 'B'],
  mask_BT: Mask,
  *,
  clip_low: Scalar,
  clip_high: Scalar,
  aggregate: Aggregate,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """L = - aggregate_t min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A).

  rho_t = pi(o_t | q, o_<t) / pi_old(o_t | q, o_<t). The paper writes the ratio of a whole sequence
  (Eq. 1); what runs, there as elsewhere, is the ratio of each token (arXiv 2402.03300, Eq. 3), with
  no KL term. clip_low = clip_high = 0.2 is the paper's; clip_high > clip_low is DAPO's clip-higher.

  Args:
    logp_BT: log-probabilities under the policy that is trained.
    old_logp_BT: those recorded when the tokens were sampled; a constant.
    advantage_B: one advantage per trajectory, a constant.
    mask_BT: which tokens the policy wrote.
    clip_low, clip_high: epsilon below and above 1.
    aggregate: `token_mean`, `sequence_mean` or `budget_mean(num_tokens)`.

  Returns:
    (loss, metrics). Metrics are token means: `ratio`; `clip_low` and `clip_high`, the share of
    tokens whose gradient the clip removed, by side; `kl_sampler`, the k3 estimate of
    KL(pi_old || pi).
  """
  logp_BT = jnp.asarray(logp_BT, jnp.float32)
  old_logp_BT = jax.lax.stop_gradient(jnp.asarray(old_logp_BT, jnp.float32))
  advantage_B1 = jax.lax.stop_gradient(jnp.asarray(advantage_B, jnp.float32))[:, None]
  # Padding may hold any log-probability: its ratio is fixed to 1 before exp can overflow.
  log_ratio_BT = jnp.where(jnp.asarray(mask_BT, bool), logp_BT - old_logp_BT, 0.0)
  ratio_BT = jnp.exp(log_ratio_BT)
  # Where the minimum is the clipped term. Written out, a ratio that lies on an edge (any ratio of 1
  # where a clip is 0) keeps its whole gradient; that of jnp.minimum and jnp.clip would be shared.
  too_low_BT = (ratio_BT < 1.0 - clip_low) & (advantage_B1 < 0)
  too_high_BT = (ratio_BT > 1.0 + clip_high) & (advantage_B1 > 0)
  kept_BT = jnp.where(too_low_BT, 1.0 - clip_low, jnp.where(too_high_BT, 1.0 + clip_high, ratio_BT))
  loss = -aggregate(kept_BT * advantage_B1, mask_BT)

  metrics = {
    'ratio': masked_mean(ratio_BT, mask_BT),
    'clip_low': masked_mean(too_low_BT.astype(jnp.float32), mask_BT),
    'clip_high': masked_mean(too_high_BT.astype(jnp.float32), mask_BT),
    'kl_sampler': masked_mean(jnp.expm1(log_ratio_BT) - log_ratio_BT, mask_BT),
  }
  return loss, jax.lax.stop_gradient(metrics)
