"""Sampling: from logits to a token and its log-probability, with counted randomness.

A sampling key is a function of (seed, step, prompt, sample, position) alone: it depends on no slot,
batch size, order or restart.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32


def trajectory_keys(
  seed: int, step: Int[Array, ''] | int, prompts_B: Int[Array, 'B'], samples_B: Int[Array, 'B']
) -> UInt32[Array, 'B 2']:
  """Returns one raw key per trajectory, from the counters that identify it.

  These are the run's seed, the training step, the prompt within the step, the sample in its group.
  """
  return _keys(jax.random.key(seed), step, prompts_B, samples_B)


@jax.jit
def _keys(run_key, step, prompts_B, samples_B):
  step_key = jax.random.fold_in(run_key, step)

  def key(prompt, sample):
    return jax.random.key_data(jax.random.fold_in(jax.random.fold_in(step_key, prompt), sample))

  return jax.vmap(key)(prompts_B, samples_B)


MIN_TEMPERATURE = 1e-3  # of those above 0
_COLD = 1e-30  # at which no difference of two logits in float32 leaves the smaller one a weight


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Sampling parameters, and the tokens that end a trajectory.

  A temperature above 0 is at least `MIN_TEMPERATURE`: smaller ones mean 0, and overflow float32.
  `top_p` and `top_k` keep ties with the last token.
  """

  temperature: float = 1.0  # divisor of the logits; 0 takes the most likely token
  top_p: float = 1.0  # keep the fewest most likely tokens with this total probability; 1 keeps all
  top_k: int = 0  # keep this many most likely tokens; 0 keeps all
  stop_ids: tuple[int, ...] = ()  # they are kept, with their log-probability
  num_ids: int = 0  # of the tokenizer: padded embeddings are never sampled; 0: there are none

  def __post_init__(self):
    if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature < math.inf:
      raise ValueError(
        f'temperature={self.temperature}: choose 0, the most likely token, or at least '
        f'{MIN_TEMPERATURE}'
      )
    if not 0 < self.top_p <= 1:
      raise ValueError(f'top_p={self.top_p} is no share: above 0, and at most 1')
    if self.top_k < 0:
      raise ValueError(f'top_k={self.top_k} must not be negative; 0 keeps all tokens')


def uniforms(keys_B2: UInt32[Array, 'B 2'], position_B: Int[Array, 'B']) -> Float[Array, 'B 2']:
  """Returns the two uniform numbers of each row's key at one of its trajectory's positions."""

  def both(key_2, position):
    key = jax.random.fold_in(jax.random.wrap_key_data(key_2), position)
    return jax.random.uniform(key, (2,))

  return jax.vmap(both)(keys_B2, position_B)


@jax.named_scope('sampler')
def sample_from(
  uniform_B2: Float[Array, 'B 2'],
  logits_BV: Float[Array, 'B V'],
  temperature: float,
  *,
  top_p: float = 1.0,
  top_k: int = 0,
  greedy_B: Bool[Array, 'B'] | None = None,
) -> tuple[Int[Array, 'B'], Float[Array, 'B']]:
  """Samples from softmax(logits / temperature), or from its most likely part, see `Sampling`.

  Returns (ids_B, logp_B); the log-probability is that of the distribution sampled from, so at
  temperature 0 it is 0. `uniforms` are those of a position, computed for all steps of a loop.

  Inverts the cumulative distribution, with two uniform numbers per row instead of one per token:
  one selects one of about sqrt(V) ranges of the vocabulary, the other a token within it. A token
  whose logit is -inf is never sampled. Where the largest logit is not finite, logp is NaN. Rows of
  `greedy_B` take the most likely token.
  """
  if temperature == 0:
    ids_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    is_finite_B = jnp.isfinite(jnp.max(logits_BV, axis=-1))  # false of NaN anywhere
    return ids_B, jnp.where(is_finite_B, 0.0, jnp.nan).astype(jnp.float32)
  logits_BV = logits_BV.astype(jnp.float32)
  below_BV = logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)
  if greedy_B is None:
    below_BV = below_BV / temperature
  else:  # so cold that other tokens have no weight; the least number takes the first of equal ones
    below_BV = below_BV / jnp.where(greedy_B, _COLD, temperature)[:, None]
    uniform_B2 = jnp.where(greedy_B[:, None], 0.0, uniform_B2)
  weights_BV = jnp.exp(below_BV)
  if top_k:
    weights_BV = _most_likely(weights_BV, jnp.ones_like(weights_BV), float(top_k))
  if top_p < 1:
    weights_BV = _most_likely(weights_BV, weights_BV, top_p * jnp.sum(weights_BV, -1))
  B, V = weights_BV.shape
  width = 2 ** round(math.log2(V) / 2)
  weights_BnW = jnp.pad(weights_BV, ((0, 0), (0, -V % width))).reshape(B, -1, width)
  sums_Bn = jnp.sum(weights_BnW, axis=-1)
  range_B = _invert(sums_Bn, uniform_B2[:, 1])
  weights_BW = jnp.take_along_axis(weights_BnW, range_B[:, None, None], axis=1)[:, 0]
  ids_B = jnp.minimum(range_B * width + _invert(weights_BW, uniform_B2[:, 0]), V - 1)
  chosen_B = jnp.take_along_axis(below_BV, ids_B[:, None], axis=-1)[:, 0]
  return ids_B, chosen_B - jnp.log(jnp.sum(sums_Bn, axis=-1))


def _invert(weights_BN, uniform_B):
  """The index at which the cumulative weight first exceeds `uniform` of the total."""
  below_BN = jnp.cumsum(weights_BN, axis=-1)
  total_B = below_BN[:, -1]
  target_B = jnp.minimum(uniform_B * total_B, jnp.nextafter(total_B, jnp.zeros_like(total_B)))
  return jnp.sum(below_BN <= target_B[:, None], axis=-1).astype(jnp.int32)


def _most_likely(weights_BV, measure_BV, wanted_B):
  """`weights_BV`, but 0 outside of the fewest largest whose measures add up to `wanted_B`.

  The threshold is found by bisection over the bits of a float, which are ordered as the floats are:
  31 sums over the vocabulary, and no sort.
  """
  bits_BV = jax.lax.bitcast_convert_type(weights_BV, jnp.int32)

  def bisect(_, bounds):
    low_B, high_B = bounds  # at `low` there is enough, at `high` there is not
    middle_B = low_B + (high_B - low_B) // 2
    enough_B = jnp.sum(jnp.where(bits_BV >= middle_B[:, None], measure_BV, 0.0), -1) >= wanted_B
    return jnp.where(enough_B, middle_B, low_B), jnp.where(enough_B, high_B, middle_B)

  low_B = jnp.zeros(weights_BV.shape[0], jnp.int32)
  high_B = jnp.full_like(low_B, jax.lax.bitcast_convert_type(jnp.float32(1), jnp.int32) + 1)
  low_B, _ = jax.lax.fori_loop(0, 31, bisect, (low_B, high_B))
  return jnp.where(bits_BV >= low_B[:, None], weights_BV, 0.0)
