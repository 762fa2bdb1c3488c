"""Quantised matrices: half a scale of error, and every number that of the matrix they stand for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import lora as lora_lib
from lwz.model import parameters, quantised, sharding
from lwz.store import adapters as adapters_lib
from tests import fakes
from tests.model.test_lora import IDS, loss

# Groups: 2 of 64 in 128, 3 of 64 in 192, 1 of 6 in each head.
CONFIG = fakes.config(vocab_size=14, hidden_size=128, intermediate_size=192)
KINDS = ('int8', 'int4')
MATRICES = parameters.describe(CONFIG)['layers']


def lora_of(kind):
  return lora_lib.LoRA(3, 6.0, ('q', 'v', 'down'), kind)


def plain():
  """Matrices of a size at which float32 rounds in the seventh digit of a gradient."""
  params = fakes.params(CONFIG)
  for leaf in lora_lib.TARGETS.values():
    params['layers'][leaf] *= 0.15
  return params


def frozen(kind, mesh=None):
  params = plain()
  if mesh:
    params = jax.device_put(params, sharding.shardings(CONFIG, mesh, sharding.TRAIN))
  return adapters_lib.freeze(params, CONFIG, lora_of(kind), mesh)


def whole(kind):
  """The same weights in float32."""
  return lora_lib.merged(frozen(kind), jnp.float32)


def parts(leaf, kind):
  """The weights, q and its scale for each of them, in NumPy."""
  weight, found = plain()['layers'][leaf], frozen(kind)['layers'][leaf]
  assert found.q.dtype == kind and found.scale.dtype == jnp.float32
  q, scale = np.asarray(found.q.astype(jnp.int32)), np.asarray(found.scale)
  for i, (size, num) in enumerate(zip(q.shape, scale.shape, strict=True)):
    scale = np.repeat(scale, size // num, axis=i)
  np.testing.assert_allclose(quantised.dequantised(found, jnp.float32), q * scale, rtol=1e-6)
  return np.asarray(weight), q, scale


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('leaf', ['wq', 'wk', 'wo', 'w_up', 'w_down'])
def test_an_error_is_at_most_half_of_its_scale_where_nothing_is_cut_off(leaf, kind):
  weight, q, scale = parts(leaf, kind)
  error = np.abs(weight - q * scale)
  within = error <= np.abs(scale) / 2 * (1 + 1e-5)
  lowest, highest = {'int8': (-127, 127), 'int4': (-8, 7)}[kind]
  assert np.all(within | (kind == 'int4') & np.isin(q, (lowest, highest)))
  assert error.max() > np.abs(scale).max() / 4 and q.min() >= lowest and q.max() <= highest


@pytest.mark.parametrize('leaf', ['wq', 'wo', 'w_down'])
def test_scales_of_int4_have_less_error_than_those_that_cut_nothing_off(leaf):
  param = MATRICES[leaf]
  (*_, last), _ = parameters.dimensions(param)
  weight, q, scale = parts(leaf, 'int4')
  size = quantised.group_size(param.shape[last])

  def grouped(x):
    cut = (*x.shape[:last], -1, size, *x.shape[last + 1 :])
    return np.asarray(x, np.float32).reshape(cut)

  w, found = grouped(weight), grouped(weight - q * scale)
  whole = np.abs(w).max(last + 1, keepdims=True) / 7
  plain_error = np.square(w - np.round(w / whole) * whole).sum(last + 1)
  error = np.square(found).sum(last + 1)
  assert np.all(error <= plain_error * (1 + 1e-4)) and error.sum() < 0.85 * plain_error.sum()


def test_scales_are_of_outputs_and_of_groups_of_64_inputs():
  shapes = {
    kind: {n: quantised.pair(MATRICES[n], kind).scale.shape for n in ('wq', 'wo', 'w_down')}
    for kind in KINDS
  }
  assert shapes['int8'] == {'wq': (2, 1, 4, 6), 'wo': (2, 1, 1, 128), 'w_down': (2, 1, 128)}
  assert shapes['int4'] == {'wq': (2, 2, 4, 6), 'wo': (2, 4, 1, 128), 'w_down': (2, 3, 128)}
  assert [quantised.group_size(n) for n in (896, 80, 20, 127)] == [64, 40, 20, 1]


def test_a_channel_of_zeros_stays_zero():
  param = MATRICES['w_up']
  found = quantised.quantise(jnp.zeros(param.shape), param, 'int8')
  np.testing.assert_array_equal(quantised.dequantised(found, jnp.float32), np.zeros(param.shape))


@pytest.mark.parametrize('kind', KINDS)
def test_what_is_no_matrix_of_a_layer_is_left(kind):
  expected, found = plain(), frozen(kind)
  for name in ('embed', 'norm', 'head'):
    np.testing.assert_array_equal(found[name], expected[name])
  kept = {n for n, leaf in found['layers'].items() if not quantised.is_quantised(leaf)}
  assert kept == {'attention_norm', 'mlp_norm', 'bq', 'bk', 'bv'}


@pytest.mark.parametrize('kind', KINDS)
def test_a_forward_pass_is_that_of_the_weights_they_stand_for(kind):
  found, wanted = (fakes.forward(x, IDS, CONFIG) for x in (frozen(kind), whole(kind)))
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  assert np.abs(found - fakes.forward(plain(), IDS, CONFIG)).max() > 1e-3


@pytest.mark.parametrize('kind', ['int8', pytest.param('int4', marks=pytest.mark.slow)])
def test_gradients_of_adapters_are_those_over_the_weights_they_stand_for(kind):
  own, lora = fakes.adapters(CONFIG, lora_of(kind)), lora_of(kind)

  def grads(base):
    return jax.jit(jax.grad(lambda own: loss(lora_lib.join(own, base, lora=lora), CONFIG)))(own)

  found, wanted = grads(frozen(kind)), grads(whole(kind))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)
  assert min(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found)) > 1e-4


@pytest.mark.parametrize('kind', KINDS)
def test_adapters_are_added_to_the_weights_they_stand_for(kind):
  own, lora = fakes.adapters(CONFIG, lora_of(kind)), lora_of(kind)
  found, wanted = (
    lora_lib.merged(lora_lib.join(own, base, lora=lora), jnp.float32)
    for base in (frozen(kind), whole(kind))
  )
  assert fakes.shapes(found) == fakes.shapes(fakes.params(CONFIG))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('base', ['float', *KINDS])
def test_adapters_are_added_before_decoding_rounds_once(base, kind):
  lora = lora_of(base)
  joined = lora_lib.join(fakes.adapters(CONFIG, lora), frozen(base), lora=lora)
  found = lora_lib.decoded(joined, CONFIG, kind)
  merged = lora_lib.merged(joined, jnp.float32)
  for name in lora_lib.TARGETS.values():
    wanted = quantised.quantise(merged['layers'][name], MATRICES[name], kind)
    jax.tree.map(np.testing.assert_array_equal, found['layers'].pop(name), wanted)
    del merged['layers'][name]
  jax.tree.map(np.testing.assert_array_equal, found, merged)


@pytest.mark.parametrize('kind', ['int8', pytest.param('int4', marks=pytest.mark.slow)])
def test_layers_are_rounded_alike_stacked_or_not(kind):
  found = lora_lib.decoded(parameters.unstack(plain()), CONFIG, kind)
  wanted = parameters.unstack(lora_lib.decoded(plain(), CONFIG, kind))
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
  ('kind', 'shape'),
  [
    ('int8', (2, 2, 2)),
    pytest.param('int4', (1, 4, 2), marks=pytest.mark.slow),
    pytest.param('int4', (1, 2, 2, 2), marks=pytest.mark.slow),
  ],
)
def test_no_mesh_changes_a_number(kind, shape):
  """Where a mesh does not divide the groups, their scales are whole on every device."""
  mesh, lora, own = sharding.make_mesh(shape), lora_of(kind), fakes.adapters(CONFIG, lora_of(kind))
  step = lambda own, base, mesh=None: jax.value_and_grad(  # noqa: E731
    lambda own: loss(lora_lib.join(own, base, lora=lora), CONFIG, mesh=mesh)
  )(own)
  alone = jax.jit(step)(own, frozen(kind))
  base = frozen(kind, mesh)
  one = base['layers']['w_up']
  assert one.q.sharding.shard_shape(one.q.shape) == (2, 128 // shape[1], 96)
  placed = jax.device_put(
    own, sharding.shardings_of(lora_lib.describe(CONFIG, lora), mesh, sharding.TRAIN)
  )
  found = jax.jit(lambda own, base: step(own, base, mesh))(placed, base)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, jax.device_get(found)
  )


@pytest.mark.parametrize('kind', KINDS)
def test_it_takes_the_bytes_that_are_stated(kind):
  """n + 4 m, or 0.5625 n where groups have 64."""
  param = dataclasses.replace(MATRICES['w_up'], shape=(3, 128, 256))
  found = quantised.quantise(jnp.ones(param.shape), param, kind)
  stated = {'int8': 3 * (128 * 256 + 4 * 256), 'int4': 3 * 0.5625 * 128 * 256}[kind]
  size = jax.jit(lambda x: x).lower(found).compile().memory_analysis().argument_size_in_bytes
  assert size == pytest.approx(stated, rel=0.05)
