"""Packed attention by JAX's splash kernel for TPUs (Pallas), forward and fused backward.

Blocks of keys that no query of a block may see are never computed.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LANES = 128  # every block of the kernel is a multiple of it
# Largest blocks. The backward pass holds one copy of the queries' gradient per block of keys, so
# those are long, and computed in parts.
BLOCK, BLOCK_KEYS_BACKWARD = 512, 2048


def attend(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKSC: Float[Array, 'B K S C'],
  v_BKSC: Float[Array, 'B K S C'],
  q_segments_BT: Int[Array, 'B T'] | None,
  kv_segments_BS: Int[Array, 'B S'] | None,
  offset: Int[Array, ''] | int = 0,
  *,
  first: int = 0,
  interpret: bool = False,
) -> Float[Array, 'B T H C']:
  """As `chunked_attention.attend`; segments of None mean that each row is one document.

  A traced `offset` (of the device along a mesh axis) is `first` and a multiple of T: one kernel is
  compiled for each, and the device selects its own.
  """
  num_tokens = q_BTHC.shape[1]
  args = (q_BTHC, k_BKSC, v_BKSC, q_segments_BT, kv_segments_BS)
  if isinstance(offset, int):
    return _attend(*args, offset=offset, interpret=interpret)
  kernels = [
    functools.partial(_attend, offset=start, interpret=interpret)
    for start in range(first, k_BKSC.shape[2], num_tokens)
  ]
  return jax.lax.switch((offset - first) // num_tokens, kernels, *args)


def _attend(q_BTHC, k_BKSC, v_BKSC, q_segments_BT, kv_segments_BS, *, offset, interpret):
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

  _, num_queries, num_heads, head_dim = q_BTHC.shape
  # Padding lies after all tokens, where no query of a token looks.
  q_BHTC = _pad((q_BTHC * head_dim**-0.5).transpose(0, 2, 1, 3), 2)
  k_BKSC, v_BKSC = _pad(k_BKSC, 2), _pad(v_BKSC, 2)
  shape = (q_BHTC.shape[2], k_BKSC.shape[2])
  block_q, block_keys = _block(shape[0], BLOCK), _block(shape[1], BLOCK)
  sizes = splash.BlockSizes(
    block_q=block_q,
    block_kv=block_keys,
    block_kv_compute=block_keys,
    block_q_dkv=block_q,
    block_kv_dkv=_block(shape[1], BLOCK_KEYS_BACKWARD),
    block_kv_dkv_compute=block_keys,
    use_fused_bwd_kernel=True,
  )
  kernel = splash.make_splash_mha(
    masks.MultiHeadMask([masks.CausalMask(shape, offset)] * num_heads),
    block_sizes=sizes,
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )
  segments = None
  if q_segments_BT is not None:
    segments = splash.SegmentIds(q=_pad(q_segments_BT, 1), kv=_pad(kv_segments_BS, 1))
  out_BHTC = jax.vmap(kernel)(q_BHTC, k_BKSC, v_BKSC, segments)
  return out_BHTC.transpose(0, 2, 1, 3)[:, :num_queries]


def _pad(x: jax.Array, dimension: int) -> jax.Array:
  widths = [(0, 0)] * x.ndim
  widths[dimension] = (0, -x.shape[dimension] % LANES)
  return jnp.pad(x, widths)


def _block(num_tokens: int, largest: int) -> int:
  """The largest power of two times `LANES`, at most `largest`, that divides `num_tokens`."""
  block = largest
  while num_tokens % block:
    block //= 2
  return block
