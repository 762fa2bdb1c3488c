"""A gradient is a gradient, however the batch is cut; one step of the optimiser, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lwz.learn import losses, optimizer, update
from lwz.model import sharding


def problem(num_micro=4, B=3, T=5, V=7):
  """A table of logits, and micro-batches of tokens with ragged masks, one of them empty."""
  rng = np.random.default_rng(0)
  params = {'w_table': rng.normal(size=(V, V)).astype(np.float32), 'bias': np.zeros(V, np.float32)}
  micro_batches = {
    'ids': rng.integers(0, V, (num_micro, B, T)).astype(np.int32),
    'mask': rng.random((num_micro, B, T)) < np.array([0.9, 0.3, 0.0, 0.6])[:num_micro, None, None],
  }
  return jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.asarray, micro_batches)


def loss_of(num_tokens):
  def loss_fn(params, batch):
    logits = params['w_table'][batch['ids']] + params['bias'][None, None]
    logp = jax.nn.log_softmax(logits)[:, :-1]
    logp = jnp.take_along_axis(logp, batch['ids'][:, 1:, None], axis=-1)[..., 0]
    mask, share = batch['mask'][:, 1:], losses.budget_mean(num_tokens)
    loss = losses.next_token(logp, mask, aggregate=share)
    return loss, {'logp': share(logp, mask), 'tokens': jnp.sum(mask)}

  return loss_fn


def merged(micro_batches):
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), micro_batches)


def assert_close(actual, expected):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7), actual, expected
  )


def test_micro_batches_are_the_whole_batch():
  params, micro_batches = problem()
  num_tokens = int(micro_batches['mask'][:, :, 1:].sum())
  loss_fn = loss_of(num_tokens)
  grads, metrics = update.accumulate(loss_fn, params, micro_batches, 4)
  whole = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (loss, aux), expected = whole(params, merged(micro_batches))
  assert_close(grads, expected)
  assert jax.tree.map(jax.typeof, grads) == jax.tree.map(jax.typeof, params)
  assert_close(metrics, {'loss': loss, **aux})
  assert metrics['tokens'] == num_tokens
  assert np.abs(grads['w_table']).max() > 0.01


def test_a_count_takes_the_first_so_many_traced_or_not_and_traced_compiles_once():
  params, micro_batches = problem()
  loss_fn, traces = loss_of(10), []
  gradient = jax.jit(jax.grad(loss_fn, has_aux=True))
  parts = [gradient(params, jax.tree.map(lambda x, i=i: x[i], micro_batches))[0] for i in range(4)]

  @jax.jit
  def accumulate(params, micro_batches, num_micro):
    traces.append(num_micro)
    return update.accumulate(loss_fn, params, micro_batches, num_micro)

  for num_micro in (1, 2, 4):
    expected = jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *parts[:num_micro])
    counted = update.accumulate(loss_fn, params, micro_batches, num_micro)
    traced = accumulate(params, micro_batches, jnp.int32(num_micro))
    assert_close(counted[0], expected)
    assert_close(traced, counted)
  assert len(traces) == 1


def test_it_starts_at_step_zero_with_a_fresh_state():
  params, _ = problem()
  tx = optax.adam(1e-3)
  state = update.init(params, tx)
  assert state.step == 0 and state.step.dtype == jnp.int32
  assert state.params is params
  jax.tree.map(np.testing.assert_array_equal, state.opt_state, tx.init(params))


def adamw_by_hand(params, gradients, rates, *, b1, b2, weight_decay, max_norm, decays, eps=1e-8):
  """Loshchilov and Hutter's Algorithm 2 in float64 over steps; the gradient's norm is cut first."""
  m = {name: 0.0 for name in params}
  v = {name: 0.0 for name in params}
  params = {name: np.asarray(p, np.float64) for name, p in params.items()}
  for t, (grads, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
    norm = np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in grads.values()))
    for name in params:
      g = np.asarray(grads[name], np.float64) * min(1.0, max_norm / norm)
      m[name] = b1 * m[name] + (1 - b1) * g
      v[name] = b2 * v[name] + (1 - b2) * g**2
      step = m[name] / (1 - b1**t) / (np.sqrt(v[name] / (1 - b2**t)) + eps)
      params[name] = params[name] - rate * (step + weight_decay * decays[name] * params[name])
  return params


@pytest.mark.parametrize('max_norm', [1e9, 0.5])
def test_apply_is_adamw(max_norm):
  rng = np.random.default_rng(0)
  shapes = {'wq': (3, 4), 'bq': (4,), 'attention_norm': (3,), 'embed': (5, 3), 'score': (3,)}
  params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
  # The first gradient is large, the last small: with max_norm 0.5 the clip cuts some of them.
  gradients = [
    {k: jnp.asarray(size * rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    for size in (3.0, 1.0, 0.01)
  ]
  numbers = {'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.1, 'max_norm': max_norm}
  rate = optimizer.schedule(0.02, warmup_steps=2, decay_steps=0, final_share=1.0)
  decays = {name: name in ('wq', 'embed') for name in shapes}
  tx = optimizer.adamw(rate, **numbers, decay_mask=decays)
  state = update.init(params, tx)
  step = jax.jit(lambda state, grads: update.apply(state, grads, tx))
  for grads in gradients:
    state, metrics = step(state, grads)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-6)  # before the clip
  expected = adamw_by_hand(params, gradients, [0.0, 0.01, 0.02], **numbers, decays=decays)
  assert state.step == 3
  for name, value in expected.items():
    np.testing.assert_allclose(state.params[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_step_follows_the_gradient_downhill():
  params, micro_batches = problem()
  loss_fn = loss_of(int(micro_batches['mask'][:, :, 1:].sum()))
  rate = optimizer.schedule(0.1, warmup_steps=0, decay_steps=0, final_share=1.0)
  tx = optimizer.adamw(rate, b1=0.9, b2=0.99, weight_decay=0.0, decay_mask=None, max_norm=1.0)
  state, found = update.init(params, tx), []

  @jax.jit
  def step(state):
    grads, metrics = update.accumulate(loss_fn, state.params, micro_batches, 4)
    state, norms = update.apply(state, grads, tx)
    return state, metrics | norms

  for _ in range(10):
    state, metrics = step(state)
    found.append(float(metrics['loss']))
  assert found == sorted(found, reverse=True) and found[-1] < 0.8 * found[0]


def test_without_a_gradient_what_the_mask_names_decays_and_all_else_stays():
  params = {'wq': jnp.ones((2, 2)), 'bq': jnp.ones(2)}
  rate = optimizer.schedule(0.5, warmup_steps=0, decay_steps=0, final_share=1.0)
  mask = {'wq': True, 'bq': False}
  tx = optimizer.adamw(rate, b1=0.9, b2=0.99, weight_decay=0.1, decay_mask=mask, max_norm=1.0)
  grads = jax.tree.map(jnp.zeros_like, params)
  state, metrics = jax.jit(lambda state: update.apply(state, grads, tx))(update.init(params, tx))
  np.testing.assert_allclose(state.params['wq'], 0.95, rtol=1e-6)
  np.testing.assert_array_equal(state.params['bq'], 1.0)
  assert metrics['grad_norm'] == 0


def simple(rate=0.1, **changes):
  numbers = {'b1': 0.9, 'b2': 0.99, 'weight_decay': 0.0, 'decay_mask': None, 'max_norm': 1.0}
  constant = optimizer.schedule(rate, warmup_steps=0, decay_steps=0, final_share=1.0)
  return optimizer.adamw(constant, **(numbers | changes))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_skips_the_step_and_the_next_goes_on(bad):
  params, tx = {'wq': jnp.ones((2, 2)), 'bq': jnp.ones(2)}, simple()
  step = jax.jit(lambda state, grads: update.apply(state, grads, tx))
  grads = jax.tree.map(jnp.ones_like, params)
  state, metrics = step(update.init(params, tx), grads)
  assert metrics['skipped'] == 0 and state.step == 1
  broken = {**grads, 'bq': grads['bq'].at[0].set(bad)}
  after, metrics = step(state, broken)
  assert metrics['skipped'] == 1 and not np.isfinite(metrics['grad_norm'])
  jax.tree.map(np.testing.assert_array_equal, after, state)
  again, metrics = step(after, grads)
  jax.tree.map(np.testing.assert_array_equal, again, step(state, grads)[0])
  assert metrics['skipped'] == 0 and again.step == 2


def test_a_state_on_the_host_takes_the_same_step():
  mesh = sharding.make_mesh((1, 2))
  where = NamedSharding(mesh, PartitionSpec('fsdp'))
  params = {'wq': jnp.arange(8.0).reshape(4, 2), 'bq': jnp.ones(2)}
  grads, tx = jax.tree.map(jnp.cos, params), simple()
  plain = update.init(params, tx)
  shapes = jax.eval_shape(lambda p: update.init(p, tx), params)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=where if x.ndim else NamedSharding(mesh, PartitionSpec())
    ),
    shapes,
  )
  shapes = shapes.replace(opt_state=optimizer.on_host(shapes.opt_state))
  placed = jax.tree.map(lambda x: x.sharding, shapes)
  kinds = {x.sharding.memory_kind for x in jax.tree.leaves(shapes.opt_state) if x.shape}
  assert kinds == {'pinned_host'}
  assert 'pinned_host' not in {x.memory_kind for x in jax.tree.leaves(placed.params)}
  step = jax.jit(
    lambda state, grads: update.apply(state, grads, tx)[0],
    in_shardings=(placed, None),
    out_shardings=placed,
  )
  far, near = jax.device_put(plain, placed), plain
  for _ in range(2):
    far, near = step(far, grads), jax.jit(lambda s: update.apply(s, grads, tx)[0])(near)
  assert jax.tree.map(lambda x: x.sharding, far) == placed
  assert_close(far, near)


def test_gradients_lie_where_they_are_told_and_are_the_same():
  params, micro_batches = problem(V=8)
  mesh = sharding.make_mesh((1, 4))
  where = jax.tree.map(lambda p: NamedSharding(mesh, PartitionSpec('fsdp')), params)
  loss_fn = loss_of(10)
  plain = jax.jit(lambda p: update.accumulate(loss_fn, p, micro_batches, 4)[0])(params)
  cut = jax.jit(lambda p: update.accumulate(loss_fn, p, micro_batches, 4, shardings=where)[0])
  found = cut(jax.device_put(params, where))
  assert_close(found, plain)
  assert jax.tree.map(lambda x: x.sharding, found) == where
