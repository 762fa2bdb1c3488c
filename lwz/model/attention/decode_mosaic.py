"""Decode attention on TPUs (Pallas, Mosaic): reads the filled part of the cache in place."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model import kv_cache

LANES = 128  # a block of tokens is a multiple of it
BLOCK = 2_048  # tokens, at most: a step of the grid costs as much as fetching half a MiB
BLOCK_BYTES = 2 * 2**20  # of a block's keys and values, of which two are in VMEM at a time

Work = tuple[Int[Array, 'B'], Int[Array, 'N'], Int[Array, 'N'], Int[Array, '1']]


def work(cache: kv_cache.CacheSegment, lengths_B: Int[Array, 'B'], read_length: int) -> Work:
  """(length of each row; row, block of it, of each step; number of steps), row after row.

  A row of length 0 has one step, in which no cached token is visible. `lengths_B` are the cached
  tokens of the first B rows, at most `read_length`.

  With blocks of 4, lengths 5, 0, 9 are rows 0 0 1 2 2 2, blocks 0 1 0 0 1 2.
  """
  block = _block(cache)
  num_B = jnp.maximum(-(-lengths_B // block), 1)
  ends_B = jnp.cumsum(num_B)
  step_N = jnp.arange(lengths_B.shape[0] * max(1, -(-read_length // block)), dtype=jnp.int32)
  done_NB = step_N[:, None] >= ends_B[None, :]
  row_N = jnp.minimum(jnp.sum(done_NB, axis=1), lengths_B.shape[0] - 1)
  begun_N = jnp.sum(jnp.where(done_NB, num_B[None, :], 0), axis=1)
  return lengths_B, row_N.astype(jnp.int32), step_N - begun_N.astype(jnp.int32), ends_B[-1:]


def attend(
  q_BKGC: Float[Array, 'B K G C'],
  cache: kv_cache.CacheSegment,
  work: Work,
  layer: Int[Array, ''] | int,
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  num_new: Int[Array, ''] | int,
  *,
  interpret: bool = False,
) -> Float[Array, 'B K G C']:
  """`decode_attention.attend`, the queries by key-value head, over one layer of all.

  The grid is as long as the work: blocks beyond a row's end are not fetched, except for one of an
  empty row. Values beyond a row's end in its last block have no effect, even if they are NaN.
  `interpret` runs the kernel on a CPU, for tests.
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import tpu as pltpu

  _, K, G, C = q_BKGC.shape
  heads, block = _heads(K), _block(cache)
  lengths_B, rows_N, blocks_N, num_1 = work
  read = len(rows_N) * block  # tokens of all rows, at most

  def of_row(size):
    return pl.BlockSpec((None, heads, size, C), lambda h, n, *at: (at[3][n], h, 0, 0))

  def keys(h, n, layer, _, __, rows, blocks):
    return layer[0], rows[n], h, 0, blocks[n]

  def values(h, n, layer, _, __, rows, blocks):
    return layer[0], rows[n], h, blocks[n], 0

  return pl.pallas_call(
    functools.partial(_kernel, scale=C**-0.5),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=5,
      grid=(K // heads, num_1[0]),
      in_specs=[
        of_row(G),
        of_row(k_BKTC.shape[2]),
        of_row(k_BKTC.shape[2]),
        pl.BlockSpec((None, None, heads, C, block), keys),
        pl.BlockSpec((None, None, heads, block, C), values),
      ],
      out_specs=of_row(G),
      scratch_shapes=[pltpu.VMEM((heads, G, size), jnp.float32) for size in (C, 1, 1)],
    ),
    out_shape=jax.ShapeDtypeStruct(q_BKGC.shape, v_BKTC.dtype),
    compiler_params=pltpu.CompilerParams(dimension_semantics=('parallel', 'arbitrary')),
    cost_estimate=cost(q_BKGC, cache, read),
    interpret=interpret,
    name='decode_attention',
  )(
    *(jnp.asarray(x, jnp.int32).reshape(1) for x in (layer, num_new)),
    *(lengths_B, rows_N, blocks_N, q_BKGC, k_BKTC, v_BKTC, cache.k, cache.v),
  )


