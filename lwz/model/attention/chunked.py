"""Packed attention in blocks of queries: plain XLA on every backend, memory O(block x T).

Scores of one block exist at a time, and the backward pass computes them again.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model.attention import reference as reference_attention

BLOCK = 128  # queries; with the G query heads of a key-value head, G x 128 rows of one product
# A span of queries computes scores against the keys up to its own end, masked ones included: with n
# spans (n + 1) / 2n of the full square, and n programs to compile.
SPANS = 4


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

  A traced `offset` (of the device along a mesh axis) costs the full square.
  """
  dtype, num_tokens, num_keys = k_BKSC.dtype, q_BTHC.shape[1], k_BKSC.shape[2]
  block = min(block, -(-num_tokens // SPANS))  # so that short rows have their spans, too
  # Gradients of keys and values are sums over blocks: in the dtype of what the blocks share.
  k32, v32 = k_BKSC.astype(jnp.float32), v_BKSC.astype(jnp.float32)

  def span(first, last, end):
    """Queries first ... last against the keys before `end`."""

    def one(of_block):
      q_BtHC, segments_Bt, start = of_block
      mask_BtS = reference_attention.causal_mask(
        segments_Bt, kv_segments_BS[:, :end], offset + start
      )
      keys, values = k32[:, :, :end].astype(dtype), v32[:, :, :end].astype(dtype)
      return reference_attention.attend(q_BtHC, keys, values, mask_BtS)

    q_nBtHC, segments_nBt = (_blocks(x[:, first:last], block) for x in (q_BTHC, q_segments_BT))
    starts_n = first + block * jnp.arange(q_nBtHC.shape[0])
    again = jax.checkpoint(one, prevent_cse=False)  # the loop keeps the two computations apart
    out_nBtHC = jax.lax.map(again, (q_nBtHC, segments_nBt, starts_n))
    return jnp.moveaxis(out_nBtHC, 0, 1).reshape(q_BTHC.shape[0], -1, *q_BTHC.shape[2:])

  length = block * -(-num_tokens // (block * SPANS))
  if not isinstance(offset, int):
    return span(0, num_tokens, num_keys)[:, :num_tokens]
  outs = [
    span(first, first + length, offset + first + length) for first in range(0, num_tokens, length)
  ]
  return jnp.concatenate(outs, axis=1)[:, :num_tokens]


def _blocks(x: jax.Array, block: int) -> jax.Array:
  """[B, T, ...] -> [n, B, block, ...], with zeros after the last token."""
  x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), *((0, 0),) * (x.ndim - 2)))
  return jnp.moveaxis(x.reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)
