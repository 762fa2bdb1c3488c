"""Packed attention on GPUs: Pallas' Triton kernel, and cuDNN's."""

import importlib.util

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model.attention import reference as reference_attention

BLOCK = 128  # queries of a block of Triton's kernel, and keys


def has_triton() -> bool:
  """Whether this jax has the Triton kernel: deprecated in 0.10, to be removed."""
  try:
    return importlib.util.find_spec('jax.experimental.pallas.ops.gpu.attention') is not None
  except ModuleNotFoundError:
    return False


def triton(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  segments_BT: Int[Array, 'B T'] | None,
  *,
  interpret: bool = False,
) -> Float[Array, 'B T H C']:
  """The flash kernel of Pallas (arXiv 2307.08691). Key-value heads are repeated."""
  from jax.experimental.pallas.ops.gpu import attention as kernel

  _, num_tokens, num_heads, head_dim = q_BTHC.shape
  repeats = num_heads // k_BKTC.shape[1]
  keys, values = (jnp.repeat(x.transpose(0, 2, 1, 3), repeats, axis=2) for x in (k_BKTC, v_BKTC))
  # Padding lies after all tokens, where no query of a token looks.
  args = (_pad(x) for x in (q_BTHC, keys, values, segments_BT))
  out = kernel.mha(*args, sm_scale=head_dim**-0.5, causal=True, interpret=interpret)
  return out[:, :num_tokens]


def _pad(x):
  if x is None:
    return None
  return jnp.pad(x, ((0, 0), (0, -x.shape[1] % BLOCK), *((0, 0),) * (x.ndim - 2)))


def cudnn(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKSC: Float[Array, 'B K S C'],
  v_BKSC: Float[Array, 'B K S C'],
  q_segments_BT: Int[Array, 'B T'] | None,
  kv_segments_BS: Int[Array, 'B S'] | None,
  offset: Int[Array, ''] | int = 0,
) -> Float[Array, 'B T H C']:
  """cuDNN's flash kernel.

  Packed rows and an offset need a mask B x T x S, one for all heads: for rows of a few thousand
  tokens. Without segments T is S, and every row is one document.
  """
  mask = None
  if q_segments_BT is not None and kv_segments_BS is not None:
    mask = reference_attention.causal_mask(q_segments_BT, kv_segments_BS, offset)[:, None]
  return jax.nn.dot_product_attention(
    q_BTHC,
    k_BKSC.transpose(0, 2, 1, 3),
    v_BKSC.transpose(0, 2, 1, 3),
    mask=mask,
    is_causal=mask is None,
    implementation='cudnn',
  )
