"""From logits to a token and its log-probability, with counted randomness.

A draw's key is a function of (seed, step, prompt, sample, position) alone: it depends on no slot,
batch size, order or restart.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32


def trajectory_keys(
  seed: int, step: Int[Array, ''] | int, prompts_B: Int[Array, 'B'], samples_B: Int[Array, 'B']
) -> UInt32[Array, 'B 2']:
  """One raw key per trajectory, from the counters that name it.

  Args:
    seed: of the run.
    step: of training.
    prompts_B: index of each row's prompt within the step.
    samples_B: index of each row within its group.
  """
  step_key = jax.random.fold_in(jax.random.key(seed), step)

  def key(prompt, sample):
    return jax.random.key_data(jax.random.fold_in(jax.random.fold_in(step_key, prompt), sample))

  return jax.vmap(key)(prompts_B, samples_B)


def sample(
  keys_B2: UInt32[Array, 'B 2'],
  position: Int[Array, ''] | int,
  logits_BV: Float[Array, 'B V'],
  temperature: float,
) -> tuple[Int[Array, 'B'], Float[Array, 'B']]:
  """Draws from softmax(logits / temperature); temperature 0 takes the most likely token.

  `position` counts the trajectory's own tokens. Returns (ids_B, logp_B); the log-probability is
  that of the distribution sampled from, so at temperature 0 it is 0.
  """
  if temperature == 0:
    ids_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    return ids_B, jnp.zeros(ids_B.shape, jnp.float32)
  logits_BV = logits_BV.astype(jnp.float32) / temperature

  def draw(key_2, logits_V):
    key = jax.random.fold_in(jax.random.wrap_key_data(key_2), position)
    return jax.random.categorical(key, logits_V)

  ids_B = jax.vmap(draw)(keys_B2, logits_BV).astype(jnp.int32)
  chosen_B = jnp.take_along_axis(logits_BV, ids_B[:, None], axis=-1)[:, 0]
  return ids_B, chosen_B - jax.nn.logsumexp(logits_BV, axis=-1)
