"""Packed attention in blocks of queries: plain XLA on every backend, memory O(block x T).

Scores of one block exist at a time. The backward pass computes them again, from what the forward
pass keeps of each query, the logarithm of its normaliser (FlashAttention-2, arXiv 2307.08691,
algorithms 1 and 2). With p = exp(s - log z), o = p v, and do the gradient of o,

  dv = p^T do      ds = p (do v^T - sum(do o))      dq = ds k / sqrt(C)      dk = ds^T q / sqrt(C)
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from lwz.model.attention import reference as reference_attention

BLOCK = 128  # queries; with the G query heads of a key-value head, G x 128 rows of one product
# A span of queries computes scores against the keys up to its own end, masked ones included: with n
# spans (n + 1) / 2n of the full square, and n programs to compile.
SPANS = 4
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
  """`attention.attend` under `attention.causal_mask`, at most `block` queries at a time.

  A traced `offset` (of the device along a mesh axis) costs the full square. Every query sees a key,
  itself: gradients of one that sees none mean nothing.
  """
  block = min(block, -(-q_BTHC.shape[1] // SPANS))  # so that short rows have their spans, too
  known = offset if isinstance(offset, int) else None
  return _attend(q_BTHC, k_BKSC, v_BKSC, q_segments_BT, kv_segments_BS, offset, block, known)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, block, known):
  return _save(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, block, known)[0]


def _save(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, block, known):
  """Returns the mixed values and what the backward pass reads."""
  T, H = q_BTHC.shape[1:3]
  mixed, log_z = [], []
  for first, last, end in _spans(T, k_BKSC.shape[2], block, known):
    keys, values = k_BKSC[:, :, :end], v_BKSC[:, :, :end]

    def one(of_block, keys=keys, values=values, seen=kv_segments[:, :end]):
      start, q_BtHC, segments_Bt = of_block
      scores_BKRS = _scores(q_BtHC, keys, segments_Bt, seen, offset + start)
      top_BKR1 = jnp.max(scores_BKRS, axis=-1, keepdims=True)
      weights_BKRS = jnp.exp(scores_BKRS - top_BKR1)
      total_BKR1 = jnp.sum(weights_BKRS, axis=-1, keepdims=True)
      mixed_BKRC = _product('bkrs,bksc->bkrc', weights_BKRS.astype(values.dtype), values)
      mixed_BtHC = reference_attention.ungrouped((mixed_BKRC / total_BKR1).astype(values.dtype), H)
      return mixed_BtHC, top_BKR1 + jnp.log(total_BKR1)

    blocks = (_blocks(x[:, first:last], block) for x in (q_BTHC, q_segments))
    mixed_nBtHC, log_z_nBKR1 = jax.lax.map(one, (_starts(first, last, block), *blocks))
    mixed.append(_joined(mixed_nBtHC)[:, : last - first])
    log_z.append(checkpoint_name(log_z_nBKR1, KEPT))
  mixed_BTHC = checkpoint_name(jnp.concatenate(mixed, axis=1), KEPT)
  saved = q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, mixed_BTHC, tuple(log_z)
  return mixed_BTHC, saved


def _differentiate(block, known, saved, dmixed_BTHC):
  q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset, mixed_BTHC, log_z = saved
  (T, H), (K, S) = q_BTHC.shape[1:3], k_BKSC.shape[1:3]
  pull_BTH1 = jnp.sum(
    dmixed_BTHC.astype(jnp.float32) * mixed_BTHC.astype(jnp.float32), axis=-1, keepdims=True
  )
  # Gradients of keys and values are sums over blocks, in float32.
  dkeys, dvalues = (jnp.zeros(x.shape, jnp.float32) for x in (k_BKSC, v_BKSC))
  dq = []
  for (first, last, end), log_z_nBKR1 in zip(_spans(T, S, block, known), log_z, strict=True):
    keys, values = k_BKSC[:, :, :end], v_BKSC[:, :, :end]

    def one(sums, of_block, keys=keys, values=values, seen=kv_segments[:, :end]):
      start, q_BtHC, segments_Bt, dmixed_BtHC, pull_BtH1, log_z_BKR1 = of_block
      q_BKRC, dmixed_BKRC, pull_BKR1 = (
        reference_attention.grouped(x, K) for x in (q_BtHC, dmixed_BtHC, pull_BtH1)
      )
      scores_BKRS = _scores(q_BtHC, keys, segments_Bt, seen, offset + start)
      probs_BKRS = jnp.exp(scores_BKRS - log_z_BKR1)
      dprobs_BKRS = _product('bkrc,bksc->bkrs', dmixed_BKRC, values)
      dscores_BKRS = probs_BKRS * (dprobs_BKRS - pull_BKR1) * q_BtHC.shape[-1] ** -0.5
      probs_BKRS, dscores_BKRS = (x.astype(values.dtype) for x in (probs_BKRS, dscores_BKRS))
      dkeys_BKSC, dvalues_BKSC = sums
      dkeys_BKSC += _product('bkrs,bkrc->bksc', dscores_BKRS, q_BKRC)
      dvalues_BKSC += _product('bkrs,bkrc->bksc', probs_BKRS, dmixed_BKRC)
      dq_BKRC = _product('bkrs,bksc->bkrc', dscores_BKRS, keys).astype(q_BtHC.dtype)
      return (dkeys_BKSC, dvalues_BKSC), reference_attention.ungrouped(dq_BKRC, H)

    blocks = [
      _blocks(x[:, first:last], block) for x in (q_BTHC, q_segments, dmixed_BTHC, pull_BTH1)
    ]
    sums, dq_nBtHC = jax.lax.scan(
      one,
      (dkeys[:, :, :end], dvalues[:, :, :end]),
      (_starts(first, last, block), *blocks, log_z_nBKR1),
    )
    dkeys, dvalues = (x.at[:, :, :end].set(y) for x, y in zip((dkeys, dvalues), sums, strict=True))
    dq.append(_joined(dq_nBtHC)[:, : last - first])
  dkeys, dvalues = dkeys.astype(k_BKSC.dtype), dvalues.astype(v_BKSC.dtype)
  return jnp.concatenate(dq, axis=1), dkeys, dvalues, None, None, None


_attend.defvjp(_save, _differentiate)


def _spans(num_tokens: int, num_keys: int, block: int, offset: int | None):
  """(first query, query after the last, key after the last that they see) of each span."""
  if offset is None:
    return [(0, num_tokens, num_keys)]
  length = block * -(-num_tokens // (block * SPANS))
  firsts = range(0, num_tokens, length)
  return [(i, min(i + length, num_tokens), min(offset + i + length, num_keys)) for i in firsts]


def _scores(q_BtHC, k_BKSC, q_segments, kv_segments, start):
  mask_BtS = reference_attention.causal_mask(q_segments, kv_segments, start)
  return reference_attention.scores(q_BtHC, k_BKSC, mask_BtS)


def _starts(first: int, last: int, block: int) -> jax.Array:
  return first + block * jnp.arange(-(-(last - first) // block))


def _blocks(x: jax.Array, block: int) -> jax.Array:
  """[B, T, ...] -> [n, B, block, ...], with zeros after the last token."""
  x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), *((0, 0),) * (x.ndim - 2)))
  return jnp.moveaxis(x.reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)


def _joined(x_nBt: jax.Array) -> jax.Array:
  """[n, B, block, ...] -> [B, n * block, ...]."""
  x_Bnt = jnp.moveaxis(x_nBt, 0, 1)
  return x_Bnt.reshape(x_Bnt.shape[0], -1, *x_Bnt.shape[3:])
