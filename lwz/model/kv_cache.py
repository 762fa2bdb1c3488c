"""The key-value cache: rows that begin where they like and grow at their own pace.

A row's token at position i lies in slot i. A block of decoding steps reads what was there when it
began (`past`, never written) and appends to a small cache of its own, in which all rows share the
next free slot: an in-place update of a slice. `settle` then files the block's tokens, each row at
its own place, once per block.

The past is kept in stretches of time, arrays of their own: to read only some of it, whole arrays
are left out and none is cut. A GPU's XLA would copy what is cut along the time that a product sums
over; elsewhere one stretch is all.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lwz.model import activations
from lwz.model import config as config_lib

_LEVELS = 127  # of int8, on each side of 0


@flax.struct.dataclass
class Cache:
  """Keys (rotated) and values of all layers, in the compute dtype."""

  k: Any  # [L, B, K, S, C]
  v: Any  # [L, B, K, S, C]


@flax.struct.dataclass
class Past:
  """Keys and values of earlier blocks; in int8, with the unit of each token and head.

  Keys lie along time, so that scores run along memory. One layer of it has no L. Of the `Stretches`
  of S slots each, number i has a row's tokens from i * S on.
  """

  k: Any  # [L, B, K, C, S]
  v: Any  # [L, B, K, S, C]
  k_unit: Any = None  # float32 [L, B, K, S], or None
  v_unit: Any = None


Stretches = tuple[Past, ...]

# Names of their dimensions, for `activations.LAYOUT`: rows are cut over data and fsdp, heads over
# tensor where that divides them.
DIMENSIONS = (None, 'rows', 'kv_heads', None, None)


def init(config: config_lib.QwenConfig, batch: int, num_slots: int) -> Cache:
  """A zeroed cache (never `jnp.empty`: masked slots still enter 0 * value products)."""
  shape = (
    config.num_hidden_layers,
    batch,
    config.num_key_value_heads,
    num_slots,
    config.head_dim,
  )
  return Cache(k=jnp.zeros(shape, config.dtype), v=jnp.zeros(shape, config.dtype))


def lay(stretches: Stretches, mesh: Any) -> Stretches:
  """The same past, laid out over a mesh."""
  return jax.tree.map(lambda x: activations.constrain(x, mesh, *DIMENSIONS[: x.ndim]), stretches)


def append(
  cache: Cache,
  layer: Int[Array, ''] | int,
  slot: Int[Array, ''] | int,
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
) -> Cache:
  """Writes T tokens of one layer at slots [slot, slot + T); a cache of one layer has no L."""
  if cache.k.ndim == 4:
    return Cache(
      k=jax.lax.dynamic_update_slice(cache.k, k_BKTC, (0, 0, slot, 0)),
      v=jax.lax.dynamic_update_slice(cache.v, v_BKTC, (0, 0, slot, 0)),
    )
  at = (layer, 0, 0, slot, 0)
  return Cache(
    k=jax.lax.dynamic_update_slice(cache.k, k_BKTC[None], at),
    v=jax.lax.dynamic_update_slice(cache.v, v_BKTC[None], at),
  )


def layer_of(cache: Cache, layer: Int[Array, ''] | int) -> tuple[jax.Array, jax.Array]:
  """(k_BKSC, v_BKSC) of one layer."""
  if cache.k.ndim == 4:
    return cache.k, cache.v
  return tuple(jax.lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in (cache.k, cache.v))


def past(cache: Cache, *, int8: bool = False) -> Past:
  """The cache as it is kept. In int8 the unit is max |x| / 127, the error half of it at most."""
  if not int8:
    return Past(k=cache.k.swapaxes(3, 4), v=cache.v)

  def rounded(x):
    x = x.astype(jnp.float32)
    unit = jnp.max(jnp.abs(x), axis=-1) / _LEVELS
    unit = jnp.where(unit > 0, unit, 1.0)
    return jnp.round(x / unit[..., None]).astype(jnp.int8), unit

  (k, k_unit), (v, v_unit) = rounded(cache.k), rounded(cache.v)
  return Past(k=k.swapaxes(3, 4), v=v, k_unit=k_unit, v_unit=v_unit)


def empty(config: config_lib.QwenConfig, batch: int, num_slots: int, *, int8: bool = False) -> Past:
  """`past` of zeros, told rather than computed: a compiler would find their units by itself."""
  cache = init(config, batch, num_slots)
  if not int8:
    return past(cache)
  cache = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.int8), cache)
  units = (jnp.ones(x.shape[:-1], jnp.float32) for x in (cache.k, cache.v))
  return Past(cache.k.swapaxes(3, 4), cache.v, *units)


def past_of(
  whole: Past, layer: Int[Array, ''] | int, rows: int, read: int, dtype: jax.typing.DTypeLike
) -> Past:
  """The first `read` slots of the first `rows` rows of one layer, in the compute dtype."""

  def part(x, *size):
    size = (1, rows, x.shape[2], *size)
    return jax.lax.dynamic_slice(x, (layer, *(0,) * (x.ndim - 1)), size)[0]

  k_BKCS = part(whole.k, whole.k.shape[3], read)
  v_BKSC = part(whole.v, read, whole.v.shape[4])
  if whole.k_unit is not None:
    k_BKCS = (k_BKCS.astype(jnp.float32) * part(whole.k_unit, read)[:, :, None, :]).astype(dtype)
    v_BKSC = (v_BKSC.astype(jnp.float32) * part(whole.v_unit, read)[..., None]).astype(dtype)
  return Past(k=k_BKCS, v=v_BKSC)


def settle(
  stretches: Stretches, block: Cache, starts_B: Int[Array, 'B'], mesh: Any = None
) -> Stretches:
  """Files a block's T tokens of row b at slots [starts_B[b], starts_B[b] + T), in place.

  `block` may have fewer rows than there are: these are the first. On a mesh each device files the
  rows that it has. No stretch is shorter than a block.
  """
  new = past(block, int8=stretches[0].k_unit is not None)

  def file(b, stretches, new, starts_B):
    row = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, b, 1, axis=1), new)
    if len(stretches) == 1:
      return (_put(stretches[0], row, b, starts_B[b]),)
    size = stretches[0].v.shape[3]
    return tuple(_overlap(x, row, b, starts_B[b] - i * size) for i, x in enumerate(stretches))

  def file_own(stretches, new, starts_B):
    for b in range(starts_B.shape[0]):  # written out: libtpu 0.0.42 fails on the loop
      stretches = file(b, stretches, new, starts_B)
    return stretches

  if mesh is None or mesh.size == 1 or new.v.shape[1] != stretches[0].v.shape[1]:
    num_rows = starts_B.shape[0]
    return jax.lax.fori_loop(0, num_rows, lambda b, x: file(b, x, new, starts_B), stretches)
  where, new_where = jax.tree.map(
    lambda x: activations.spec(mesh, x.shape, DIMENSIONS[: x.ndim]), (stretches, new)
  )
  rows = activations.spec(mesh, starts_B.shape, ('rows',))
  return jax.shard_map(
    file_own, mesh=mesh, in_specs=(where, new_where, rows), out_specs=where, check_vma=False
  )(stretches, new, starts_B)


def place(stretches: Stretches, prefix: Cache, row: Int[Array, '']) -> Stretches:
  """The past with a prompt's keys and values, `prefix` of one row, at the start of a row."""
  new, size = past(prefix, int8=stretches[0].k_unit is not None), stretches[0].v.shape[3]

  def part(i):
    def cut(x, axis):
      return jax.lax.slice_in_dim(x, i * size, min((i + 1) * size, x.shape[axis]), axis=axis)

    return _by_time(cut, new)

  parts = [part(i) for i in range(-(-new.v.shape[3] // size))]
  placed = [_put(x, part, row, 0) for x, part in zip(stretches, parts, strict=False)]
  return (*placed, *stretches[len(placed) :])


def _by_time(change, *pasts: Past) -> Past:
  """`change(*arrays, axis of time)` of each array of one past, or of several."""
  axes = {'k': 4, 'v': 3, 'k_unit': 3, 'v_unit': 3}

  def one(name):
    arrays = [getattr(past, name) for past in pasts]
    return None if arrays[0] is None else change(*arrays, axes[name])

  return Past(**{name: one(name) for name in axes})


def _overlap(stretch: Past, new: Past, row, slot) -> Past:
  """`_put`, of what falls into the stretch: `slot` may lie before its start or past its end."""
  num_new, size = new.v.shape[3], stretch.v.shape[3]
  at = jnp.clip(slot, 0, size - num_new)
  from_new_T = jnp.arange(num_new) + at - slot
  fresh_T = (from_new_T >= 0) & (from_new_T < num_new)

  def change(old, new, axis):
    begin = [0] * old.ndim
    begin[1], begin[axis] = row, at
    before = jax.lax.dynamic_slice(old, begin, new.shape)
    moved = jnp.roll(new, slot - at, axis)
    fresh = jnp.expand_dims(fresh_T, [i for i in range(new.ndim) if i != axis])
    return jax.lax.dynamic_update_slice(old, jnp.where(fresh, moved, before), begin)

  return _by_time(change, stretch, new)


def _put(whole: Past, new: Past, row, slot) -> Past:
  def change(old, new, axis):
    begin = [0] * old.ndim
    begin[1], begin[axis] = row, slot
    return jax.lax.dynamic_update_slice(old, new, begin)

  return _by_time(change, whole, new)


def fork(cache: Cache, num_samples: int) -> Cache:
  """Repeats every row G times: a group shares one prefill of its prompt."""
  return jax.tree.map(lambda x: jnp.repeat(x, num_samples, axis=1), cache)


def visible(
  prompt_lengths_B: Int[Array, 'B'], prompt_slots: int, num_new: Int[Array, ''], num_slots: int
) -> Bool[Array, 'B 1 S']:
  """Slots a new token sees: its own prompt, and the `num_new` tokens written so far."""
  slot_S = jnp.arange(num_slots)
  prompt_BS = slot_S[None, :] < prompt_lengths_B[:, None]
  new_S = (slot_S >= prompt_slots) & (slot_S < prompt_slots + num_new)
  return (prompt_BS | new_S[None, :])[:, None, :]
