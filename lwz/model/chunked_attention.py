"""Packed attention in blocks of queries: plain XLA on every backend, memory O(block x T).

Scores of one block exist at a time, and the backward pass computes them again.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model import attention

BLOCK = 128  # queries; with the G query heads of a key-value head, G x 128 rows of one product


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
  """`attention.attend` under `attention.causal_mask`, `block` queries at a time."""
  num_rows, num_tokens = q_segments_BT.shape
  num_blocks = -(-num_tokens // block)
  padding = num_blocks * block - num_tokens

  def blocks(x):
    x = jnp.pad(x, ((0, 0), (0, padding), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(num_rows, num_blocks, block, *x.shape[2:]), 1, 0)

  # Gradients of keys and values are sums over blocks: in the dtype of what the blocks share.
  k32, v32 = k_BKSC.astype(jnp.float32), v_BKSC.astype(jnp.float32)

  def one(of_block):
    q_BtHC, segments_Bt, start = of_block
    mask_BtS = attention.causal_mask(segments_Bt, kv_segments_BS, offset + start)
    return attention.attend(q_BtHC, k32.astype(k_BKSC.dtype), v32.astype(v_BKSC.dtype), mask_BtS)

  starts = block * jnp.arange(num_blocks)
  out = jax.lax.map(
    jax.checkpoint(one, prevent_cse=False), (blocks(q_BTHC), blocks(q_segments_BT), starts)
  )
  return jnp.moveaxis(out, 0, 1).reshape(num_rows, -1, *q_BTHC.shape[2:])[:, :num_tokens]
