"""Losses, as functions of log-probabilities: without models, without configs."""

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


token_mean = masked_mean  # every token weighs the same (DAPO, arXiv 2503.14476, Eq. 8)


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
  chosen_B: Float[AnyArray, 'B'],
  rejected_B: Float[AnyArray, 'B'],
  margin_B: Real[AnyArray, 'B'] | None = None,
  *,
  centring: Scalar = 0.0,
  aggregate: Callable[[Array], Array] = jnp.mean,
) -> Float[Array, '']:
  """L = - mean log sigmoid(r(x, y_w) - r(x, y_l) - m) + c mean (r(x, y_w) + r(x, y_l))^2.

  Eq. 4 of the paper (Bradley and Terry, 1952). The margin m, 0 unless given, asks more of pairs
  that differ more (Llama 2, arXiv 2307.09288, Eq. 2); c > 0 pulls rewards, of which the rest sees
  differences only, to zero mean (arXiv 2312.09244, Eq. 2, with c = 0.01). `aggregate` of the values
  [B] of all pairs is their mean, or the share of some of them in that of a larger batch.
  """
  chosen_B, rejected_B = jnp.asarray(chosen_B, jnp.float32), jnp.asarray(rejected_B, jnp.float32)
  difference_B = chosen_B - rejected_B
  if margin_B is not None:
    difference_B = difference_B - jnp.asarray(margin_B, jnp.float32)
  centre = aggregate(jnp.square(chosen_B + rejected_B))
  return -aggregate(jax.nn.log_sigmoid(difference_B)) + jnp.asarray(centring, jnp.float32) * centre


def kl_k3(
  logp_BT: Float[AnyArray, 'B T'], ref_logp_BT: Float[AnyArray, 'B T']
) -> Float[Array, 'B T']:
  """Per-token estimate of KL(pi || ref) >= 0: r - log r - 1 with r = ref / pi.

  The k3 estimator (http://joschu.net/blog/kl-approx.html; arXiv 2402.03300, Eq. 4). Used only
  where beta > 0, see `kl_reference`.
  """
  log_ratio_BT = jnp.asarray(ref_logp_BT, jnp.float32) - jnp.asarray(logp_BT, jnp.float32)
  return jnp.expm1(log_ratio_BT) - log_ratio_BT  # near 0, exp would leave only rounding errors


def kl_reference(
  logp_BT: Float[AnyArray, 'B T'],
  ref_logp_BT: Float[AnyArray, 'B T'],
  mask_BT: Mask,
  *,
  aggregate: Aggregate,
) -> Float[Array, '']:
  """aggregate_t of `kl_k3`: beta times it is added to a policy loss (arXiv 2402.03300, Eq. 3)."""
  own_BT, ref_BT = (
    jnp.where(jnp.asarray(mask_BT, bool), jnp.asarray(x, jnp.float32), 0.0)
    for x in (logp_BT, ref_logp_BT)
  )
  return aggregate(kl_k3(own_BT, ref_BT), mask_BT)


def truncated_weight(
  old_logp_BT: Float[AnyArray, 'B T'], sampler_logp_BT: Float[AnyArray, 'B T'], *, cap: Scalar
) -> Float[Array, 'B T']:
  """w_t = min(pi_old(o_t) / pi_sampler(o_t), cap), a constant.

  Corrects for a sampler whose numbers are not the trainer's (truncated importance sampling, as in
  IMPALA, arXiv 1802.01561, section 4.1). `old_logp_BT` is then the trainer's own, computed before
  the first update. Beyond the mask a weight may be anything: see `weighted`.
  """
  log_ratio_BT = jnp.asarray(old_logp_BT, jnp.float32) - jnp.asarray(sampler_logp_BT, jnp.float32)
  log_cap = jnp.log(jnp.asarray(cap, jnp.float32))
  return jax.lax.stop_gradient(jnp.exp(jnp.minimum(log_ratio_BT, log_cap)))


def weighted(aggregate: Aggregate, weight_BT: Float[AnyArray, 'B T']) -> Aggregate:
  """`aggregate` of values times weights: turns any loss here into its importance-weighted form.

  >>> weighted(token_mean, jnp.array([[1.0, 3.0]]))(jnp.ones((1, 2)), jnp.ones((1, 2))).item()
  2.0
  """
  weight_BT = jnp.asarray(weight_BT, jnp.float32)
  return lambda values_BT, mask_BT: aggregate(
    values_BT * jnp.where(jnp.asarray(mask_BT, bool), weight_BT, 0.0), mask_BT
  )


