"""Cached attention of one new token: over earlier blocks, and over its own block.

The XLA reference slices one layer out of the cache, as far as it is filled. Kernels take all layers
and read one in place, each row as far as it is filled.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from lwz.model import activations, kv_cache
from lwz.model.attention import decode_mosaic, decode_triton
from lwz.model.attention import packed as packed_attention

BACKENDS = ('xla', 'mosaic', 'triton')
TILE = 64  # cached tokens that a CPU multiplies at a time without repacking them


def choose(
  backend: str, mesh: Mesh | AbstractMesh | None, head_dim: int, *, int8: bool = False
) -> str:
  """Returns the backend that runs for 'auto' or one of `BACKENDS`.

    xla     the reference, on every machine
    mosaic  TPU (Pallas)
    triton  GPU (Pallas)

  'auto' is XLA's: no kernel has been timed on the hardware that it is for. To decide, run there
  `benchmarks/rollout.py --engines lwz --model 1.5b --dtype bfloat16 --attention xla`, and the same
  with the kernel's name. Kernels named on a CPU run interpreted, for tests.
  Raises ValueError with the reason if the backend cannot run.
  """
  if backend == 'auto':
    return 'xla'
  if fault := refusal(backend, packed_attention.platform_of(mesh), head_dim, int8=int8):
    raise ValueError(f'attention {backend!r} cannot decode here: {fault}')
  return backend


def refusal(backend: str, platform: str, head_dim: int, *, int8: bool = False) -> str | None:
  """Returns the reason why this backend cannot run, or None if it can."""
  if backend == 'xla':
    return None
  if backend not in BACKENDS:
    return f'no such backend; choose one of auto, {", ".join(BACKENDS)}'
  homes = ('tpu',) if backend == 'mosaic' else packed_attention.GPUS
  if platform not in (*homes, 'cpu'):
    return f'it is a kernel for {homes[0]}, not for {platform}; choose xla'
  if int8:
    return 'it reads keys and values in the compute dtype, and these are kept in int8; choose xla'
  if backend == 'mosaic' and platform == 'tpu' and head_dim % decode_mosaic.LANES:
    return f'it would copy the values of a head_dim of {head_dim}, no multiple of 128; choose xla'
  if backend == 'triton':
    if not decode_triton.has_backend():
      return f'jax {jax.__version__} no longer compiles it; choose xla'
    if head_dim < decode_triton.LEAST or head_dim & (head_dim - 1):
      return (
        f'its head_dim is a power of two from {decode_triton.LEAST} on, not {head_dim}; choose xla'
      )
  return None


def over(
  segments: kv_cache.CacheSegments,
  lengths_B: Int[Array, 'B'],
  *,
  backend: str = 'xla',
  read_length: int,
  dtype: jax.typing.DTypeLike,
  unstacked: bool = False,
  mesh: Mesh | AbstractMesh | None = None,
) -> Callable:
  """(layer, q_B1HC, k_BKTC, v_BKTC, num_new) -> [B, 1, H, C]: `attend` over this cache.

  Work that depends on neither step nor layer is done here, before the loops that call it. On a mesh
  a kernel runs on each device's rows and key-value heads, for which B must be all rows.

  Args:
    segments: of all layers, of at least B rows; one for kernels.
    lengths_B: tokens of each row, at most `read_length`.
    backend: one of `BACKENDS`.
    read_length: maximum of `lengths_B`; the positions that XLA reads, rounded up to whole segments
      if there are several.
    dtype: of the computation.
    unstacked: whether the loop over layers is unrolled; a CPU then slices layers before the loop.
    mesh: None is one device.
  """
  if backend != 'xla':
    (segment,) = segments
    return _in_place(segment, lengths_B, backend, read_length, mesh)
  size = segments[0].v.shape[3]
  near = segments[: max(1, -(-read_length // size))]

  def of(layer):
    return [
      kv_cache.read_layer(x, layer, lengths_B.shape[0], min(read_length, size), dtype) for x in near
    ]

  if unstacked and packed_attention.platform_of(mesh) == 'cpu':
    of = [[*map(tile, of(layer))] for layer in range(segments[0].k.shape[0])].__getitem__

  @jax.named_scope('cached_attention')
  def attend_segments(layer, q_B1HC, *new):
    return attend(q_B1HC, of(layer), lengths_B, *new)

  return attend_segments


def _in_place(cache, lengths_B, backend, read_length, mesh) -> Callable:
  kernel = {'mosaic': decode_mosaic, 'triton': decode_triton}[backend]
  prepare = functools.partial(kernel.work, read_length=read_length)
  local = functools.partial(kernel.attend, interpret=packed_attention.platform_of(mesh) == 'cpu')
  if mesh is not None:  # also of one device, which alone says what Triton lowers for
    rows, heads = activations.spec(mesh, cache.k.shape, kv_cache.DIMENSIONS)[1:3]
    if rows is not None and lengths_B.shape[0] != cache.k.shape[1]:
      raise ValueError(
        f'{lengths_B.shape[0]} rows of {cache.k.shape[1]}, sharded over the mesh: pass all'
      )
    by_row, part = PartitionSpec(rows), PartitionSpec(rows, heads)
    kept, same = PartitionSpec(None, rows, heads), PartitionSpec()
    # check_vma: a Pallas kernel says nothing about the axes along which its results vary.
    shard = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
    prepare = shard(prepare, in_specs=(kept, by_row), out_specs=by_row)
    local = shard(local, in_specs=(part, kept, by_row, same, part, part, same), out_specs=part)
  work = prepare(cache, lengths_B)

  @jax.named_scope('cached_attention')
  def attend_in_place(layer, q_B1HC, k_BKTC, v_BKTC, num_new):
    B, _, H, C = q_B1HC.shape
    q_BKGC = q_B1HC.reshape(B, k_BKTC.shape[1], -1, C)
    layer, num_new = (jnp.asarray(x, jnp.int32) for x in (layer, num_new))
    return local(q_BKGC, cache, work, layer, k_BKTC, v_BKTC, num_new).reshape(B, 1, H, C)

  return attend_in_place


def tile(segment: kv_cache.CacheSegment) -> kv_cache.CacheSegment:
  """One layer with its keys in tiles of time, if `TILE` divides it: k [B, K, N, C, TILE].

  For CPUs, where the product of a few queries with a long matrix packs the matrix in every step.
  """
  if segment.k.shape[-1] % TILE:
    return segment
  B, K, C, S = segment.k.shape
  k_BKNCW = segment.k.reshape(B, K, C, S // TILE, TILE).swapaxes(2, 3)
  return kv_cache.CacheSegment(k=k_BKNCW, v=segment.v)


def attend(
  q_B1HC: Float[Array, 'B 1 H C'],
  segments: Sequence[kv_cache.CacheSegment],
  lengths_B: Int[Array, 'B'],
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  num_new: Int[Array, ''] | int,
) -> Float[Array, 'B 1 H C']:
  """softmax(q k^T / sqrt(C)) v over row b's first `lengths_B[b]` cached tokens and the block's.

  `segments` are of one layer, `tile`d or not. `num_new` of the block's tokens are written, the new
  one included, so that no query is without a key. One softmax over all parts, in float32, without
  concatenating them.
  """
  B, _, H, C = q_B1HC.shape
  K = k_BKTC.shape[1]
  lowest = jnp.finfo(jnp.float32).min
  q_BKGC = q_B1HC.reshape(B, K, H // K, C)
  new_BKGT = jnp.einsum('bkgc,bktc->bkgt', q_BKGC, k_BKTC, preferred_element_type=jnp.float32)
  mask_T = jnp.arange(k_BKTC.shape[2]) < num_new
  new_BKGT = jnp.where(mask_T[None, None, None, :], new_BKGT * C**-0.5, lowest)
  old, begin = [], 0
  for i, segment in enumerate(segments):
    # Powers of two change no bit. XLA for GPUs would merge products of the same q into one, and
    # concatenate the keys for it.
    old.append(_scores(q_BKGC * 2**i, segment, lengths_B - begin, C**-0.5 / 2**i))
    begin += segment.v.shape[2]
  tops = [jnp.max(x_BKNGW, axis=(2, 4), initial=lowest) for x_BKNGW in old]
  top_BKG = functools.reduce(jnp.maximum, tops, jnp.max(new_BKGT, axis=-1))
  old = [jnp.exp(x_BKNGW - top_BKG[:, :, None, :, None]) for x_BKNGW in old]
  new_BKGT = jnp.exp(new_BKGT - top_BKG[..., None])
  total_BKG = sum((jnp.sum(x, (2, 4)) for x in old), jnp.sum(new_BKGT, -1))
  dtype = v_BKTC.dtype
  mixed_BKGC = jnp.einsum(
    'bkgt,bktc->bkgc', new_BKGT.astype(dtype), v_BKTC, preferred_element_type=jnp.float32
  )
  for weights_BKNGW, segment in zip(old, segments, strict=True):
    N, W = weights_BKNGW.shape[2], weights_BKNGW.shape[4]
    mixed_BKGC += jnp.einsum(
      'bkngw,bknwc->bkgc',
      weights_BKNGW.astype(dtype),
      segment.v.reshape(B, K, N, W, C),
      preferred_element_type=jnp.float32,
    )
  return (mixed_BKGC / total_BKG[..., None]).astype(dtype).reshape(B, 1, H, C)


def _scores(q_BKGC, segment: kv_cache.CacheSegment, lengths_B, scale: float):
  """q k^T over one segment, scaled, [B, K, N, G, W] of N tiles; past a row's end the minimum."""
  B, K, G, C = q_BKGC.shape
  k_BKNCW = segment.k if segment.k.ndim == 5 else segment.k[:, :, None]
  N, W = k_BKNCW.shape[2], k_BKNCW.shape[4]
  q_BKNGC = jnp.broadcast_to(q_BKGC[:, :, None], (B, K, N, G, C))
  x_BKNGW = jnp.einsum('bkngc,bkncw->bkngw', q_BKNGC, k_BKNCW, preferred_element_type=jnp.float32)
  seen_BNW = (jnp.arange(N * W)[None, :] < lengths_B[:, None]).reshape(B, N, W)
  return jnp.where(seen_BNW[:, None, :, None, :], x_BKNGW * scale, jnp.finfo(jnp.float32).min)
