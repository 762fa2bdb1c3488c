"""The engine in one call: prompts as ids in, trajectories as ids out. It knows no text.

Prefill reads each prompt once; its cache is forked to the G samples of the group; one block of
`slots.write_block` then writes a token for every row until all have stopped or the cap is reached.
`scheduler`, which stages use, runs the same step over a stream of trajectories, block by block, and
is held against this.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from lwz import types
from lwz.model import kv_cache, qwen
from lwz.model.attention import decode as decode_attention
from lwz.rollout import sampler, slots


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
  B = prompts_PT.shape[0] * num_samples
  prompts = slots.prefill(params, prompts_PT, config)
  last_P = jnp.take_along_axis(prompts_PT, (prompt_lengths_P - 1)[:, None], axis=1)[:, 0]
  cached_B = jnp.repeat(prompt_lengths_P.astype(jnp.int32) - 1, num_samples)
  nothing_B = jnp.zeros((B,), jnp.int32)
  rows = slots.Rows(
    last=jnp.repeat(last_P.astype(jnp.int32), num_samples),
    cached=cached_B,
    written=nothing_B,
    least=nothing_B,
    cap=jnp.full((B,), max_tokens, jnp.int32),
    keys=keys_B2,
    live=jnp.ones((B,), bool),
  )
  forked, num_slots = (
    kv_cache.past(kv_cache.fork(prompts, num_samples)),
    prompts_PT.shape[1],
  )
  _, _, block = slots.write_block(
    params,
    rows,
    decode_attention.over((forked,), cached_B, read=num_slots, dtype=config.dtype),
    config,
    num_steps=max_tokens,
    until=0,
    sampling=sampler.Sampling(temperature, stop_ids=(stop_id,)),
  )
  written_BT = jnp.arange(max_tokens)[None, :] < block.num[:, None]
  return types.Rollout(
    ids=jnp.where(written_BT, block.ids, stop_id),
    logp=block.logp,
    lengths=block.num,
    finished=block.stopped,
  )
