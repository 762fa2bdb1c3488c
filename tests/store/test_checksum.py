"""The same bits have the same number on every mesh; other bits have another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lwz.store import checksum

DTYPES = (jnp.float32, jnp.bfloat16, jnp.int32, jnp.bool_)


def array(dtype):
  bits = np.random.default_rng(0).integers(0, 2**15, (8, 4, 2), np.int32)
  return jnp.asarray(bits % 2 == 0) if dtype == jnp.bool_ else jnp.asarray(bits).astype(dtype)


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_mesh_does_not_matter(dtype):
  mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ('data', 'fsdp'))
  whole = array(dtype)
  cut = jax.device_put(whole, NamedSharding(mesh, PartitionSpec('fsdp', None, 'data')))
  assert checksum.leaves({'a': whole}) == checksum.leaves({'a': cut})


def test_the_sum_is_what_the_docstring_says():
  x = np.array([[1.5, -2.0], [0.0, 7.0]], np.float32)
  total = 0
  for (i, j), bits in np.ndenumerate(x.view(np.uint32)):
    h = (int(bits) + i * 2_654_435_761 + j * 2_246_822_519) % 2**32
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    total += h ^ h >> 16
  assert checksum.leaves({'x': jnp.asarray(x)}) == {'x': total % 2**32}


def test_a_bit_and_a_place_change_it():
  x = array(jnp.float32)
  flipped = x.at[3, 1, 0].set(jnp.nextafter(x[3, 1, 0], jnp.float32(np.inf)))
  tree = {'a': x, 'b': x + 1}
  assert checksum.of(tree) == checksum.of({'a': x, 'b': x + 1})
  others = [{'a': flipped, 'b': x + 1}, {'a': x[::-1], 'b': x + 1}, {'a': x + 1, 'b': x}]
  assert len({checksum.of(t) for t in [tree, *others]}) == 4


def test_negative_zero_is_no_zero_and_nan_has_a_number():
  zero = checksum.leaves([jnp.zeros(2)])
  assert zero != checksum.leaves([-jnp.zeros(2)])
  assert checksum.leaves([jnp.full(2, jnp.nan)]) == checksum.leaves([jnp.full(2, jnp.nan)])