def cost(q_BKGC: Float[Array, 'B K G C'], cache: kv_cache.CacheSegment, num_tokens: int) -> Any:
  """Cost estimate of attention over `num_tokens` cached tokens of all rows together."""
  from jax.experimental import pallas as pl

  _, K, G, C = q_BKGC.shape
  return pl.CostEstimate(
    flops=4 * K * G * C * num_tokens,
    bytes_accessed=2 * K * C * num_tokens * cache.k.dtype.itemsize,
    transcendentals=K * G * num_tokens,
  )


def _heads(num_heads: int) -> int:
  """Heads of a grid step: half of them if the two cores of a chip can share them."""
  return num_heads if num_heads % 2 else num_heads // 2


def _block(cache: kv_cache.CacheSegment) -> int:
  """Tokens of a grid step: a power of two times `LANES`, less than twice the capacity."""
  token_bytes = 2 * _heads(cache.v.shape[2]) * cache.v.shape[4] * cache.v.dtype.itemsize
  block = BLOCK
  while block > LANES and (block * token_bytes > BLOCK_BYTES or block // 2 >= cache.v.shape[3]):
    block //= 2
  return block


def _kernel(
  layer,
  num_new,
  ends_B,
  rows_N,
  blocks_N,
  q_ref,
  k_new_ref,
  v_new_ref,
  k_ref,
  v_ref,
  out_ref,
  mixed_ref,
  top_ref,
  total_ref,
  *,
  scale,
):
  """One block of one row: queries [heads, G, C], keys [heads, C, S], values [heads, S, C].

  The sums stay in VMEM from a row's new tokens, which come first, to its last block.
  """
  from jax.experimental import pallas as pl

  n = pl.program_id(1)
  heads, _, num_tokens = k_ref.shape
  left = ends_B[rows_N[n]] - blocks_N[n] * num_tokens

  def add(head, scores_GS, v_SC, num=None):
    """Adds tokens to a head's sums; with `num`, only the first `num` of them."""
    if num is not None:  # values beyond may be NaN, which 0 * value keeps
      seen_1S = jax.lax.broadcasted_iota(jnp.int32, (1, v_SC.shape[0]), 1) < num
      seen_S1 = jax.lax.broadcasted_iota(jnp.int32, (v_SC.shape[0], 1), 0) < num
      scores_GS = jnp.where(seen_1S, scores_GS, -jnp.inf)
      v_SC = jnp.where(seen_S1, v_SC, jnp.zeros_like(v_SC))
    before_G1 = top_ref[head]
    top_G1 = jnp.maximum(before_G1, jnp.max(scores_GS, axis=1, keepdims=True))
    weights_GS = jnp.exp(scores_GS - top_G1)
    kept_G1 = jnp.exp(before_G1 - top_G1)
    mixed_GC = jnp.dot(weights_GS.astype(v_SC.dtype), v_SC, preferred_element_type=jnp.float32)
    mixed_ref[head] = mixed_ref[head] * kept_G1 + mixed_GC
    total_ref[head] = total_ref[head] * kept_G1 + jnp.sum(weights_GS, axis=1, keepdims=True)
    top_ref[head] = top_G1

  @pl.when(blocks_N[n] == 0)
  def begin():
    mixed_ref[...] = jnp.zeros(mixed_ref.shape, jnp.float32)
    total_ref[...] = jnp.zeros(total_ref.shape, jnp.float32)
    top_ref[...] = jnp.full(top_ref.shape, jnp.finfo(jnp.float32).min)
    for head in range(heads):
      scores_GT = jax.lax.dot_general(
        *(q_ref[head], k_new_ref[head], (((1,), (1,)), ((), ()))),
        preferred_element_type=jnp.float32,
      )
      add(head, scores_GT * scale, v_new_ref[head], num_new[0])

  def add_cache(num=None):
    for head in range(heads):
      scores_GS = jnp.dot(q_ref[head], k_ref[head], preferred_element_type=jnp.float32)
      add(head, scores_GS * scale, v_ref[head], num)

  jax.lax.cond(left >= num_tokens, add_cache, lambda: add_cache(left))

  @pl.when(left <= num_tokens)
  def end():
    for head in range(heads):
      out_ref[head] = (mixed_ref[head] / total_ref[head]).astype(out_ref.dtype)
