"""The tables cut the real sizes as they should, and no mesh changes a number."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lwz.learn import losses, update
from lwz.model import config as config_lib
from lwz.model import qwen, sharding
from lwz.programs import language_model
from tests import fakes

CONFIG = fakes.config(
  hidden_size=16, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2, vocab_size=64
)
MESHES = [(1, 8, 1), (1, 2, 4), (2, 2, 2), (1, 2, 2, 2), (8,)]
OTHERS = [((1, 8, 1), ''), ((1, 2, 4), ''), ((8,), ''), ((2, 2, 2), 'qwen3'), ((1, 2, 4), 'llama')]


def devices(num):
  return np.array(jax.devices()[:num])


def test_a_mesh_has_the_axes_of_the_house():
  mesh = sharding.make_mesh((2, 2, 2))
  assert dict(mesh.shape) == {'data': 2, 'fsdp': 2, 'tensor': 2, 'context': 1}
  with pytest.raises(ValueError, match=r'a mesh of data=9, .* does not fit 8 devices'):
    sharding.make_mesh((9,))
  with pytest.raises(ValueError, match=r'fsdp=-1, tensor=3, .* does not fit 8 devices'):
    sharding.make_mesh((1, -1, 3))


def test_a_size_left_open_takes_what_remains():
  assert sharding.make_mesh((1, -1, 2)).devices.shape == (1, 4, 2, 1)
  assert sharding.make_mesh((1, 1, 1, 1)).devices.tolist() == [[[[jax.devices()[0]]]]]


@pytest.mark.parametrize('size', ['7b', '14b', '32b', '72b'])
@pytest.mark.parametrize('table', [sharding.TRAIN, sharding.DECODE], ids=['train', 'decode'])
def test_the_real_sizes_are_cut_evenly(size, table):
  config = config_lib.preset(size)
  mesh = sharding.make_mesh((1, 2, 4))
  shards = sharding.shardings(config, mesh, table)
  abstract = fakes.abstract(config)
  held = jax.tree.map(lambda a, s: np.prod(s.shard_shape(a.shape)), abstract, shards)
  whole = jax.tree.map(lambda a: np.prod(a.shape), abstract)
  ways = 8 if table is sharding.TRAIN else 4
  share = sum(jax.tree.leaves(held)) / sum(jax.tree.leaves(whole))
  assert 1 / ways <= share < 1.02 / ways  # biases and norms are small


def test_key_value_heads_that_are_fewer_than_the_ways_are_replicated():
  config = config_lib.preset('7b')  # K = 4, H = 28
  mesh = jax.sharding.AbstractMesh((1, 1, 28, 1), ('data', 'fsdp', 'tensor', 'context'))
  layers = qwen.describe(config)['layers']
  assert sharding.spec('wk', layers['wk'], sharding.TRAIN, mesh) == PartitionSpec(
    None, None, None, None
  )
  assert sharding.spec('wq', layers['wq'], sharding.TRAIN, mesh) == PartitionSpec(
    None, None, 'tensor', None
  )


def test_what_does_not_divide_is_refused_by_name():
  mesh = jax.sharding.AbstractMesh((1, 1, 8, 1), ('data', 'fsdp', 'tensor', 'context'))
  with pytest.raises(ValueError, match=r"layers\.bq: dimension 'heads' of 28 .* 8 ways"):
    sharding.shardings(config_lib.preset('7b'), mesh, sharding.TRAIN)


@functools.cache
def measured(shape, family=''):
  """Logits, gradients, and parameters after one step of SGD on packed rows, on a mesh."""
  config = dataclasses.replace(CONFIG, **fakes.FAMILIES.get(family, {}))
  num = int(np.prod(shape))
  mesh = sharding.make_mesh(shape, devices(num))
  shards = sharding.shardings(config, mesh, sharding.TRAIN)
  params = jax.device_put(fakes.params(config), shards)
  rng = np.random.default_rng(0)
  rows = {
    'ids': rng.integers(0, CONFIG.vocab_size, (8, 12)).astype(np.int32),
    'segments': np.repeat([[1] * 5 + [2] * 5 + [0] * 2], 8, axis=0).astype(np.int32),
    'positions': np.repeat([[*range(5), *range(5), 0, 0]], 8, axis=0).astype(np.int32),
  }
  rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(('data', 'fsdp'))))
  optimizer = optax.sgd(0.1)

  @jax.jit
  def step(params, rows):
    def loss_fn(params):
      logp, _, mask = language_model.row_logprob(
        params, rows, config, temperature=1.0, chunk=24, mesh=mesh
      )
      return losses.next_token(logp, mask)

    hidden = language_model.row_hidden(params, rows, config, mesh=mesh)
    grads = jax.grad(loss_fn)(params)
    state, _ = update.apply(update.init(params, optimizer), grads, optimizer)
    return qwen.lm_head(params, hidden, config), grads, state.params

  if num > 1:
    assert not params['layers']['w_up'].sharding.is_fully_replicated or shape == (8,)
  return jax.device_get(step(params, rows))


@pytest.mark.parametrize(
  'shape, family',
  [
    ((2, 2, 2), ''),
    ((1, 2, 2, 2), ''),
    *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS),
  ],
)
def test_no_mesh_changes_a_number(shape, family):
  alone, cut = measured((1,), family), measured(shape, family)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), alone, cut)
  assert np.abs(jax.tree.leaves(alone[1])[0]).max() > 1e-4


def test_bfloat16_is_a_dtype_like_another():
  config = dataclasses.replace(CONFIG, dtype=jnp.bfloat16)
  mesh = sharding.make_mesh((1, 1, 2), devices(2))
  assert jax.tree.structure(sharding.shardings(config, mesh, sharding.DECODE)) == (
    jax.tree.structure(fakes.abstract(config))
  )
