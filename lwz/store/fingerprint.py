"""The bits of device arrays as one number each, the same on every mesh.

    sum over elements i of bits(x_i) * odd(i)   mod 2^32

Integers add up to the same in any order, so it does not matter which device holds what; the weight
`odd(i)` of an element follows from its place. A changed bit always changes the sum.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# One odd factor per dimension: a place's weight is 2 * (sum of index * factor) + 1.
_FACTORS = (2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263, 374_761_393)
_UINTS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def leaves(tree: Any) -> dict[str, int]:
  """A number for each leaf: `{'params.layers.wq': 3735928559, ...}`."""
  named = jax.tree_util.tree_leaves_with_path(tree)
  sums = jax.device_get([_sum(leaf) for _, leaf in named])
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): int(value)
    for (path, _), value in zip(named, sums, strict=True)
  }


def of(tree: Any) -> int:
  """One number for all of a tree, in 32 bits."""
  sums = np.array(list(leaves(tree).values()), np.uint64)
  places = np.arange(sums.size, dtype=np.uint64)
  return int(np.sum(sums * (2 * places + 1)) % 2**32)


@jax.jit
def _sum(array: jax.Array) -> jax.Array:
  if array.dtype == jnp.bool_:
    array = array.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(array, _UINTS[array.dtype.itemsize]).astype(jnp.uint32)
  weight = jnp.zeros(array.shape, jnp.uint32)
  for dimension in range(array.ndim):
    place = jax.lax.broadcasted_iota(jnp.uint32, array.shape, dimension)
    weight += place * jnp.uint32(_FACTORS[dimension])
  return jnp.sum(bits * (2 * weight + 1), dtype=jnp.uint32)
