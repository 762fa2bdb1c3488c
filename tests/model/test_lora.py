"""Adapters are what they say: x W + s (x A) B, and as much as a merged matrix in every number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.learn import losses
from lwz.model import lora as lora_lib
from lwz.model import parameters, sharding
from lwz.programs import language_model
from tests import fakes

CONFIG = fakes.config(vocab_size=14)
LORA = lora_lib.LoRA(rank=3, alpha=6.0)
IDS = jnp.asarray(np.random.default_rng(0).integers(0, 14, (4, 12)), jnp.int32)
ROWS = {
  'ids': IDS,
  'segments': jnp.ones((4, 12), jnp.int32),
  'positions': jnp.broadcast_to(jnp.arange(12), (4, 12)),
}


def adapters(config=CONFIG, lora=LORA, seed=1):
  return fakes.adapters(config, lora, seed)


def loss(params, config=CONFIG, rows=ROWS, mesh=None):
  logp, _, mask = language_model.row_logprob(
    params, rows, config, temperature=1.0, chunk=24, mesh=mesh
  )
  return losses.next_token(logp, mask)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('family', ['', *fakes.FAMILIES])
def test_new_adapters_change_no_bit(family, dtype):
  config = dataclasses.replace(CONFIG, dtype=dtype, **fakes.FAMILIES.get(family, {}))
  base = jax.tree.map(lambda x: x.astype(dtype), fakes.params(config))
  new = lora_lib.init(jax.random.key(0), config, LORA)
  assert all(np.asarray(one['a']).all() for one in new['layers'].values())
  joined = lora_lib.join(new, base, lora=LORA)
  found, expected = (fakes.forward(x, IDS, config).astype(jnp.float32) for x in (joined, base))
  if config.qk_norm:  # XLA sums the squares of q + 0 in another order than those of q
    np.testing.assert_allclose(found, expected, atol=5e-6 if dtype == 'float32' else 0.1)
  else:
    np.testing.assert_array_equal(found, expected)


def test_a_merged_model_writes_what_the_adapters_do():
  joined = lora_lib.join(adapters(), fakes.params(CONFIG), lora=LORA)
  merged = lora_lib.merged(joined, jnp.float32)
  assert fakes.shapes(merged) == fakes.shapes(fakes.params(CONFIG))
  whole = fakes.forward(merged, IDS, CONFIG)
  np.testing.assert_allclose(fakes.forward(joined, IDS, CONFIG), whole, atol=2e-5)
  assert np.abs(whole - fakes.forward(fakes.params(CONFIG), IDS, CONFIG)).max() > 0.1


def test_merged_is_the_base_and_s_a_b():
  joined = lora_lib.join(adapters(), fakes.params(CONFIG), lora=LORA)
  merged = lora_lib.merged(joined, jnp.float32)
  base, found = (jax.device_get(x)['layers'] for x in (fakes.params(CONFIG), merged))
  for leaf, one in jax.device_get(adapters())['layers'].items():
    (L, *inner), outer = one['a'].shape[:-1], one['b'].shape[2:]
    product = one['a'].reshape(L, -1, 3) @ one['b'].reshape(L, 3, -1)
    expected = base[leaf] + 2.0 * product.reshape(L, *inner, *outer)
    np.testing.assert_allclose(found[leaf], expected, atol=1e-6)
  unstacked = lora_lib.merged(parameters.unstack(joined), jnp.float32)
  jax.tree.map(np.testing.assert_array_equal, unstacked, parameters.unstack(merged))


@pytest.mark.slow
def test_gradients_are_those_of_the_matrix_seen_through_the_other_factor():
  """dA = s dW B^T and dB = s A^T dW, with dW at the merged matrix."""
  base = fakes.params(CONFIG)
  own = jax.tree.map(lambda x: 0.5 * x, adapters())  # so that no CPU rounds gradients above 2e-6
  join = lambda trained: lora_lib.join(trained, base, lora=LORA)  # noqa: E731
  found = jax.jit(jax.grad(lambda trained: loss(join(trained))))(own)
  whole = jax.jit(jax.grad(loss))(lora_lib.merged(join(own), jnp.float32))
  for leaf, one in own['layers'].items():
    (L, *_, r), num_in = one['a'].shape, int(np.prod(one['a'].shape[1:-1]))
    a, b = one['a'].reshape(L, num_in, r), one['b'].reshape(L, r, -1)
    dw = whole['layers'][leaf].reshape(L, num_in, -1)
    da, db = (found['layers'][leaf][name] for name in 'ab')
    close = lambda x, y: np.testing.assert_allclose(x, y.reshape(x.shape), atol=2e-6)  # noqa: E731
    close(da, 2.0 * jnp.einsum('lio,lro->lir', dw, b))
    close(db, 2.0 * jnp.einsum('lir,lio->lro', a, dw))
    assert np.abs(da).max() > 1e-4 and np.abs(db).max() > 1e-4


def test_only_targets_have_adapters():
  lora = lora_lib.LoRA(2, 4.0, ('q', 'down'))
  described = lora_lib.describe(CONFIG, lora)
  assert set(described['layers']) == {'wq', 'w_down'} and set(described) == {'layers'}
  assert described['layers']['wq']['b'].axes == ('layers', 'rank', 'heads', 'head_dim')
  assert described['layers']['w_down']['a'].axes == ('layers', 'mlp', 'rank')
  assert lora_lib.describe(CONFIG, None) == parameters.describe(CONFIG)
  dims = parameters.matrices(described)['layers']
  assert dims['wq'] == {'a': ((1,), (2,)), 'b': ((1,), (2, 3))}


@pytest.mark.parametrize(
  'shape',
  [(2, 2, 1), *(pytest.param(s, marks=pytest.mark.slow) for s in ((1, 2, 2), (1, 1, 2, 2)))],
)
def test_no_mesh_changes_a_number_of_adapters(shape):
  base, own = fakes.params(CONFIG), adapters()
  mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
  join = lambda trained, base: lora_lib.join(trained, base, lora=LORA)  # noqa: E731
  alone = jax.jit(jax.value_and_grad(lambda trained: loss(join(trained, base))))(own)
  where = sharding.shardings_of(lora_lib.describe(CONFIG, LORA), mesh, sharding.TRAIN)
  placed = jax.device_put((own, base), (where, sharding.shardings(CONFIG, mesh, sharding.TRAIN)))
  step = jax.jit(jax.value_and_grad(lambda own, base: loss(join(own, base), mesh=mesh)))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, jax.device_get(step(*placed))
  )
