"""Checksums of device arrays, the same on every mesh.

    sum over elements i of mix(bits(x_i) + place(i))   mod 2^32

Integers add up to the same in any order, so the layout over devices does not matter. `mix` is
the finaliser of MurmurHash3, one to one: another element in one place always changes the sum, and
several go unnoticed with a chance of 2^-32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# One per dimension: the place of an element is the sum of index * factor.
_FACTORS = (2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263, 374_761_393)
_UINTS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def named(tree: Any) -> dict[str, Any]:
  """Returns the leaves of a tree by their dotted names, 'params.layers.wq'."""
  found = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in found}


def leaves(tree: Any) -> dict[str, int]:
  """Returns a checksum for each leaf: `{'params.layers.wq': 3735928559, ...}`."""
  sums = jax.device_get({name: _sum(leaf) for name, leaf in named(tree).items()})
  return {name: int(value) for name, value in sums.items()}


def of(tree: Any) -> int:
  """Returns a checksum of 32 bits for a whole tree."""
  sums = np.array(list(leaves(tree).values()), np.uint64)
  places = np.arange(sums.size, dtype=np.uint64)
  return int(np.sum(sums * (2 * places + 1)) % 2**32)


@jax.jit
def _sum(array: jax.Array) -> jax.Array:
  array = jax.device_put(array, jax.memory.Space.Device)  # an offloaded one lies on the host
  if array.dtype == jnp.bool_:
    array = array.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(array, _UINTS[array.dtype.itemsize]).astype(jnp.uint32)
  for dimension in range(array.ndim):
    index = jax.lax.broadcasted_iota(jnp.uint32, array.shape, dimension)
    bits += index * jnp.uint32(_FACTORS[dimension])
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
  return jnp.sum(bits ^ (bits >> 16), dtype=jnp.uint32)
