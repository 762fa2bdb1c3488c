"""Packed attention in pairs of blocks: plain XLA on every backend, memory O(T).

An online softmax goes over the pairs of a block of queries and a block of keys, and holds the
scores of one pair (FlashAttention-2, arXiv 2307.08691, algorithms 1 and 2). The backward pass
computes them again, from what the forward pass keeps of each query, the logarithm of its
normaliser. With p = exp(s - log z), o = p v, and do the gradient of o,

  dv = p^T do      ds = p (do v^T - sum(do o))      dq = ds k / sqrt(C)      dk = ds^T q / sqrt(C)

Pairs above the diagonal, and those in which no documents meet, are no steps of the loop.
Below, t counts the queries of a block and s its keys.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from lwz.model.attention import reference as reference_attention

BLOCK = 128  # keys and queries of a block, at most: scores of a pair stay in the cache of a CPU
BLOCKS = 4  # of a row, at least: with n blocks, (n + 1) / 2n of its square are computed
CACHED = 2**19  # scores of a pair, at most, for a forward pass to take twice the keys: 2 MiB
KEPT = 'attention'  # the name of results that a policy of `jax.checkpoint` may keep

_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def attend(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKSC: Float[Array, 'B K S C'],
  v_BKSC: Float[Array, 'B K S C'],
  q_segments_BT: Int[Array, 'B T'],
  kv_segments_BS: Int[Array, 'B S'],
  offset: Int[Array, ''] | int = 0,
  *,
  block: int = BLOCK,
) -> Float[Array, 'B T H C']:
  """`reference.attend` under `reference.causal_mask`, in blocks of at most `block` tokens.

  A traced `offset` is of the device along a mesh axis, or of a chunk of a prompt. Every query sees
  a key, itself: results of one that sees none mean nothing.
  """
  num_keys = min(block, 8 * -(-k_BKSC.shape[2] // (8 * BLOCKS)))
  sizes = min(num_keys, q_BTHC.shape[1]), num_keys
  known = offset if isinstance(offset, int) else None
  return _attend(q_BTHC, k_BKSC, v_BKSC, q_segments_BT, kv_segments_BS, offset, sizes, known)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, sizes, known):
  return _save(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, sizes, known)[0]


def _save(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, sizes, known):
  """Returns the mixed values and what the backward pass reads."""
  (B, K), (t, s) = k_BKSC.shape[:2], sizes
  # It holds one array of scores, the backward pass several: fewer, larger products are faster.
  s *= 2 if s == BLOCK and B * q_BTHC.shape[2] * t * 2 * s <= CACHED else 1
  q_BKGTC, keys, values = _grouped(q_BTHC, K, t), _padded(k_BKSC, 2, s), _padded(v_BKSC, 2, s)
  k_BKCS = keys.swapaxes(2, 3)  # as the product reads them: turned once, not in every pair
  scores, pairs = _pairs(q_segments, kv_segments, offset, (t, s), known)

  def add(i, j, carry):
    # What a block of queries has so far is carried, not read back: XLA would copy whole arrays.
    before, now, kept = carry
    top_BKGt1, total_BKGt1, mixed_BKGtC = (
      jnp.where(i == before, x, begin) for x, begin in zip(now, (lowest, 0.0, 0.0), strict=True)
    )
    scores_BKGts = scores(i, j, _cut(q_BKGTC, i, t), _cut(k_BKCS, j, s, -1))
    higher_BKGt1 = jnp.maximum(top_BKGt1, jnp.max(scores_BKGts, axis=-1, keepdims=True))
    weights_BKGts = jnp.exp(scores_BKGts - higher_BKGt1)
    left_BKGt1 = jnp.exp(top_BKGt1 - higher_BKGt1)
    total_BKGt1 = left_BKGt1 * total_BKGt1 + jnp.sum(weights_BKGts, axis=-1, keepdims=True)
    weights_BKGts = weights_BKGts.astype(v_BKSC.dtype)
    new_BKGtC = _product('bkgts,bksc->bkgtc', weights_BKGts, _cut(values, j, s))
    now = higher_BKGt1, total_BKGt1, left_BKGt1 * mixed_BKGtC + new_BKGtC
    return i, now, tuple(_put(x, part, i, t) for x, part in zip(kept, now, strict=True))

  lowest = float(jnp.finfo(jnp.float32).min)
  kept = tuple(jnp.zeros((*q_BKGTC.shape[:-1], n), jnp.float32) for n in (1, 1, q_BKGTC.shape[-1]))
  _, _, (top, total, mixed) = _fold(
    add, (jnp.int32(-1), tuple(_cut(x, 0, t) for x in kept), kept), pairs
  )
  mixed_BTHC = _ungrouped((mixed / total).astype(v_BKSC.dtype), q_BTHC.shape)
  mixed_BTHC = checkpoint_name(mixed_BTHC, KEPT)
  log_z = checkpoint_name(top + jnp.log(total), KEPT)
  return mixed_BTHC, (q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, mixed_BTHC, log_z)


def _differentiate(sizes, known, saved, dmixed_BTHC):
  q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, mixed_BTHC, log_z = saved
  (_, K, S, C), (t, s) = k_BKSC.shape, sizes
  pull_BTH1 = jnp.sum(
    dmixed_BTHC.astype(jnp.float32) * mixed_BTHC.astype(jnp.float32), axis=-1, keepdims=True
  )
  q_BKGTC, dmixed, pull = (_grouped(x, K, t) for x in (q_BTHC, dmixed_BTHC, pull_BTH1))
  keys, values = _padded(k_BKSC, 2, s), _padded(v_BKSC, 2, s)
  scores, pairs = _pairs(q_segments, kv_segments, offset, sizes, known)

  def add(i, j, sums):
    q_BKGtC, dmixed_BKGtC = _cut(q_BKGTC, i, t), _cut(dmixed, i, t)
    k_BKsC, v_BKsC = _cut(keys, j, s), _cut(values, j, s)
    probs_BKGts = jnp.exp(scores(i, j, q_BKGtC, k_BKsC.swapaxes(2, 3)) - _cut(log_z, i, t))
    dprobs_BKGts = _product('bkgtc,bksc->bkgts', dmixed_BKGtC, v_BKsC)
    dscores_BKGts = probs_BKGts * (dprobs_BKGts - _cut(pull, i, t)) * C**-0.5
    probs_BKGts, dscores_BKGts = (x.astype(v_BKsC.dtype) for x in (probs_BKGts, dscores_BKGts))
    dq, dk, dv = sums
    new_dq = _product('bkgts,bksc->bkgtc', dscores_BKGts, k_BKsC)
    new_dk = _product('bkgts,bkgtc->bksc', dscores_BKGts, q_BKGtC)
    new_dv = _product('bkgts,bkgtc->bksc', probs_BKGts, dmixed_BKGtC)
    return (
      _put(dq, _cut(dq, i, t) + new_dq, i, t),
      _put(dk, _cut(dk, j, s) + new_dk, j, s),
      _put(dv, _cut(dv, j, s) + new_dv, j, s),
    )

  # Gradients are sums over blocks, in float32.
  start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q_BKGTC, keys, values))
  dq, *dkv = _fold(add, start, pairs)
  dk, dv = (x[:, :, :S].astype(k_BKSC.dtype) for x in dkv)
  return _ungrouped(dq.astype(q_BTHC.dtype), q_BTHC.shape), dk, dv, None, None, None


_attend.defvjp(_save, _differentiate)


def _pairs(q_segments_BT, kv_segments_BS, offset, sizes: tuple[int, int], known: int | None):
  """Returns (scores of a pair; the pairs i, j, those in which a query may see a key first, and the
  number of these)."""
  (B, T), (t, s) = q_segments_BT.shape, sizes
  # Padding continues the last document, so that no other is read for it; causality hides it.
  q_Bnt, kv_Bms = (
    jnp.pad(x, ((0, 0), (0, -x.shape[1] % size)), mode='edge').reshape(B, -1, size)
    for x, size in ((q_segments_BT, t), (kv_segments_BS, s))
  )
  i, j = np.indices((q_Bnt.shape[1], kv_Bms.shape[1]), np.int32).reshape(2, -1)
  if known is not None:
    below = s * j < known + np.minimum(t * (i + 1), T)
    i, j = i[below], j[below]
  # Blocks share a document only if the ranges of their numbers overlap.
  (q_low, q_high), (kv_low, kv_high) = (
    (jnp.min(x, axis=2)[:, at], jnp.max(x, axis=2)[:, at]) for x, at in ((q_Bnt, i), (kv_Bms, j))
  )
  meet_N = jnp.any((q_low <= kv_high) & (kv_low <= q_high), axis=0)

  def scores(i, j, q_BKGtC, k_BKCs):
    q_Bt, kv_Bs = (
      jax.lax.dynamic_index_in_dim(x, at, 1, keepdims=False) for x, at in ((q_Bnt, i), (kv_Bms, j))
    )
    mask_Bts = reference_attention.causal_mask(q_Bt, kv_Bs, offset + t * i - s * j)
    scores_BKGts = _product('bkgtc,bkcs->bkgts', q_BKGtC, k_BKCs) * q_BKGtC.shape[-1] ** -0.5
    return jnp.where(mask_Bts[:, None, None], scores_BKGts, jnp.finfo(jnp.float32).min)

  seen_N = meet_N & (s * j < offset + t * (i + 1))
  order_N = jnp.argsort(~seen_N, stable=True)
  return scores, (jnp.asarray(i)[order_N], jnp.asarray(j)[order_N], jnp.sum(seen_N))


def _fold(add, start, pairs):
  """`add(i, j, kept)` over the pairs that are seen."""
  i_N, j_N, num = pairs

  def go_on(carry):
    return (carry[0] < num) & (carry[0] < len(i_N))  # the bound that costs are counted by

  def step(carry):
    n, kept = carry
    return n + 1, add(i_N[n], j_N[n], kept)

  return jax.lax.while_loop(go_on, step, (0, start))[1]


def _cut(x, i, size: int, axis: int = -2):
  """Block `i` along time."""
  return jax.lax.dynamic_slice_in_dim(x, i * size, size, x.ndim + axis)


def _put(x, part, i, size: int):
  """`x` with block `i` along time replaced, in place."""
  return jax.lax.dynamic_update_slice_in_dim(x, part, i * size, x.ndim - 2)


def _padded(x, dimension: int, size: int):
  """`x` with zeros up to whole blocks."""
  widths = [(0, 0)] * x.ndim
  widths[dimension] = (0, -x.shape[dimension] % size)
  return jnp.pad(x, widths)


def _grouped(x_BTHC, num_kv_heads: int, size: int):
  """[B, K, G, T, C]: the query heads of each key-value head, in whole blocks."""
  x_BTHC = _padded(x_BTHC, 1, size)
  B, T, _, C = x_BTHC.shape
  return reference_attention.grouped(x_BTHC, num_kv_heads).reshape(B, num_kv_heads, -1, T, C)


def _ungrouped(x_BKGTC, shape):
  """The inverse of `_grouped`, of this shape [B, T, H, C]."""
  B, T, H, C = shape
  return reference_attention.ungrouped(x_BKGTC.reshape(B, x_BKGTC.shape[1], -1, C), H)[:, :T]
