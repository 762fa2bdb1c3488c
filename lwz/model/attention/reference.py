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
  probs_BKRS = jax.nn.softmax(scores(q_BTHC, k_BKSC, mask_BTS), axis=-1).astype(v_BKSC.dtype)
  mixed_BKRC = jnp.einsum('bkrs,bksc->bkrc', probs_BKRS, v_BKSC)
  return ungrouped(mixed_BKRC, q_BTHC.shape[2])


def scores(
  q_BTHC: Float[Array, 'B T H C'], k_BKSC: Float[Array, 'B K S C'], mask_BTS: Bool[Array, 'B T S']
) -> Float[Array, 'B K R S']:
  """q k^T / sqrt(C) in float32, R = G x T; where a query does not see a key, the least number."""
  (B, K, S, C), T = k_BKSC.shape, q_BTHC.shape[1]
  found_BKRS = jnp.einsum(
    'bkrc,bksc->bkrs', grouped(q_BTHC, K), k_BKSC, preferred_element_type=jnp.float32
  )
  found_BKGTS = found_BKRS.reshape(B, K, -1, T, S) * C**-0.5
  lowest = jnp.finfo(jnp.float32).min
  return jnp.where(mask_BTS[:, None, None], found_BKGTS, lowest).reshape(found_BKRS.shape)


def grouped(x_BTHC: Float[Array, 'B T H C'], num_kv_heads: int) -> Float[Array, 'B K R C']:
  """The query heads of a key-value head as G x T rows of one product."""
  B, T, H, C = x_BTHC.shape
  x_BTKGC = x_BTHC.reshape(B, T, num_kv_heads, H // num_kv_heads, C)
  return x_BTKGC.transpose(0, 2, 3, 1, 4).reshape(B, num_kv_heads, -1, C)


def ungrouped(x_BKRC: Float[Array, 'B K R C'], num_heads: int) -> Float[Array, 'B T H C']:
  """The inverse of `grouped`."""
  B, K, _, C = x_BKRC.shape
  x_BKGTC = x_BKRC.reshape(B, K, num_heads // K, -1, C)
  return x_BKGTC.transpose(0, 3, 1, 2, 4).reshape(B, -1, num_heads, C)
