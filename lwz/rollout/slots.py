"""The slots: what the device holds of the trajectories that are being written, and the step on it.

    prefill      a prompt once, whatever the number of its samples
    admit        a trajectory into a slot: its prompt's keys and values, its counters
    write_block  up to T tokens for the first rows, in one compiled loop
    move         a trajectory into another slot, so that fewer rows can be computed

All shapes are fixed. The log-probability of a token comes out of the program that drew it.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from lwz.model import kv_cache, qwen
from lwz.model.attention import decode as decode_attention
from lwz.rollout import sampler

Mesh = jax.sharding.Mesh | jax.sharding.AbstractMesh | None


@flax.struct.dataclass
class Rows:
  """Counters of B trajectories. `last` is the token to be read next; it is not cached yet."""

  last: Any  # int32 [B]
  cached: Any  # int32 [B], tokens of the prompt and of the trajectory before `last`
  written: Any  # int32 [B], tokens of the trajectory
  least: Any  # int32 [B], no stop token before this many
  cap: Any  # int32 [B]
  keys: Any  # uint32 [B, 2]
  live: Any  # bool [B]


@flax.struct.dataclass
class Slots:
  """Counters, keys and values; a row that is not `live` holds what will be overwritten."""

  rows: Rows
  past: kv_cache.Stretches


@flax.struct.dataclass
class Block:
  """What a block wrote: row b's first `num[b]` tokens. `live` says whose trajectory goes on."""

  ids: Any  # int32 [B, T]
  logp: Any  # float32 [B, T]
  num: Any  # int32 [B]
  stopped: Any  # bool [B], by a stop token, in this block
  live: Any  # bool [B]
  steps: Any  # int32 [], that were computed


def init(
  config: qwen.QwenConfig,
  num_slots: int,
  capacity: int,
  *,
  num_stretches: int = 1,
  int8: bool = False,
  mesh: Mesh = None,
) -> Slots:
  """Empty slots of `capacity` tokens each, in stretches of which it is a multiple."""
  zeros = jnp.zeros((num_slots,), jnp.int32)
  rows = Rows(
    last=zeros,
    cached=zeros,
    written=zeros,
    least=zeros,
    cap=zeros,
    keys=jnp.zeros((num_slots, 2), jnp.uint32),
    live=jnp.zeros((num_slots,), bool),
  )
  size = capacity // num_stretches
  past = tuple(kv_cache.empty(config, num_slots, size, int8=int8) for _ in range(num_stretches))
  return Slots(rows=rows, past=kv_cache.lay(past, mesh))


def prefill(
  params: qwen.Params,
  prompts_PT: Int[Array, 'P T'],
  config: qwen.QwenConfig,
  *,
  mesh: Mesh = None,
) -> kv_cache.Cache:
  """Keys and values of prompts that begin at slot 0; what follows a prompt's end is never read."""
  P, T = prompts_PT.shape
  positions_PT = jnp.broadcast_to(jnp.arange(T)[None], (P, T))
  causal_PTS = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool))[None], (P, T, T))
  _, cache = qwen.forward_cached(
    params,
    prompts_PT,
    config,
    _block_cache(params, config, P, T),
    slot=0,
    phases_BTc=qwen.phases(positions_PT, config),
    mask_BTS=causal_PTS,
    mesh=mesh,
  )
  return _stacked(cache)


def admit(
  slots: Slots,
  prefix: kv_cache.Cache,
  which: Int[Array, ''],
  row: Int[Array, ''],
  counters: Rows,
  *,
  mesh: Mesh = None,
) -> Slots:
  """Begins a trajectory in slot `row`, with one of the prompts; `counters` has one row."""
  prefix = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, which, 1, axis=1), prefix)
  rows = jax.tree.map(
    lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, row, 0),
    slots.rows,
    counters,
  )
  return Slots(rows=rows, past=kv_cache.lay(kv_cache.place(slots.past, prefix, row), mesh))


def move(slots: Slots, source: Int[Array, ''], target: Int[Array, '']) -> Slots:
  """Copies the trajectory of one slot over that of another, and leaves the first empty."""

  def copied(x, axis):
    row = jax.lax.dynamic_slice_in_dim(x, source, 1, axis)
    return jax.lax.dynamic_update_slice_in_dim(x, row, target, axis)

  rows = jax.tree.map(lambda x: copied(x, 0), slots.rows)
  rows = rows.replace(live=rows.live.at[source].set(False))
  return Slots(rows=rows, past=jax.tree.map(lambda x: copied(x, 1), slots.past))


