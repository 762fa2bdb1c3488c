"""Slots: the device state of the trajectories in flight, and the decoding steps on it.

    prefill      reads a prompt once, whatever the number of its samples
    admit        puts a trajectory into a slot: its prompt's keys and values, its counters
    write_block  writes up to T tokens for the first B slots, in one compiled loop
    move         moves a trajectory to another slot, so that the batch can shrink

All shapes are fixed. The log-probability of a token comes from the program that sampled it.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from lwz.model import kv_cache, qwen
from lwz.model.attention import decode as decode_attention
from lwz.model.attention import packed as packed_attention
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib

PREFILL_CHUNK = 1_024  # tokens of a prompt that are read at a time


@flax.struct.dataclass
class Counters:
  """Counters of B slots. `last` is the token to read next; it is not cached yet."""

  last: Any  # int32 [B]
  cached: Any  # int32 [B], tokens of the prompt and of the trajectory before `last`
  written: Any  # int32 [B], tokens of the trajectory
  min_tokens: Any  # int32 [B], no stop token before this many
  max_tokens: Any  # int32 [B]
  keys: Any  # uint32 [B, 2]
  active: Any  # bool [B]


@flax.struct.dataclass
class Slots:
  """Counters, keys and values; those of a slot that is not active will be overwritten."""

  counters: Counters
  cache: kv_cache.CacheSegments


@flax.struct.dataclass
class Block:
  """Tokens of a block: the first `num[b]` of slot b. `active` tells which trajectories continue."""

  ids: Any  # int32 [B, T]
  logp: Any  # float32 [B, T]
  num: Any  # int32 [B]
  stopped: Any  # bool [B], by a stop token, in this block
  active: Any  # bool [B]
  steps: Any  # int32 [], computed steps


def init(spec: spec_lib.EngineSpec) -> Slots:
  """Returns empty slots with the cache layout of `spec`."""
  zeros = jnp.zeros((spec.num_slots,), jnp.int32)
  counters = Counters(
    last=zeros,
    cached=zeros,
    written=zeros,
    min_tokens=zeros,
    max_tokens=zeros,
    keys=jnp.zeros((spec.num_slots, 2), jnp.uint32),
    active=jnp.zeros((spec.num_slots,), bool),
  )
  _, capacity, num = spec.cache_layout
  size = capacity // num
  cache = tuple(
    kv_cache.empty_segment(spec.config, spec.num_slots, size, int8=spec.int8) for _ in range(num)
  )
  return Slots(counters=counters, cache=cache)


def prefill(
  params: qwen.Params, prompts_PT: Int[Array, 'P T'], spec: spec_lib.EngineSpec
) -> kv_cache.Cache:
  """Keys and values of prompts from position 0; those of the padding are never read.

  Read `PREFILL_CHUNK` tokens at a time, by the attention of training.
  """
  (P, T), segments_PT = prompts_PT.shape, jnp.zeros(prompts_PT.shape, jnp.int32)

  def read(cache, start, num: int):
    positions_PT = jnp.broadcast_to(start + jnp.arange(num)[None], (P, num))
    _, cache = qwen.forward_cached(
      params,
      jax.lax.dynamic_slice_in_dim(prompts_PT, start, num, axis=1),
      spec.config,
      cache,
      position=start,
      phases_BTc=qwen.phases(positions_PT, spec.config),
      attend=lambda _, *qkv: packed_attention.attend_packed(
        *qkv, segments_PT, offset=start, mesh=spec.mesh
      ),
      unstacked=spec.unstacked,
      mesh=spec.mesh,
    )
    return cache

  cache, (chunks, rest) = _block_cache(spec, P, T), divmod(T, PREFILL_CHUNK)
  if chunks:
    cache = jax.lax.fori_loop(
      0, chunks, lambda i, cache: read(cache, i * PREFILL_CHUNK, PREFILL_CHUNK), cache
    )
  if rest:
    cache = read(cache, chunks * PREFILL_CHUNK, rest)
  return _stacked(cache, spec)


def admit(
  slots: Slots,
  prefix: kv_cache.Cache,
  prompt: Int[Array, ''],
  slot: Int[Array, ''],
  counters: Counters,
  *,
  mesh: spec_lib.Mesh = None,
) -> Slots:
  """Starts a trajectory in a slot, with one prompt of `prefix`; `counters` are of one slot."""
  prefix = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, prompt, 1, axis=1), prefix)
  counters = jax.tree.map(
    lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, slot, 0),
    slots.counters,
    counters,
  )
  cache = kv_cache.store_prompt(slots.cache, prefix, slot)
  return Slots(counters=counters, cache=kv_cache.constrain(cache, mesh))


def move(slots: Slots, source: Int[Array, ''], target: Int[Array, '']) -> Slots:
  """Copies the trajectory of one slot over that of another, and frees the first."""

  def copied(x, axis):
    one = jax.lax.dynamic_slice_in_dim(x, source, 1, axis)
    return jax.lax.dynamic_update_slice_in_dim(x, one, target, axis)

  counters = jax.tree.map(lambda x: copied(x, 0), slots.counters)
  counters = counters.replace(active=counters.active.at[source].set(False))
  return Slots(counters=counters, cache=jax.tree.map(lambda x: copied(x, 1), slots.cache))


def decode(
  params: qwen.Params,
  slots: Slots,
  active_B: Bool[Array, 'B'],
  until_active: Int[Array, ''],
  spec: spec_lib.EngineSpec,
  *,
  batch_size: int,
  read_length: int,
) -> tuple[Slots, Block]:
  """A block of at most `spec.num_steps` steps for the first `batch_size` slots.

  `slots` are donated, and updated in place. False in `active_B` ends a trajectory here. The block
  ends early once at most `until_active` slots are active. `read_length` cached tokens are read, at
  least `cached` of every active slot.
  """
  first = jax.tree.map(lambda x: x[:batch_size], slots.counters)
  first = first.replace(active=first.active & active_B[:batch_size])
  attend = decode_attention.over(
    slots.cache,
    jnp.where(first.active, first.cached, 0),
    backend=spec.backend,
    read_length=read_length,
    dtype=spec.config.dtype,
    unstacked=spec.unstacked,
    mesh=spec.mesh,
  )
  after, written, block = write_block(params, first, attend, spec, until_active=until_active)
  cache = kv_cache.store_block(slots.cache, written, first.cached, spec.mesh)
  counters = jax.tree.map(
    lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, 0, 0), slots.counters, after
  )
  return Slots(counters=counters, cache=kv_cache.constrain(cache, spec.mesh)), block


def write_block(
  params, counters: Counters, attend, spec: spec_lib.EngineSpec, *, until_active
) -> tuple[Counters, kv_cache.Cache, Block]:
  """The decoding loop: one token per step and slot, appended to a cache of the block's own.

  `attend` is of `decode_attention.over`. Returns the counters after the block, its keys and values,
  and its tokens.
  """
  config, num_steps, sampling = spec.config, spec.num_steps, spec.sampling
  B = counters.last.shape[0]
  positions_BT = counters.cached[:, None] + jnp.arange(num_steps)[None, :]
  cos_BTc, sin_BTc = qwen.phases(positions_BT, config)
  uniform_TB2 = jax.vmap(lambda t: sampler.uniforms(counters.keys, counters.written + t))(
    jnp.arange(num_steps)
  )

  at = functools.partial(jax.lax.dynamic_slice_in_dim, slice_size=1, axis=1)

  def go_on(carry):
    t, _, now, *_ = carry
    return (t < num_steps) & (jnp.sum(now.active) > until_active)

  def step(carry):
    t, cache, now, ids_BT, logp_BT, stopped_B = carry
    hidden_B1D, cache = qwen.forward_cached(
      params,
      now.last[:, None],
      config,
      cache,
      position=t,
      phases_BTc=(at(cos_BTc, t), at(sin_BTc, t)),
      attend=lambda *layer: attend(*layer, t + 1),
      unstacked=spec.unstacked,
      mesh=spec.mesh,
    )
    logits_BV = qwen.lm_head(params, hidden_B1D, config)[:, 0]
    new_B, logp_B = _sample(now, logits_BV, uniform_TB2[t], sampling)
    new_B = jnp.where(now.active, new_B, 0)
    logp_B = jnp.where(now.active, logp_B, 0.0)
    ids_BT = jax.lax.dynamic_update_slice(ids_BT, new_B[:, None], (0, t))
    logp_BT = jax.lax.dynamic_update_slice(logp_BT, logp_B[:, None], (0, t))
    ends_B = now.active & _is_any(new_B, sampling.stop_ids)
    advance_B = now.active.astype(jnp.int32)
    written_B = now.written + advance_B
    now = now.replace(
      last=jnp.where(now.active, new_B, now.last),
      cached=now.cached + advance_B,
      written=written_B,
      active=now.active & ~ends_B & (written_B < now.max_tokens),
    )
    return t + 1, cache, now, ids_BT, logp_BT, stopped_B | ends_B

  start = (
    jnp.zeros((), jnp.int32),
    _block_cache(spec, B, num_steps),
    counters,
    jnp.zeros((B, num_steps), jnp.int32),
    jnp.zeros((B, num_steps), jnp.float32),
    jnp.zeros((B,), bool),
  )
  t, cache, after, ids_BT, logp_BT, stopped_B = jax.lax.while_loop(go_on, step, start)
  block = Block(
    ids=ids_BT,
    logp=logp_BT,
    num=after.written - counters.written,
    stopped=stopped_B,
    active=after.active,
    steps=t,
  )
  return after, _stacked(cache, spec), block


def _sample(counters: Counters, logits_BV, uniform_B2, sampling: sampler.Sampling):
  if 0 < sampling.num_ids < logits_BV.shape[1]:
    is_token_V = jnp.arange(logits_BV.shape[1]) < sampling.num_ids
    logits_BV = jnp.where(is_token_V[None, :], logits_BV, -jnp.inf)
  if sampling.stop_ids:
    stop_V = _is_any(jnp.arange(logits_BV.shape[1]), sampling.stop_ids)
    early_B = counters.written + 1 < counters.min_tokens
    logits_BV = jnp.where(early_B[:, None] & stop_V[None, :], -jnp.inf, logits_BV)
  return sampler.sample_from(
    uniform_B2,
    logits_BV,
    sampling.temperature,
    top_p=sampling.top_p,
    top_k=sampling.top_k,
  )


def _is_any(ids_N, stop_ids: tuple[int, ...]):
  found_N = jnp.zeros(ids_N.shape, bool)
  for stop_id in stop_ids:
    found_N |= ids_N == stop_id
  return found_N


def _block_cache(spec: spec_lib.EngineSpec, batch_size: int, num_positions: int):
  """An empty cache for `forward_cached`: one for each layer if layers are unstacked."""
  cache = kv_cache.init(spec.config, batch_size, num_positions)
  if not spec.unstacked:
    return cache
  one = jax.tree.map(lambda x: x[0], cache)
  return (one,) * spec.config.num_hidden_layers


def _stacked(cache, spec: spec_lib.EngineSpec) -> kv_cache.Cache:
  return jax.tree.map(lambda *layers: jnp.stack(layers), *cache) if spec.unstacked else cache
