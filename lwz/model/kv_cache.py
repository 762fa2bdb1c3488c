"""The key-value cache: rows of different lengths that grow independently.

A block of decoding steps reads the keys and values of earlier blocks, which it never writes, and
appends to a small cache of its own, in which all rows share the next free position: an in-place
update of a slice. `store_block` then copies the block's tokens to the positions of each row, once
per block.

Earlier keys and values are kept in cache segments, arrays of S consecutive positions each, so that
reading a part leaves out whole arrays and slices none. XLA for GPUs would copy a slice along the
time that a product sums over; elsewhere there is one segment.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model import activations
from lwz.model import config as config_lib
from lwz.model.attention import packed as packed_attention

_LEVELS = 127  # of int8, on each side of 0


@flax.struct.dataclass
class Cache:
  """Keys (rotated) and values of all layers, in the compute dtype."""

  k: Any  # [L, B, K, S, C]
  v: Any  # [L, B, K, S, C]


@flax.struct.dataclass
class CacheSegment:
  """Keys and values of earlier blocks; in int8, with a scale per token and head.

  Time is the last dimension of the keys, so that scores are contiguous. A single layer has no L.
  Segment i of `CacheSegments` holds positions i * S ... (i + 1) * S - 1.
  """

  k: Any  # [L, B, K, C, S]
  v: Any  # [L, B, K, S, C]
  k_scale: Any = None  # float32 [L, B, K, S], or None
  v_scale: Any = None


CacheSegments = tuple[CacheSegment, ...]

# Names of their dimensions, for `activations.LAYOUT`: rows are sharded over data and fsdp, heads
# over tensor if that divides them.
DIMENSIONS = (None, 'rows', 'kv_heads', None, None)


def init(config: config_lib.QwenConfig, batch_size: int, num_positions: int) -> Cache:
  """A zeroed cache (never `jnp.empty`: masked positions still enter 0 * value products)."""
  shape = (
    config.num_hidden_layers,
    batch_size,
    config.num_key_value_heads,
    num_positions,
    config.head_dim,
  )
  return Cache(k=jnp.zeros(shape, config.dtype), v=jnp.zeros(shape, config.dtype))


def constrain(segments: CacheSegments, mesh: Any) -> CacheSegments:
  """The same segments, sharded over a mesh."""
  return jax.tree.map(lambda x: activations.constrain(x, mesh, *DIMENSIONS[: x.ndim]), segments)


def append(
  cache: Cache,
  layer: Int[Array, ''] | int,
  position: Int[Array, ''] | int,
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
) -> Cache:
  """Writes T tokens of one layer from `position` on; a cache of one layer has no L."""
  at = (0, 0, position, 0)
  if cache.k.ndim == 4:
    return Cache(k=_written(cache.k, k_BKTC, at), v=_written(cache.v, v_BKTC, at))
  k, v = (_written(x, new[None], (layer, *at)) for x, new in ((cache.k, k_BKTC), (cache.v, v_BKTC)))
  return Cache(k=k, v=v)


def layer_of(cache: Cache, layer: Int[Array, ''] | int) -> tuple[jax.Array, jax.Array]:
  """(k_BKSC, v_BKSC) of one layer."""
  if cache.k.ndim == 4:
    return cache.k, cache.v
  return tuple(jax.lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in (cache.k, cache.v))


def to_segment(cache: Cache, *, int8: bool = False) -> CacheSegment:
  """The cache as a segment. In int8 the scale is max |x| / 127, the error at most half of it."""
  if not int8:
    return CacheSegment(k=cache.k.swapaxes(3, 4), v=cache.v)

  def rounded(x):
    x = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x), axis=-1) / _LEVELS
    scale = jnp.where(scale > 0, scale, 1.0)
    return jnp.round(x / scale[..., None]).astype(jnp.int8), scale

  (k, k_scale), (v, v_scale) = rounded(cache.k), rounded(cache.v)
  return CacheSegment(k=k.swapaxes(3, 4), v=v, k_scale=k_scale, v_scale=v_scale)


def empty_segment(
  config: config_lib.QwenConfig, batch_size: int, num_positions: int, *, int8: bool = False
) -> CacheSegment:
  """`to_segment` of zeros, with constant scales: XLA would compute them at compile time."""
  cache = init(config, batch_size, num_positions)
  if not int8:
    return to_segment(cache)
  cache = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.int8), cache)
  scales = (jnp.ones(x.shape[:-1], jnp.float32) for x in (cache.k, cache.v))
  return CacheSegment(cache.k.swapaxes(3, 4), cache.v, *scales)


def read_layer(
  whole: CacheSegment,
  layer: Int[Array, ''] | int,
  num_rows: int,
  num_positions: int,
  dtype: jax.typing.DTypeLike,
) -> CacheSegment:
  """The first positions of the first rows of one layer, in the compute dtype."""

  def part(x, *size):
    size = (1, num_rows, x.shape[2], *size)
    return jax.lax.dynamic_slice(x, (layer, *(0,) * (x.ndim - 1)), size)[0]

  k_BKCS = part(whole.k, whole.k.shape[3], num_positions)
  v_BKSC = part(whole.v, num_positions, whole.v.shape[4])
  if whole.k_scale is not None:
    k_scale_BKS, v_scale_BKS = (part(x, num_positions) for x in (whole.k_scale, whole.v_scale))
    k_BKCS = (k_BKCS.astype(jnp.float32) * k_scale_BKS[:, :, None, :]).astype(dtype)
    v_BKSC = (v_BKSC.astype(jnp.float32) * v_scale_BKS[..., None]).astype(dtype)
  return CacheSegment(k=k_BKCS, v=v_BKSC)


def store_block(
  segments: CacheSegments, block: Cache, starts_B: Int[Array, 'B'], mesh: Any = None
) -> CacheSegments:
  """Stores a block's T tokens of row b at positions [starts_B[b], starts_B[b] + T), in place.

  `block` may have fewer rows than the segments: these are the first. On a mesh each device stores
  its own rows. No segment is shorter than a block.
  """
  new = to_segment(block, int8=segments[0].k_scale is not None)

  def store(b, segments, new, starts_B):
    row = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, b, 1, axis=1), new)
    if len(segments) == 1:
      return (_put(segments[0], row, b, starts_B[b]),)
    size = segments[0].v.shape[3]
    return tuple(_overlap(x, row, b, starts_B[b] - i * size) for i, x in enumerate(segments))

  def store_own(segments, new, starts_B):
    for b in range(starts_B.shape[0]):  # unrolled: libtpu 0.0.42 fails on the loop
      segments = store(b, segments, new, starts_B)
    return segments

  if mesh is None or mesh.size == 1 or new.v.shape[1] != segments[0].v.shape[1]:
    if packed_attention.platform_of(mesh) == 'tpu':
      return store_own(segments, new, starts_B)
    num_rows = starts_B.shape[0]
    return jax.lax.fori_loop(0, num_rows, lambda b, x: store(b, x, new, starts_B), segments)
  specs, new_specs = jax.tree.map(
    lambda x: activations.spec(mesh, x.shape, DIMENSIONS[: x.ndim]), (segments, new)
  )
  rows = activations.spec(mesh, starts_B.shape, ('rows',))
  return jax.shard_map(
    store_own, mesh=mesh, in_specs=(specs, new_specs, rows), out_specs=specs, check_vma=False
  )(segments, new, starts_B)


def store_prompt(segments: CacheSegments, prompt: Cache, row: Int[Array, '']) -> CacheSegments:
  """Stores a prompt's keys and values, a cache of one row, at the start of a row."""
  new, size = to_segment(prompt, int8=segments[0].k_scale is not None), segments[0].v.shape[3]

  def part(i):
    def cut(x, axis):
      return jax.lax.slice_in_dim(x, i * size, min((i + 1) * size, x.shape[axis]), axis=axis)

    return _by_time(cut, new)

  parts = [part(i) for i in range(-(-new.v.shape[3] // size))]
  placed = [_put(x, part, row, 0) for x, part in zip(segments, parts, strict=False)]
  return (*placed, *segments[len(placed) :])


def _by_time(change, *segments: CacheSegment) -> CacheSegment:
  """Maps `change(*arrays, axis of time)` over the arrays of one segment, or of several."""
  axes = {'k': 4, 'v': 3, 'k_scale': 3, 'v_scale': 3}

  def one(name):
    arrays = [getattr(x, name) for x in segments]
    return None if arrays[0] is None else change(*arrays, axes[name])

  return CacheSegment(**{name: one(name) for name in axes})


def _overlap(segment: CacheSegment, new: CacheSegment, row, position) -> CacheSegment:
  """`_put` of the overlap with a segment: `position` may lie before its start or past its end."""
  num_new, size = new.v.shape[3], segment.v.shape[3]
  at = jnp.clip(position, 0, size - num_new)
  from_new_T = jnp.arange(num_new) + at - position
  fresh_T = (from_new_T >= 0) & (from_new_T < num_new)

  def change(old, new, axis):
    begin = [0] * old.ndim
    begin[1], begin[axis] = row, at
    before = jax.lax.dynamic_slice(old, begin, new.shape)
    moved = jnp.roll(new, position - at, axis)
    fresh = jnp.expand_dims(fresh_T, [i for i in range(new.ndim) if i != axis])
    return _written(old, jnp.where(fresh, moved, before), begin)

  return _by_time(change, segment, new)


def _put(whole: CacheSegment, new: CacheSegment, row, position) -> CacheSegment:
  def change(old, new, axis):
    begin = [0] * old.ndim
    begin[1], begin[axis] = row, position
    return _written(old, new, begin)

  return _by_time(change, whole, new)


def _written(old, new, begin):
  """`dynamic_update_slice`, in place.

  XLA:CPU has none in bfloat16: it would convert all of `old` to float32 and back in every step. It
  writes the same bits as integers.
  """
  plain = jax.lax.dynamic_update_slice
  if old.dtype != jnp.bfloat16:
    return plain(old, new, begin)

  def as_integers(old, new, begin):
    bits, more = (jax.lax.bitcast_convert_type(x, jnp.uint16) for x in (old, new))
    return jax.lax.bitcast_convert_type(plain(bits, more, begin), old.dtype)

  begin = tuple(jnp.asarray(x, jnp.int32) for x in begin)
  return jax.lax.platform_dependent(old, new, begin, cpu=as_integers, default=plain)
