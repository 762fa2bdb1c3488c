"""Decode attention on GPUs (Pallas, Triton): reads the filled part of the cache in place."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model import kv_cache
from lwz.model.attention import decode_mosaic

BLOCK = 64  # tokens that a program reads at a time
LEAST = 16  # rows and columns of a product, at least
PROGRAMS = 512  # at most: a few for each multiprocessor


def has_backend() -> bool:
  """Whether this jax compiles kernels by Triton, deprecated in 0.11 (changelog of Pallas)."""
  return importlib.util.find_spec('jax.experimental.pallas.triton') is not None


def work(
  cache: kv_cache.CacheSegment, lengths_B: Int[Array, 'B'], read_length: int
) -> tuple[Int[Array, 'B']]:
  """As `decode_mosaic.work`; here programs find their part from the length of a row."""
  return (lengths_B,)


def attend(
  q_BKGC: Float[Array, 'B K G C'],
  cache: kv_cache.CacheSegment,
  work: tuple[Int[Array, 'B']],
  layer: Int[Array, ''] | int,
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  num_new: Int[Array, ''] | int,
  *,
  interpret: bool = False,
) -> Float[Array, 'B K G C']:
  """As `decode_mosaic.attend`.

  N programs share a row and head, so that a small batch occupies the GPU as well: program n reads
  blocks n, n + N, ... of the filled ones, program 0 the new tokens too. Queries are padded to the
  minimum size of a product.
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import triton as plgpu

  B, K, G, C = q_BKGC.shape
  cost = decode_mosaic.cost(q_BKGC, cache, B * cache.v.shape[3])
  rows = _power_of_two(G)
  q_BKGC = jnp.pad(q_BKGC, ((0, 0), (0, 0), (0, rows - G), (0, 0)))
  N = max(1, min(-(-cache.v.shape[3] // BLOCK), PROGRAMS // (B * K)))
  shapes = (N, B, K, rows, C), (N, B, K, rows), (N, B, K, rows)
  mixed_NBKGC, top_NBKG, total_NBKG = pl.pallas_call(
    functools.partial(_kernel, scale=C**-0.5),
    grid=(N, B, K),
    out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
    cost_estimate=cost,
    compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=3),
    interpret=interpret,
    name='decode_attention',
  )(
    *(jnp.asarray(x, jnp.int32).reshape(1) for x in (layer, num_new)),
    *(*work, q_BKGC, k_BKTC, v_BKTC, cache.k, cache.v),
  )
  weight_NBKG = jnp.exp(top_NBKG - jnp.max(top_NBKG, axis=0, keepdims=True))
  total_BKG = jnp.sum(total_NBKG * weight_NBKG, axis=0)
  mixed_BKGC = jnp.sum(mixed_NBKGC * weight_NBKG[..., None], axis=0) / total_BKG[..., None]
  return mixed_BKGC[:, :, :G].astype(v_BKTC.dtype)


def _power_of_two(num: int) -> int:
  """The smallest size of a product that holds `num`."""
  return max(LEAST, 1 << (num - 1).bit_length())


def _kernel(
  layer,
  num_new,
  ends_B,
  q_BKGC,
  k_new_BKTC,
  v_new_BKTC,
  k_LBKCS,
  v_LBKSC,
  mixed_NBKGC,
  top_NBKG,
  total_NBKG,
  *,
  scale,
):
  """Some blocks of one row and head. The refs are whole arrays, of which slices are loaded.

  Sums are max s, sum exp(s - max s) and sum exp(s - max s) v; of no tokens the lowest number, 0, 0.
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import triton as plgpu

  n, b, h = (pl.program_id(axis) for axis in range(3))
  N = pl.num_programs(0)
  _, _, rows, C = q_BKGC.shape
  lowest = jnp.finfo(jnp.float32).min
  q_GC, end = q_BKGC[b, h], ends_B[b]

  def load(ref, seen, shape):
    return plgpu.load(ref, mask=jnp.broadcast_to(seen, shape), other=0.0)

  def add(sums, seen_S, k_CS, v_SC):
    mixed_GC, before_G, total_G = sums
    scores_GS = jnp.where(seen_S[None, :], plgpu.dot(q_GC, k_CS) * scale, -jnp.inf)
    top_G = jnp.maximum(before_G, jnp.max(scores_GS, axis=1))
    weights_GS = jnp.exp(scores_GS - top_G[:, None])
    kept_G = jnp.exp(before_G - top_G)
    mixed_GC = mixed_GC * kept_G[:, None] + plgpu.dot(weights_GS.astype(v_SC.dtype), v_SC)
    return mixed_GC, top_G, total_G * kept_G + jnp.sum(weights_GS, axis=1)

  def add_cache(i, sums):
    at = pl.ds((n + i * N) * BLOCK, BLOCK)
    seen_S = at.start + jnp.arange(BLOCK) < end
    k_CS = load(k_LBKCS.at[layer[0], b, h, :, at], seen_S[None, :], (C, BLOCK))
    v_SC = load(v_LBKSC.at[layer[0], b, h, at], seen_S[:, None], (BLOCK, C))
    return add(sums, seen_S, k_CS, v_SC)

  sums = jnp.zeros((rows, C), jnp.float32), jnp.full((rows,), lowest), jnp.zeros((rows,))
  T = _power_of_two(k_new_BKTC.shape[2])
  seen_T = jnp.arange(T) < jnp.where(n == 0, num_new[0], 0)
  k_TC, v_TC = (
    load(ref.at[b, h, pl.ds(0, T)], seen_T[:, None], (T, C)) for ref in (k_new_BKTC, v_new_BKTC)
  )
  sums = add(sums, seen_T, k_TC.T, v_TC)
  own = pl.cdiv(jnp.maximum(pl.cdiv(end, BLOCK) - n, 0), N)
  mixed_GC, top_G, total_G = jax.lax.fori_loop(0, own, add_cache, sums)
  mixed_NBKGC[n, b, h] = mixed_GC
  top_NBKG[n, b, h] = top_G
  total_NBKG[n, b, h] = total_G
