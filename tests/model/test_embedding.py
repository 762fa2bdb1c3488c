"""An embedding table may be cut any way: what is looked up, and its gradient, are the same."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lwz.model import embedding, sharding

MESHES = [(1, 8, 1), (1, 1, 8), (2, 2, 2), (1, 2, 2, 2)]
TABLE_VD = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
IDS_BT = np.random.default_rng(1).integers(0, 64, (8, 16)).astype(np.int32)
COTANGENT_BTD = np.random.default_rng(2).normal(size=(8, 16, 16)).astype(np.float32)


def lookup_and_gradient(mesh, ids_BT=IDS_BT, cotangent_BTD=COTANGENT_BTD, dtype=jnp.float32):
  @jax.jit
  def both(table_VD, ids_BT):
    x_BTD, pull = jax.vjp(lambda table: embedding.embed(table, ids_BT, dtype, mesh), table_VD)
    return x_BTD, pull(jnp.asarray(cotangent_BTD, dtype))[0]

  table_VD = jnp.asarray(TABLE_VD)
  if mesh is not None:
    table_VD = jax.device_put(table_VD, NamedSharding(mesh, PartitionSpec('tensor', 'fsdp')))
  return both, (table_VD, ids_BT)


def measured(*args, **changes):
  both, arguments = lookup_and_gradient(*args, **changes)
  return jax.device_get(both(*arguments))


@pytest.mark.parametrize('shape', MESHES, ids=str)
def test_no_mesh_changes_a_number(shape):
  mesh = sharding.make_mesh(shape)
  x_BTD, gradient_VD = measured(mesh)
  np.testing.assert_array_equal(x_BTD, TABLE_VD[IDS_BT])
  expected_VD = np.zeros_like(TABLE_VD)
  np.add.at(expected_VD, IDS_BT.reshape(-1), COTANGENT_BTD.reshape(-1, 16))
  np.testing.assert_allclose(gradient_VD, expected_VD, rtol=0, atol=1e-5)


@pytest.mark.parametrize('num_rows', [1, 3])
def test_one_token_of_few_rows_is_looked_up_too(num_rows):
  """Decoding: neither the rows nor the single token can be cut."""
  ids_BT, cotangent_BTD = IDS_BT[:num_rows, :1], COTANGENT_BTD[:num_rows, :1]
  alone = measured(None, ids_BT, cotangent_BTD)
  cut = measured(sharding.make_mesh((1, 2, 4)), ids_BT, cotangent_BTD)
  jax.tree.map(np.testing.assert_array_equal, alone, cut)


def test_a_table_of_whole_rows_is_read_where_it_is():
  mesh = sharding.make_mesh((1, 2, 4))
  where = NamedSharding(mesh, PartitionSpec('tensor', None))
  table_VD = jax.device_put(jnp.asarray(TABLE_VD), where)
  lookup = jax.jit(lambda table, ids: embedding.embed(table, ids, jnp.float32, mesh, width=None))
  np.testing.assert_array_equal(lookup(table_VD, IDS_BT[:2, :1]), TABLE_VD[IDS_BT[:2, :1]])
  text = lookup.lower(table_VD, IDS_BT[:2, :1]).compile().as_text()
  assert 'all-gather' not in text and 'all-to-all' not in text


def test_the_gradient_of_a_frequent_token_does_not_stand_still():
  """1,024 times 1/256 is 4; in bfloat16 a sum of such steps would stop at 1 or before."""
  ids_BT = np.zeros((8, 128), np.int32)
  cotangent_BTD = np.full((8, 128, 16), 1 / 256)
  mesh = sharding.make_mesh((1, 2, 4))
  _, gradient_VD = measured(mesh, ids_BT, cotangent_BTD, jnp.bfloat16)
  np.testing.assert_array_equal(gradient_VD[0], np.full(16, 4.0))


def test_the_table_does_not_travel():
  mesh = sharding.make_mesh((1, 2, 4))
  both, arguments = lookup_and_gradient(mesh)
  text = both.lower(*arguments).compile().as_text()
  moved = re.findall(r'= \S*f32\[([\d,]+)\]\S* (?:all|reduce|collective)[-\w]*\(', text)
  assert moved and not {'64,16', '64,8', '16,16'} & set(moved)  # a device's own part is 16 x 8