def decode(
  params: qwen.Params,
  slots: Slots,
  going_B: Bool[Array, 'B'],
  until: Int[Array, ''],
  config: qwen.QwenConfig,
  *,
  num_rows: int,
  read: int,
  num_steps: int,
  sampling: sampler.Sampling,
  attention: str = 'xla',
  mesh: Mesh = None,
) -> tuple[Slots, Block]:
  """A block of at most `num_steps` steps for the first `num_rows` slots.

  Args:
    params: the policy; with layers written out (`parameters.unstack`) or stacked.
    slots: donated, and updated in place.
    going_B: False ends a trajectory here, whatever it has written.
    until: the block ends early once no more than so many rows are live.
    config: of the model.
    num_rows, read: how much of the cache is computed with: rows, and slots of each; `read` must
      cover every live row's `cached`.
    num_steps: T.
    sampling: how tokens are drawn.
    attention: a backend of `decode_attention.BACKENDS`.
    mesh: where everything lies.
  """
  first = jax.tree.map(lambda x: x[:num_rows], slots.rows)
  first = first.replace(live=first.live & going_B[:num_rows])

  attend = decode_attention.over(
    slots.past,
    jnp.where(first.live, first.cached, 0),
    backend=attention,
    read=read,
    dtype=config.dtype,
    written_out=isinstance(params['layers'], tuple),
    mesh=mesh,
  )
  rows, written, block = write_block(
    params,
    first,
    attend,
    config,
    num_steps=num_steps,
    until=until,
    sampling=sampling,
    mesh=mesh,
  )
  settled = kv_cache.settle(slots.past, written, first.cached, mesh)
  rows = jax.tree.map(
    lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, 0, 0), slots.rows, rows
  )
  return Slots(rows=rows, past=kv_cache.lay(settled, mesh)), block


def write_block(
  params, rows: Rows, attend, config, *, num_steps: int, until, sampling, mesh: Mesh = None
) -> tuple[Rows, kv_cache.Cache, Block]:
  """The loop: appends to a cache of its own, draws a token per step and row.

  `attend` is of `decode_attention.over`. Returns the rows as they stand then, the keys and values
  of the block, and what was written.
  """
  B = rows.last.shape[0]
  begun_B = rows.cached
  cos_BTc, sin_BTc = qwen.phases(begun_B[:, None] + jnp.arange(num_steps)[None, :], config)
  chance_TB2 = jax.vmap(lambda t: sampler.chances(rows.keys, rows.written + t))(
    jnp.arange(num_steps)
  )

  at = functools.partial(jax.lax.dynamic_slice_in_dim, slice_size=1, axis=1)

  def go_on(carry):
    t, _, rows, *_ = carry
    return (t < num_steps) & (jnp.sum(rows.live) > until)

  def step(carry):
    t, cache, rows, ids_BT, logp_BT, stopped_B = carry
    hidden_B1D, cache = qwen.forward_cached(
      params,
      rows.last[:, None],
      config,
      cache,
      slot=t,
      phases_BTc=(at(cos_BTc, t), at(sin_BTc, t)),
      attend=lambda *layer: attend(*layer, t + 1),
      mesh=mesh,
    )
    logits_BV = qwen.lm_head(params, hidden_B1D, config)[:, 0]
    new_B, logp_B = _draw(rows, logits_BV, chance_TB2[t], sampling)
    new_B = jnp.where(rows.live, new_B, 0)
    logp_B = jnp.where(rows.live, logp_B, 0.0)
    ids_BT = jax.lax.dynamic_update_slice(ids_BT, new_B[:, None], (0, t))
    logp_BT = jax.lax.dynamic_update_slice(logp_BT, logp_B[:, None], (0, t))
    ends_B = rows.live & _is_any(new_B, sampling.stop_ids)
    moved_B = rows.live.astype(jnp.int32)
    written_B = rows.written + moved_B
    rows = rows.replace(
      last=jnp.where(rows.live, new_B, rows.last),
      cached=rows.cached + moved_B,
      written=written_B,
      live=rows.live & ~ends_B & (written_B < rows.cap),
    )
    return t + 1, cache, rows, ids_BT, logp_BT, stopped_B | ends_B

  start = (
    jnp.zeros((), jnp.int32),
    _block_cache(params, config, B, num_steps),
    rows,
    jnp.zeros((B, num_steps), jnp.int32),
    jnp.zeros((B, num_steps), jnp.float32),
    jnp.zeros((B,), bool),
  )
  t, cache, after, ids_BT, logp_BT, stopped_B = jax.lax.while_loop(go_on, step, start)
  block = Block(
    ids=ids_BT,
    logp=logp_BT,
    num=after.written - rows.written,
    stopped=stopped_B,
    live=after.live,
    steps=t,
  )
  return after, _stacked(cache), block


def _draw(rows: Rows, logits_BV, chance_B2, sampling: sampler.Sampling):
  if sampling.stop_ids:
    stop_V = _is_any(jnp.arange(logits_BV.shape[1]), sampling.stop_ids)
    early_B = rows.written + 1 < rows.least
    logits_BV = jnp.where(early_B[:, None] & stop_V[None, :], -jnp.inf, logits_BV)
  return sampler.draw(
    chance_B2,
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


def _block_cache(params, config, batch: int, num_slots: int):
  """An empty cache for `forward_cached`: one of each layer where layers are written out."""
  cache = kv_cache.init(config, batch, num_slots)
  if not isinstance(params['layers'], tuple):
    return cache
  one = jax.tree.map(lambda x: x[0], cache)
  return (one,) * config.num_hidden_layers


def _stacked(cache) -> kv_cache.Cache:
  if not isinstance(cache, tuple):
    return cache
  return jax.tree.map(lambda *layers: jnp.stack(layers), *cache)
