"""Rotary positions, masks, grouped-query attention.

Reference formulation in plain XLA, used on every backend: scores and softmax in float32.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lwz.model import yarn as yarn_lib


def rope_phases(
  positions_BT: Int[Array, 'B T'],
  head_dim: int,
  theta: float,
  yarn: yarn_lib.Yarn | yarn_lib.Llama3 | None = None,
) -> tuple[Float[Array, 'B T {head_dim//2}'], Float[Array, 'B T {head_dim//2}']]:
  """cos and sin of position * theta^(-2i/C), i < C/2 (RoFormer, arXiv 2104.09864, Eq. 15).

  With `yarn`, frequencies are stretched and both are scaled, see `lwz.model.yarn`. In float32 for
  every compute dtype: bfloat16 cannot tell position 257 from 256.
  """
  exponent = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  inv_freq = 1.0 / (theta**exponent)
  scale = 1.0
  if yarn is not None:
    inv_freq, scale = yarn_lib.stretch(inv_freq, theta, yarn), yarn_lib.attention_factor(yarn)
  phase_BTc = positions_BT.astype(jnp.float32)[:, :, None] * inv_freq[None, None, :]
  return scale * jnp.cos(phase_BTc), scale * jnp.sin(phase_BTc)


def rotate(
  x_BTHC: Float[Array, 'B T H C'],
  cos_BTc: Float[Array, 'B T c'],
  sin_BTc: Float[Array, 'B T c'],
) -> Float[Array, 'B T H C']:
  """Rotates the two halves of each head by its phases (Qwen's half split, not interleaved)."""
  first, second = jnp.split(x_BTHC.astype(jnp.float32), 2, axis=-1)
  cos, sin = cos_BTc[:, :, None, :], sin_BTc[:, :, None, :]
  rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return rotated.astype(x_BTHC.dtype)


def causal_mask(
  q_segments_BT: Int[Array, 'B T'],
  kv_segments_BS: Int[Array, 'B S'],
  offset: Int[Array, ''] | int = 0,
) -> Bool[Array, 'B T S']:
  """Query t, at position offset + t of its row, sees key s iff s <= offset + t and both lie in the
  same segment (a document of a packed row)."""
  same_BTS = q_segments_BT[:, :, None] == kv_segments_BS[:, None, :]
  query_T = offset + jnp.arange(q_segments_BT.shape[1])
  return same_BTS & (query_T[:, None] >= jnp.arange(kv_segments_BS.shape[1])[None, :])[None]


def attend(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKSC: Float[Array, 'B K S C'],
  v_BKSC: Float[Array, 'B K S C'],
  mask_BTS: Bool[Array, 'B T S'],
) -> Float[Array, 'B T H C']:
  """softmax(q k^T / sqrt(C)) v; query head h reads key-value head h // (H / K) (arXiv 2305.13245).

  Keys and values come with their heads outside, as the cache holds them: both products are then
  plain matrix products per (b, k), with the query heads of a key-value head laid along time.
  A query that sees no key at all (padding) gets the plain mean of the values, never NaN.
  """
  B, T, H, C = q_BTHC.shape
  K, S = k_BKSC.shape[1:3]
  G = H // K
  q_BKtC = q_BTHC.reshape(B, T, K, G, C).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, C)
  scores = jnp.einsum(
    'bktc,bksc->bkts', q_BKtC, k_BKSC, preferred_element_type=jnp.float32
  ).reshape(B, K, G, T, S)
  scores = jnp.where(mask_BTS[:, None, None], scores * C**-0.5, jnp.finfo(jnp.float32).min)
  probs = jax.nn.softmax(scores, axis=-1).astype(v_BKSC.dtype).reshape(B, K, G * T, S)
  mixed_BKtC = jnp.einsum('bkts,bksc->bktc', probs, v_BKSC)
  return mixed_BKtC.reshape(B, K, G, T, C).transpose(0, 3, 1, 2, 4).reshape(B, T, H, C)
