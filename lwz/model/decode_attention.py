"""Attention of one new token: over what earlier blocks wrote, and over its own block."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lwz.model import cache as cache_lib

TILE = 64  # past tokens that a CPU multiplies at a time without packing them anew


def tile(past: cache_lib.Past) -> cache_lib.Past:
  """One layer with its keys cut along time, where that comes out even: k [B, K, N, C, TILE].

  For CPUs: the product of a few queries with a long matrix packs all of it first, in every step.
  """
  if past.k.shape[-1] % TILE:
    return past
  B, K, C, S = past.k.shape
  return past.replace(k=past.k.reshape(B, K, C, S // TILE, TILE).swapaxes(2, 3))


def attend(
  q_B1HC: Float[Array, 'B 1 H C'],
  past: cache_lib.Past,
  lengths_B: Int[Array, 'B'],
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  mask_T: Bool[Array, 'T'],
) -> Float[Array, 'B 1 H C']:
  """softmax(q k^T / sqrt(C)) v over row b's first `lengths_B[b]` past tokens and the block's.

  `past` is one layer, `tile`d or not. `mask_T` says which of the block's tokens are written, the
  new one among them, so that no query is without a key. One softmax over both parts, in float32;
  neither is copied to join the other.
  """
  B, _, H, C = q_B1HC.shape
  K = k_BKTC.shape[1]
  lowest = jnp.finfo(jnp.float32).min
  q_BKGC = q_B1HC.reshape(B, K, H // K, C)
  k_BKNCW = past.k if past.k.ndim == 5 else past.k[:, :, None]
  N, W = k_BKNCW.shape[2], k_BKNCW.shape[4]
  q_BKNGC = jnp.broadcast_to(q_BKGC[:, :, None], (B, K, N, H // K, C))
  old_BKNGW = jnp.einsum('bkngc,bkncw->bkngw', q_BKNGC, k_BKNCW, preferred_element_type=jnp.float32)
  new_BKGT = jnp.einsum('bkgc,bktc->bkgt', q_BKGC, k_BKTC, preferred_element_type=jnp.float32)
  seen_BNW = (jnp.arange(N * W)[None, :] < lengths_B[:, None]).reshape(B, N, W)
  old_BKNGW = jnp.where(seen_BNW[:, None, :, None, :], old_BKNGW * C**-0.5, lowest)
  new_BKGT = jnp.where(mask_T[None, None, None, :], new_BKGT * C**-0.5, lowest)
  top_BKG = jnp.max(new_BKGT, axis=-1)
  if N * W:
    top_BKG = jnp.maximum(top_BKG, jnp.max(old_BKNGW, axis=(2, 4)))
  old_BKNGW = jnp.exp(old_BKNGW - top_BKG[:, :, None, :, None])
  new_BKGT = jnp.exp(new_BKGT - top_BKG[..., None])
  total_BKG = jnp.sum(old_BKNGW, (2, 4)) + jnp.sum(new_BKGT, -1)
  dtype = v_BKTC.dtype
  mixed_BKGC = jnp.einsum(
    'bkngw,bknwc->bkgc',
    old_BKNGW.astype(dtype),
    past.v.reshape(B, K, N, W, C),
    preferred_element_type=jnp.float32,
  )
  mixed_BKGC += jnp.einsum(
    'bkgt,bktc->bkgc', new_BKGT.astype(dtype), v_BKTC, preferred_element_type=jnp.float32
  )
  return (mixed_BKGC / total_BKG[..., None]).astype(dtype).reshape(B, 1, H, C)
