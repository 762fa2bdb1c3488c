"""Generation in one program, without a scheduler: the reference that the scheduler is held against.

Prefill reads each prompt once; its cache is forked to the G samples of the group; one block of
`slots.write_block` then writes a token for every row until all have stopped or the cap is reached.
"""

import jax
import jax.numpy as jnp

from lwz import types
from lwz.model import kv_cache
from lwz.model.attention import decode as decode_attention
from lwz.rollout import sampler, slots
from lwz.rollout import spec as spec_lib


def generate(
  params,
  prompts_PT,
  prompt_lengths_P,
  keys_B2,
  config,
  *,
  num_samples,
  max_tokens,
  temperature,
  stop_id,
) -> types.Rollout:
  """Writes `num_samples` continuations of each prompt; rows p * G + g belong to prompt p.

  Prompts are padded on the right with any id. There is one key per trajectory
  (`sampler.trajectory_keys`), B = P * num_samples. Temperature 0 is greedy. The `Rollout` has
  ids_BT of T = max_tokens; beyond a row's length stands `stop_id`.
  """
  P, T = prompts_PT.shape
  B = P * num_samples
  spec = spec_lib.EngineSpec(
    config,
    num_slots=B,
    max_prompt_tokens=T,
    max_tokens=max_tokens,
    sampling=sampler.Sampling(temperature, stop_ids=(stop_id,)),
    exact=True,
    num_steps=max_tokens,
    unstack=False,
  )
  prompts = slots.prefill(params, prompts_PT, spec)
  last_P = jnp.take_along_axis(prompts_PT, (prompt_lengths_P - 1)[:, None], axis=1)[:, 0]
  cached_B = jnp.repeat(prompt_lengths_P.astype(jnp.int32) - 1, num_samples)
  zeros_B = jnp.zeros((B,), jnp.int32)
  counters = slots.Counters(
    last=jnp.repeat(last_P.astype(jnp.int32), num_samples),
    cached=cached_B,
    written=zeros_B,
    min_tokens=zeros_B,
    max_tokens=jnp.full((B,), max_tokens, jnp.int32),
    keys=keys_B2,
    active=jnp.ones((B,), bool),
  )
  forked = jax.tree.map(lambda x: jnp.repeat(x, num_samples, axis=1), prompts)
  forked = kv_cache.to_segment(forked)
  attend = decode_attention.over((forked,), cached_B, read_length=T, dtype=config.dtype)
  _, _, block = slots.write_block(params, counters, attend, spec, until_active=0)
  written_BT = jnp.arange(max_tokens)[None, :] < block.num[:, None]
  return types.Rollout(
    ids=jnp.where(written_BT, block.ids, stop_id),
    logp=block.logp,
    lengths=block.num,
    finished=block.stopped,
  )
