"""The engine: prompts as ids in, trajectories as ids out. It knows no text.

Prefill reads each prompt once; its cache is forked to the G samples of the group; one loop then
decodes a token for every row until all have stopped or the cap is reached. The log-probability of
each sampled token comes out of the same program that drew it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from lwz import types
from lwz.model import cache as cache_lib
from lwz.model import qwen
from lwz.rollout import sampler


def generate(
  params: qwen.Params,
  prompts_PT: Int[Array, 'P T'],
  prompt_lengths_P: Int[Array, 'P'],
  keys_B2: UInt32[Array, 'B 2'],
  config: qwen.QwenConfig,
  *,
  num_samples: int,
  max_tokens: int,
  temperature: float,
  stop_id: int,
) -> types.Rollout:
  """Writes `num_samples` continuations of each prompt; rows p * G + g belong to prompt p.

  Args:
    params: the policy.
    prompts_PT: prompts, padded on the right with any id.
    prompt_lengths_P: tokens of each prompt, at least 1.
    keys_B2: one key per trajectory (`sampler.trajectory_keys`), B = P * num_samples.
    config: of the model.
    num_samples: G.
    max_tokens: the cap; a trajectory that reaches it is not `finished`.
    temperature: 0 is greedy.
    stop_id: the token that ends a trajectory; it is kept, with its log-probability.

  Returns:
    A `Rollout` with ids_BT of T = max_tokens; beyond a row's length stands `stop_id`.
  """
  P, prompt_slots = prompts_PT.shape
  B = P * num_samples
  num_slots = prompt_slots + max_tokens
  cache, logits_PV = _prefill(params, prompts_PT, prompt_lengths_P, config)
  cache = cache_lib.fork(_grow(cache, num_slots), num_samples)
  prompt_lengths_B = jnp.repeat(prompt_lengths_P, num_samples)
  ids_B, logp_B = sampler.sample(
    keys_B2, 0, jnp.repeat(logits_PV, num_samples, axis=0), temperature
  )
  ids_BT = jnp.full((B, max_tokens), stop_id, jnp.int32).at[:, 0].set(ids_B)
  logp_BT = jnp.zeros((B, max_tokens), jnp.float32).at[:, 0].set(logp_B)

  def keep_writing(carry):
    t, _, _, _, _, stopped_B, _ = carry
    return (t < max_tokens) & ~jnp.all(stopped_B)

  def write_one(carry):
    t, cache, last_B, ids_BT, logp_BT, stopped_B, lengths_B = carry
    hidden_B1D, cache = qwen.forward_cached(
      params,
      last_B[:, None],
      config,
      cache,
      slot=prompt_slots + t - 1,
      positions_BT=(prompt_lengths_B + t - 1)[:, None],
      mask_BTS=cache_lib.visible(prompt_lengths_B, prompt_slots, t, num_slots),
    )
    logits_BV = qwen.lm_head(params, hidden_B1D, config)[:, 0]
    new_B, logp_B = sampler.sample(keys_B2, t, logits_BV, temperature)
    new_B = jnp.where(stopped_B, stop_id, new_B)
    logp_B = jnp.where(stopped_B, 0.0, logp_B)
    ids_BT = jax.lax.dynamic_update_slice(ids_BT, new_B[:, None], (0, t))
    logp_BT = jax.lax.dynamic_update_slice(logp_BT, logp_B[:, None], (0, t))
    lengths_B = lengths_B + (~stopped_B).astype(jnp.int32)
    return t + 1, cache, new_B, ids_BT, logp_BT, stopped_B | (new_B == stop_id), lengths_B

  start = (
    jnp.ones((), jnp.int32),
    cache,
    ids_B,
    ids_BT,
    logp_BT,
    ids_B == stop_id,
    jnp.ones((B,), jnp.int32),
  )
  _, _, _, ids_BT, logp_BT, stopped_B, lengths_B = jax.lax.while_loop(
    keep_writing, write_one, start
  )
  return types.Rollout(ids=ids_BT, logp=logp_BT, lengths=lengths_B, finished=stopped_B)


def _prefill(params, prompts_PT, lengths_P, config):
  """The prompts' cache, and the logits that follow each prompt's last token."""
  P, T = prompts_PT.shape
  positions_PT = jnp.broadcast_to(jnp.arange(T)[None], (P, T))
  causal_PTS = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool))[None], (P, T, T))
  hidden_PTD, cache = qwen.forward_cached(
    params,
    prompts_PT,
    config,
    cache_lib.init(config, P, T),
    slot=0,
    positions_BT=positions_PT,
    mask_BTS=causal_PTS,
  )
  last_P1D = jnp.take_along_axis(hidden_PTD, (lengths_P - 1)[:, None, None], axis=1)
  return cache, qwen.lm_head(params, last_P1D, config)[:, 0]


def _grow(cache, num_slots):
  """The same cache with zeroed slots behind."""
  more = num_slots - cache.k.shape[3]
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more), (0, 0))), cache)
