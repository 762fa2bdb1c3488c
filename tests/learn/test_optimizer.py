"""The learning rate at each step, what decays, and how far one step can go."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz.learn import optimizer
from lwz.model import parameters, qwen
from tests import fakes


def rates(steps, **numbers):
  schedule = optimizer.schedule(2.0, **numbers)
  return [float(schedule(step)) for step in steps]


def test_a_warm_up_is_linear_and_then_constant():
  found = rates([0, 1, 2, 4, 5, 1000], warmup_steps=4, decay_steps=0, final_share=0.1)
  np.testing.assert_allclose(found, [0, 0.5, 1, 2, 2, 2], rtol=1e-6)


def test_without_warm_up_and_decay_the_rate_is_constant():
  found = rates([0, 1, 1000], warmup_steps=0, decay_steps=0, final_share=0.1)
  np.testing.assert_allclose(found, [2, 2, 2], rtol=1e-6)


def test_after_the_warm_up_comes_a_cosine_that_ends_at_the_final_share():
  found = rates([0, 5, 10, 35, 60, 85, 110, 500], warmup_steps=10, decay_steps=110, final_share=0.1)
  # Between 2 and 0.2: the mean plus half the distance times cos(0), cos(pi/4), ..., cos(pi).
  half = 0.9 * np.sqrt(0.5)
  np.testing.assert_allclose(
    found, [0, 1, 2, 1.1 + half, 1.1, 1.1 - half, 0.2, 0.2], rtol=1e-5, atol=1e-6
  )


def test_a_cosine_without_warm_up_begins_at_the_top():
  found = rates([0, 50, 100], warmup_steps=0, decay_steps=100, final_share=0.0)
  np.testing.assert_allclose(found, [2, 1, 0], atol=1e-6)


def test_a_decay_that_would_end_within_the_warm_up_ends_right_after_it():
  found = rates([0, 5, 10, 11, 12], warmup_steps=10, decay_steps=3, final_share=0.1)
  np.testing.assert_allclose(found, [0, 1, 2, 0.2, 0.2], rtol=1e-5)


def moved(params, grads, **numbers):
  """How one step at rate 1 changes the parameters."""
  rate = optimizer.schedule(1.0, warmup_steps=0, decay_steps=0, final_share=1.0)
  defaults = {'b1': 0.9, 'b2': 0.99, 'weight_decay': 0.0, 'decay_mask': None, 'max_norm': 1.0}
  tx = optimizer.adamw(rate, **(defaults | numbers))
  with jax.numpy_dtype_promotion('standard'):
    return jax.jit(lambda grads, params: tx.update(grads, tx.init(params), params)[0])(
      grads, params
    )


@pytest.mark.parametrize('changes', [{}, {'scalar_head': True}, {'tie_word_embeddings': True}])
def test_matrices_of_the_model_decay_and_its_biases_norms_and_score_head_do_not(changes):
  config = fakes.config(**changes)
  described = qwen.describe(config)
  mask = parameters.decay_mask(described)
  is_leaf = parameters.is_param
  params = jax.tree.map(lambda p: jnp.ones(p.shape), described, is_leaf=is_leaf)
  steps = moved(params, jax.tree.map(jnp.zeros_like, params), weight_decay=0.25, decay_mask=mask)
  # A matrix maps from or to the model's width: it is drawn at random, and not a vector per layer.
  seen = set()
  for path, param in jax.tree.leaves_with_path(described, is_leaf=is_leaf):
    inner = [axis for axis in param.axes if axis != 'layers']
    matrix = param.init == 'normal' and len(inner) > 1
    step = steps
    for key in path:
      step = step[key.key]
    np.testing.assert_array_equal(step, np.full(param.shape, -0.25 if matrix else 0.0), str(path))
    seen.add((matrix, param.init))
  assert {(True, 'normal'), (False, 'zeros'), (False, 'ones')} <= seen
  assert ((False, 'normal') in seen) == ('scalar_head' in changes)


def test_the_clip_is_of_the_global_norm_and_keeps_the_direction():
  # Adam's first step has no scale, so two steps tell: the moments weigh the first gradient, clipped
  # to the same length, like the second; with b1 = b2 = 0.5 half as much.
  params = {'wq': jnp.zeros((1, 2)), 'bq': jnp.zeros(1)}
  large = {'wq': jnp.array([[30.0, 40.0]]), 'bq': jnp.array([0.0])}  # norm 50, clipped to 1
  small = {'wq': jnp.array([[-0.6, -0.8]]), 'bq': jnp.array([0.0])}  # norm 1, left alone
  rate = optimizer.schedule(1.0, warmup_steps=0, decay_steps=0, final_share=1.0)
  tx = optimizer.adamw(rate, b1=0.5, b2=0.5, weight_decay=0.0, decay_mask=None, max_norm=1.0)
  with jax.numpy_dtype_promotion('standard'):
    _, state = tx.update(large, tx.init(params), params)
    steps, _ = tx.update(small, state, params)
  # m = 0.25 - 0.5 times (0.6, 0.8), v = 0.75 times their squares, both divided by 1 - 0.5**2.
  np.testing.assert_allclose(steps['wq'], [[1 / 3, 1 / 3]], rtol=1e-5)
  np.testing.assert_array_equal(steps['bq'], 0.0)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_moments_are_kept_as_asked_and_steps_hardly_differ(dtype):
  params = {'wq': jnp.ones((64, 64)), 'bq': jnp.zeros(64)}
  rate = optimizer.schedule(0.1, warmup_steps=0, decay_steps=0, final_share=1.0)
  mask = {'wq': True, 'bq': False}
  numbers = {'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.1, 'decay_mask': mask, 'max_norm': 1.0}
  exact, kept = (optimizer.adamw(rate, **numbers, moments=d) for d in (jnp.float32, dtype))
  states = [exact.init(params), kept.init(params)]
  rng = np.random.default_rng(0)
  with jax.numpy_dtype_promotion('standard'):
    for _ in range(5):
      grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
      found = [tx.update(grads, s, params) for tx, s in zip((exact, kept), states, strict=True)]
      states = [state for _, state in found]
      wanted, got = found[0][0]['wq'], found[1][0]['wq']
      np.testing.assert_allclose(got, wanted, atol=0 if dtype == jnp.float32 else 2e-3)
  sizes = [x.dtype for x in jax.tree.leaves(states[1]) if x.ndim]
  assert sizes == [dtype] * 4  # two moments of two parameters
  counts = [x.dtype for x in jax.tree.leaves(states[1]) if not x.ndim]
  assert set(counts) == {jnp.dtype(jnp.int32)}


def orthogonalised(matrix, steps=5, a=3.4445, b=-4.7750, c=2.0315):
  """Newton-Schulz by hand in float64: X <- a X + (b A + c A A) X with A = X X^T."""
  x = np.asarray(matrix, np.float64) / np.linalg.norm(matrix)
  for _ in range(steps):
    square = x @ x.T
    x = a * x + (b * square + c * square @ square) @ x
  return x


def muons_step(params, grads, config, weight_decay):
  rate = optimizer.schedule(1.0, warmup_steps=0, decay_steps=0, final_share=1.0)
  numbers = {'b1': 0.9, 'b2': 0.99, 'weight_decay': weight_decay, 'max_norm': 1e9}
  tx = optimizer.muon(rate, matrices=parameters.matrices(qwen.describe(config)), **numbers)
  with jax.numpy_dtype_promotion('standard'):
    return jax.jit(lambda grads, params: tx.update(grads, tx.init(params), params)[0])(
      grads, params
    )


def test_muon_moves_all_directions_of_a_matrix_alike_and_the_rest_as_adamw_does():
  config = fakes.config(qkv_bias=True)
  params = qwen.init(jax.random.key(0), config)
  grads = jax.tree.map(lambda p: p + 0.1, qwen.init(jax.random.key(1), config))
  steps = muons_step(params, grads, config, weight_decay=0.0)
  inputs = {'wo': 2}  # of the dimensions after that of the layers; 1 for the others
  for name, step in steps['layers'].items():
    for found, grad in zip(step, grads['layers'][name], strict=True):  # by layer
      if name.startswith('w'):
        rows = int(np.prod(grad.shape[: inputs.get(name, 1)]))
        matrix = np.asarray(grad).reshape(rows, -1)
        wanted = -0.2 * np.sqrt(max(matrix.shape)) * orthogonalised(matrix).reshape(grad.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4, err_msg=name)
        after = np.linalg.svdvals(np.asarray(found).reshape(rows, -1))
        before = np.linalg.svdvals(matrix)
        assert after.max() / after.min() < 0.5 * before.max() / before.min()
      else:
        np.testing.assert_allclose(found, -np.sign(grad), rtol=1e-3, err_msg=name)
  np.testing.assert_allclose(steps['embed'], -np.sign(grads['embed']), rtol=1e-3)


def test_under_muon_matrices_of_layers_decay_and_nothing_else():
  config = fakes.config(qkv_bias=True)
  params = jax.tree.map(jnp.ones_like, qwen.init(jax.random.key(0), config))
  steps = muons_step(params, jax.tree.map(jnp.zeros_like, params), config, weight_decay=0.25)
  for path, step in jax.tree.leaves_with_path(steps):
    matrix = path[-1].key.startswith('w')
    np.testing.assert_array_equal(step, np.full(step.shape, -0.25 if matrix else 0.0), str(path))


def test_muons_momentum_is_a_clipped_bias_corrected_mean_kept_as_asked():
  """Two steps by hand: M = b1 M + (1 - b1) G, of gradients cut to the norm, over 1 - b1**t."""
  params, rng = {'w': jnp.zeros((4, 3))}, np.random.default_rng(0)
  grads = [{'w': jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)} for _ in range(2)]
  clipped = [np.asarray(g['w']) * min(1.0, 2.0 / np.linalg.norm(g['w'])) for g in grads]
  assert np.linalg.norm(grads[0]['w']) > 2.0
  momentum = (0.7 * 0.3 * clipped[0] + 0.3 * clipped[1]) / (1 - 0.7**2)
  wanted = -0.5 * 0.2 * np.sqrt(4) * orthogonalised(momentum)
  for dtype, atol in ((jnp.float32, 1e-4), (jnp.bfloat16, 2e-2)):
    tx = optimizer.muon(
      optax.constant_schedule(0.5),
      **{'matrices': {'w': ((0,), (1,))}, 'b1': 0.7, 'b2': 0.9, 'weight_decay': 0.0},
      **{'max_norm': 2.0, 'moments': dtype},
    )
    state = tx.init(params)
    with jax.numpy_dtype_promotion('standard'):
      for grad in grads:
        step, state = tx.update(grad, state, params)
    np.testing.assert_allclose(step['w'], wanted, rtol=1e-3, atol=atol)
    kept = [x.dtype for path, x in jax.tree.leaves_with_path(state) if 'mu' in str(path[-2:])]
    assert set(kept) == {jnp.dtype(dtype)}
