"""The key-value cache: rows that begin where they like and grow at their own pace.

A row's token at position i lies in slot i. A block of decoding steps reads what was there when it
began (`past`, never written) and appends to a small cache of its own, in which all rows share the
next free slot: an in-place update of a slice. `settle` then files the block's tokens, each row at
its own place, once per block.
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
  """Keys (rotated) and values of all layers; in int8, with the unit of each token and head."""

  k: Any  # compute dtype or int8 [L, B, K, S, C]
  v: Any
  k_unit: Any = None  # float32 [L, B, K, S], or None
  v_unit: Any = None


@flax.struct.dataclass
class Past:
  """What one layer reads of earlier blocks. Keys lie along time, so scores run along memory."""

  k: Any  # [B, K, C, S]
  v: Any  # [B, K, S, C]


def init(config: config_lib.QwenConfig, batch: int, num_slots: int, *, int8: bool = False) -> Cache:
  """A zeroed cache (never `jnp.empty`: masked slots still enter 0 * value products)."""
  shape = (
    config.num_hidden_layers,
    batch,
    config.num_key_value_heads,
    num_slots,
    config.head_dim,
  )
  if not int8:
    return Cache(k=jnp.zeros(shape, config.dtype), v=jnp.zeros(shape, config.dtype))
  data, unit = jnp.zeros(shape, jnp.int8), jnp.ones(shape[:-1], jnp.float32)
  return Cache(k=data, v=data, k_unit=unit, v_unit=unit)


def lay(cache: Cache, mesh: Any) -> Cache:
  """The cache, rows cut over data and fsdp, heads over tensor where it divides them."""
  names = (None, 'rows', 'kv_heads', None, None)
  return jax.tree.map(lambda x: activations.constrain(x, mesh, *names[: x.ndim]), cache)


def append(
  cache: Cache,
  layer: Int[Array, ''] | int,
  slot: Int[Array, ''] | int,
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
) -> Cache:
  """Writes T tokens of one layer at slots [slot, slot + T)."""
  at = (layer, 0, 0, slot, 0)
  return Cache(
    k=jax.lax.dynamic_update_slice(cache.k, k_BKTC[None], at),
    v=jax.lax.dynamic_update_slice(cache.v, v_BKTC[None], at),
  )


def layer_of(cache: Cache, layer: Int[Array, ''] | int) -> tuple[jax.Array, jax.Array]:
  """(k_BKSC, v_BKSC) of one layer."""
  return tuple(jax.lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in (cache.k, cache.v))


def past_of(
  cache: Cache, layer: Int[Array, ''] | int, rows: int, read: int, dtype: jax.typing.DTypeLike
) -> Past:
  """The first `read` slots of the first `rows` rows of one layer, as a block reads them."""

  def part(x, unit):
    size = (1, rows, x.shape[2], read)
    data = jax.lax.dynamic_slice(x, (layer, 0, 0, 0, 0), (*size, x.shape[4]))[0]
    if unit is None:
      return data
    scale = jax.lax.dynamic_slice(unit, (layer, 0, 0, 0), size)[0]
    return (data.astype(jnp.float32) * scale[..., None]).astype(dtype)

  k_BKSC, v_BKSC = part(cache.k, cache.k_unit), part(cache.v, cache.v_unit)
  return Past(k=k_BKSC.swapaxes(2, 3), v=v_BKSC)


def quantize(cache: Cache) -> Cache:
  """int8 with one unit per token and head: max |x| / 127, so the error is at most half of it."""

  def rounded(x):
    unit = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=-1) / _LEVELS
    unit = jnp.where(unit > 0, unit, 1.0)
    return jnp.round(x.astype(jnp.float32) / unit[..., None]).astype(jnp.int8), unit

  (k, k_unit), (v, v_unit) = rounded(cache.k), rounded(cache.v)
  return Cache(k=k, v=v, k_unit=k_unit, v_unit=v_unit)


def settle(cache: Cache, block: Cache, starts_B: Int[Array, 'B']) -> Cache:
  """Files a block's T tokens of row b at slots [starts_B[b], starts_B[b] + T), in place.

  `block` may have fewer rows than the cache: these are its first.
  """
  if cache.k_unit is not None:
    block = quantize(block)

  def file(b, cache):
    def put(whole, new):
      row = jax.lax.dynamic_slice_in_dim(new, b, 1, axis=1)
      return jax.lax.dynamic_update_slice(whole, row, (0, b, 0, starts_B[b], 0)[: whole.ndim])

    return jax.tree.map(put, cache, block)

  return jax.lax.fori_loop(0, starts_B.shape[0], file, cache)


def place(cache: Cache, prefix: Cache, row: Int[Array, '']) -> Cache:
  """The cache with a prompt's keys and values, `prefix` of one row, at the start of a row."""
  if cache.k_unit is not None:
    prefix = quantize(prefix)
  return jax.tree.map(
    lambda whole, new: jax.lax.dynamic_update_slice(whole, new, (0, row, 0, 0, 0)[: whole.ndim]),
    cache,
    prefix,
  )


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