def grpo(
  logp_BT: Float[AnyArray, 'B T'],
  old_logp_BT: Float[AnyArray, 'B T'],
  advantage_B: Real[AnyArray, 'B'] | Real[AnyArray, 'B T'],
  mask_BT: Mask,
  *,
  clip_low: Scalar,
  clip_high: Scalar,
  aggregate: Aggregate,
  ratio_cap: Scalar = jnp.inf,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """L = - aggregate_t min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A).

  rho_t = pi(o_t | q, o_<t) / pi_old(o_t | q, o_<t). The paper writes the ratio of a whole sequence
  (Eq. 1); what runs, there as elsewhere, is the ratio of each token (arXiv 2402.03300, Eq. 3), with
  no KL term. clip_low = clip_high = 0.2 is the paper's; clip_high > clip_low is DAPO's clip-higher.

  Args:
    logp_BT: log-probabilities under the policy that is trained.
    old_logp_BT: those recorded when the tokens were sampled; a constant.
    advantage_B: one advantage per trajectory, or one per token, a constant.
    mask_BT: which tokens the policy wrote.
    clip_low, clip_high: epsilon below and above 1.
    aggregate: `token_mean`, `sequence_mean` or `budget_mean(num_tokens)`.
    ratio_cap: dual clip (arXiv 1912.09729, Eq. 5): for A < 0 the gain is at least ratio_cap * A, so
      that no token that became likely is punished without bound. Above 1 + clip_high; 3 is common.

  Returns:
    (loss, metrics). Metrics are token means: `ratio`; `clip_frac_low` and `clip_frac_high`, the
    share of tokens whose gradient the clip removed, where the advantage is negative and where it is
    positive; `kl_sampler`, the k3 estimate of KL(pi_old || pi).
  """
  log_ratio_BT, advantage_B1 = _log_ratio(logp_BT, old_logp_BT, advantage_B, mask_BT)
  gain_BT, clips = _clipped(log_ratio_BT, advantage_B1, clip_low, clip_high, ratio_cap)
  return -aggregate(gain_BT, mask_BT), _metrics(log_ratio_BT, clips, mask_BT)


def gspo(
  logp_BT: Float[AnyArray, 'B T'],
  old_logp_BT: Float[AnyArray, 'B T'],
  advantage_B: Real[AnyArray, 'B'],
  mask_BT: Mask,
  *,
  clip_low: Scalar,
  clip_high: Scalar,
  aggregate: Aggregate,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """L = - aggregate min(s A, clip(s, 1 - clip_low, 1 + clip_high) A), s = (pi / pi_old)^(1 / |o|).

  Group sequence policy optimisation (arXiv 2507.18071, Eq. 5 and 7): one ratio per sequence, the
  geometric mean of those of its tokens, for each of which it then stands. The paper averages over
  sequences (`sequence_mean`) and clips at 3e-4 and 4e-4. Arguments and metrics are those of `grpo`.
  """
  log_ratio_BT, advantage_B1 = _log_ratio(logp_BT, old_logp_BT, advantage_B, mask_BT)
  weight_BT = jnp.asarray(mask_BT, jnp.float32)
  length_B1 = jnp.maximum(jnp.sum(weight_BT, axis=1, keepdims=True), 1.0)
  log_s_B1 = jnp.sum(log_ratio_BT * weight_BT, axis=1, keepdims=True) / length_B1
  log_s_BT = jnp.broadcast_to(log_s_B1, log_ratio_BT.shape)
  gain_BT, clips = _clipped(log_s_BT, advantage_B1, clip_low, clip_high)
  return -aggregate(gain_BT, mask_BT), _metrics(log_ratio_BT, clips, mask_BT)


def cispo(
  logp_BT: Float[AnyArray, 'B T'],
  old_logp_BT: Float[AnyArray, 'B T'],
  advantage_B: Real[AnyArray, 'B'],
  mask_BT: Mask,
  *,
  clip_low: Scalar,
  clip_high: Scalar,
  aggregate: Aggregate,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """L = - aggregate_t sg(clip(rho_t, 1 - clip_low, 1 + clip_high)) A log pi(o_t | q, o_<t).

  REINFORCE with a clipped importance weight, a constant (CISPO of MiniMax-M1, arXiv 2506.13585,
  Eq. 4 and 5): the clip bounds the weight of a token and never removes its gradient. The paper
  bounds it above only, clip_low = 1. Arguments are those of `grpo`; `clip_frac_low` and
  `clip_frac_high` are the shares of tokens with a bounded weight.
  """
  log_ratio_BT, advantage_B1 = _log_ratio(logp_BT, old_logp_BT, advantage_B, mask_BT)
  ratio_BT = jnp.exp(log_ratio_BT)
  weight_BT = jax.lax.stop_gradient(jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high))
  clips = ratio_BT < 1.0 - clip_low, ratio_BT > 1.0 + clip_high
  own_BT = jnp.where(jnp.asarray(mask_BT, bool), jnp.asarray(logp_BT, jnp.float32), 0.0)
  gain_BT = weight_BT * advantage_B1 * own_BT
  return -aggregate(gain_BT, mask_BT), _metrics(log_ratio_BT, clips, mask_BT)


def check(name: str, *, clip_low: float, clip_high: float, ratio_cap: float) -> str:
  """Returns a warning, '' for none, about numbers that are meant for another loss than `name`.

  Raises ValueError if `ratio_cap` is neither 0 nor, in `grpo` alone, above 1 + clip_high.
  """
  if ratio_cap and name != 'grpo':
    raise ValueError(f'ratio_cap={ratio_cap} is of dual clip, which only grpo has: set it to 0')
  if 0 < ratio_cap <= 1 + clip_high:
    raise ValueError(f'ratio_cap={ratio_cap} must be above 1 + clip_high = {1 + clip_high:g}; or 0')
  if name == 'gspo' and max(clip_low, clip_high) > 0.01:
    return (
      f'clip_low={clip_low:g} and clip_high={clip_high:g} are too large for gspo: the ratio of a '
      'sequence hardly moves and never reaches them; its paper has 3e-4 and 4e-4'
    )
  if name == 'cispo' and clip_low < 1:
    return f'clip_low={clip_low:g} should be 1: cispo bounds weights only above'
  return ''


def _log_ratio(logp_BT, old_logp_BT, advantage_B, mask_BT):
  """log(pi / pi_old) and the advantages [B, 1] or [B, T], in float32; only pi is differentiated.

  Padding may hold any log-probability: its ratio is fixed to 1 before exp can overflow.
  """
  old_logp_BT = jax.lax.stop_gradient(jnp.asarray(old_logp_BT, jnp.float32))
  log_ratio_BT = jnp.asarray(logp_BT, jnp.float32) - old_logp_BT
  advantage_B1 = jax.lax.stop_gradient(jnp.asarray(advantage_B, jnp.float32))
  advantage_B1 = advantage_B1.reshape(len(log_ratio_BT), -1)
  return jnp.where(jnp.asarray(mask_BT, bool), log_ratio_BT, 0.0), advantage_B1


def _clipped(log_ratio_BT, advantage_B1, clip_low, clip_high, ratio_cap=jnp.inf):
  """min(rho A, clip(rho) A), for A < 0 at least ratio_cap A, and where it does not follow rho.

  Written out, a ratio that lies on an edge (any ratio of 1 where a clip is 0) keeps its whole
  gradient; that of jnp.minimum and jnp.clip would be shared. A clipped ratio is taken out before
  exp, whose gradient there would be 0 times what may be infinite.
  """
  low, high, cap = (
    jnp.asarray(x, jnp.float32) for x in (1.0 - clip_low, 1.0 + clip_high, ratio_cap)
  )
  ratio_BT = jnp.exp(jax.lax.stop_gradient(log_ratio_BT))
  too_low_BT = (ratio_BT < low) & (advantage_B1 < 0)
  capped_BT = (ratio_BT > cap) & (advantage_B1 < 0)
  too_high_BT = (ratio_BT > high) & (advantage_B1 > 0)
  edge_BT = jnp.where(too_low_BT, low, jnp.where(capped_BT, cap, high))
  fixed_BT = too_low_BT | capped_BT | too_high_BT
  free_BT = jnp.exp(jnp.where(fixed_BT | (advantage_B1 == 0), 0.0, log_ratio_BT))
  return jnp.where(fixed_BT, edge_BT, free_BT) * advantage_B1, (too_low_BT | capped_BT, too_high_BT)


def _metrics(log_ratio_BT, clips, mask_BT):
  low_BT, high_BT = clips
  metrics = {
    'ratio': masked_mean(jnp.exp(log_ratio_BT), mask_BT),
    'clip_frac_low': masked_mean(low_BT.astype(jnp.float32), mask_BT),
    'clip_frac_high': masked_mean(high_BT.astype(jnp.float32), mask_BT),
    'kl_sampler': masked_mean(jnp.expm1(log_ratio_BT) - log_ratio_BT, mask_BT),
  }
  return jax.lax.stop_gradient(metrics)
