"""Attention of one new token: over what earlier blocks wrote, and over its own block."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lwz.model import cache as cache_lib


def attend(
  q_B1HC: Float[Array, 'B 1 H C'],
  past: cache_lib.Past,
  lengths_B: Int[Array, 'B'],
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  mask_T: Bool[Array, 'T'],
) -> Float[Array, 'B 1 H C']:
  """softmax(q k^T / sqrt(C)) v over row b's first `lengths_B[b]` past tokens and the block's.

  `mask_T` says which of the block's tokens are written, the new one among them, so that no query
  is without a key. One softmax over both parts, in float32; neither is copied to join the other.
  """
  B, _, H, C = q_B1HC.shape
  K = k_BKTC.shape[1]
  lowest = jnp.finfo(jnp.float32).min
  q_BKGC = q_B1HC.reshape(B, K, H // K, C)
  old_BKGS = jnp.einsum('bkgc,bkcs->bkgs', q_BKGC, past.k, preferred_element_type=jnp.float32)
  new_BKGT = jnp.einsum('bkgc,bktc->bkgt', q_BKGC, k_BKTC, preferred_element_type=jnp.float32)
  seen_BS = jnp.arange(past.v.shape[2])[None, :] < lengths_B[:, None]
  old_BKGS = jnp.where(seen_BS[:, None, None, :], old_BKGS * C**-0.5, lowest)
  new_BKGT = jnp.where(mask_T[None, None, None, :], new_BKGT * C**-0.5, lowest)
  top_BKG1 = jnp.max(new_BKGT, axis=-1, keepdims=True)
  if past.v.shape[2]:
    top_BKG1 = jnp.maximum(top_BKG1, jnp.max(old_BKGS, axis=-1, keepdims=True))
  old_BKGS, new_BKGT = jnp.exp(old_BKGS - top_BKG1), jnp.exp(new_BKGT - top_BKG1)
  total_BKG1 = jnp.sum(old_BKGS, -1, keepdims=True) + jnp.sum(new_BKGT, -1, keepdims=True)
  dtype = v_BKTC.dtype
  mixed_BKGC = jnp.einsum(
    'bkgs,bksc->bkgc', old_BKGS.astype(dtype), past.v, preferred_element_type=jnp.float32
  )
  mixed_BKGC += jnp.einsum(
    'bkgt,bktc->bkgc', new_BKGT.astype(dtype), v_BKTC, preferred_element_type=jnp.float32
  )
  return (mixed_BKGC / total_BKG1).astype(dtype).reshape(B, 1, H, C)
