"""An update on packed micro-batches is the plain one: a row per trajectory, the loss as written."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz import rows as rows_lib
from lwz.learn import losses, update
from lwz.model import config as config_lib
from lwz.model import sharding
from lwz.programs import grpo, placement
from lwz.programs.cost import fit, hardware, topology
from tests import fakes

CONFIG = fakes.config()
B, T, ROW_LENGTH, MICRO_ROWS = 6, 7, 12, 2
TEMPERATURE, LOW, HIGH, RATE = 0.8, 0.2, 0.3, 0.1
PROMPTS = fakes.texts([2, 5, 1, 3, 3, 4], CONFIG, seed=1)
ANSWERS = fakes.texts([5, 7, 1, 2, 6, 3], CONFIG, seed=2)
ADVANTAGE = np.array([1.0, -0.7, 0.4, -1.3, 0.0, 0.9], np.float32)
LENGTHS = np.array([len(a) for a in ANSWERS])
MASK = rows_lib.length_mask(LENGTHS, T)
AGGREGATES = {
  'token': lambda num_tokens, num_sequences: losses.budget_mean(num_tokens),
  'sequence': lambda num_tokens, num_sequences: losses.sequence_budget_mean(num_sequences),
}
SHAPE = grpo.BatchShape(B, T, ROW_LENGTH, MICRO_ROWS, chunk=16)
OBJECTIVE = grpo.Objective(LOW, HIGH, AGGREGATES['token'])


@functools.cache
def program(num_sequences=B, aggregate='token'):
  shape = dataclasses.replace(SHAPE, num_sequences=num_sequences)
  return update_program(shape, aggregate=AGGREGATES[aggregate])


def update_program(shape=SHAPE, mesh=None, **changes):
  objective = dataclasses.replace(OBJECTIVE, **changes)
  numbers = {'temperature': TEMPERATURE, 'remat': 'none', 'mesh': mesh}
  return grpo.update_step(CONFIG, optax.sgd(RATE), shape, objective, **numbers)


@functools.cache
def compiled(num_sequences=B, aggregate='token'):
  return program(num_sequences, aggregate).jit()


def state():
  return update.init(fakes.params(CONFIG), optax.sgd(RATE))


@jax.jit
def answer_logprob(params):
  """(logp, entropy) [B, T] of each trajectory's answer: prompt and answer alone in a row."""
  whole = [np.concatenate(pair) for pair in zip(PROMPTS, ANSWERS, strict=True)]
  tables = fakes.logprob(params, fakes.padded(whole, 20), CONFIG, TEMPERATURE)
  start = jnp.array([len(p) - 1 for p in PROMPTS])[:, None] + jnp.arange(T)[None]
  return [jnp.take_along_axis(table, start, axis=1) for table in tables]


@functools.cache
def old_logp():
  """Of an older policy, so that the clip acts on both sides; NaN where there is no token."""
  noise = np.random.default_rng(0).normal(0, 0.4, (B, T)).astype(np.float32)
  return np.where(MASK, np.asarray(answer_logprob(fakes.params(CONFIG))[0]) + noise, np.nan)


def batch(old=None, members=range(B), valid=None, answers=ANSWERS, advantage=ADVANTAGE):
  """`minibatch` of some of the trajectories."""
  members = list(members)
  return grpo.minibatch(
    [PROMPTS[b] for b in members],
    [answers[b] for b in members],
    (old_logp() if old is None else old)[members],
    advantage[members],
    (np.ones(B, bool) if valid is None else valid)[members],
    SHAPE,
  )


def plain(params, aggregate):
  """L = - aggregate min(rho A, clip(rho, 1 - low, 1 + high) A), and what the metrics should say."""
  logp, entropy = answer_logprob(params)
  old = np.where(MASK, old_logp(), 0)
  ratio = jnp.exp(logp - old)
  advantage = jnp.asarray(ADVANTAGE)[:, None]
  gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - LOW, 1 + HIGH) * advantage)
  gain = jnp.where(MASK, gain, 0.0)
  match aggregate:
    case 'token':
      loss = -jnp.sum(gain) / np.float32(MASK.sum())
    case 'sequence':
      loss = -jnp.mean(jnp.sum(gain, axis=1) / LENGTHS.astype(np.float32))
  mean = lambda x: x[MASK].mean()  # noqa: E731
  metrics = {
    'entropy': mean(entropy),
    'ratio': mean(ratio),
    'logp_gap': mean(jnp.abs(logp - old)),
    'kl_sampler': mean(ratio - 1 - jnp.log(ratio)),
    'clip_frac_low': mean(jnp.float32((ratio < 1 - LOW) & (advantage < 0))),
    'clip_frac_high': mean(jnp.float32((ratio > 1 + HIGH) & (advantage > 0))),
  }
  return loss, metrics


def assert_close(one, other, atol=1e-6):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other)


def moved(grads):
  return jax.tree.map(lambda p, g: p - RATE * g, fakes.params(CONFIG), grads)


@pytest.mark.parametrize('aggregate', ['token', pytest.param('sequence', marks=pytest.mark.slow)])
def test_packed_micro_batches_are_the_plain_update(aggregate):
  minibatch, num_micro = batch()
  assert num_micro == 2 < len(minibatch['micro']['here'])
  new, metrics = compiled(B, aggregate)(state(), minibatch, num_micro)
  written_out = jax.jit(jax.value_and_grad(plain, has_aux=True), static_argnums=1)
  (loss, expected), grads = written_out(fakes.params(CONFIG), aggregate)
  assert expected['clip_frac_low'] > 0 and expected['clip_frac_high'] > 0
  assert_close(new.params, moved(grads))
  np.testing.assert_allclose(metrics.pop('grad_norm'), optax.tree.norm(grads), rtol=1e-5)
  assert metrics.pop('skipped') == 0
  assert_close(metrics, expected | {'loss': loss})


def test_on_policy_it_is_reinforce():
  params = fakes.params(CONFIG)
  old = np.asarray(answer_logprob(params)[0])
  new, metrics = compiled()(state(), *batch(old))
  weight = jnp.where(MASK, jnp.asarray(ADVANTAGE)[:, None], 0.0) / np.float32(MASK.sum())
  grads = jax.jit(jax.grad(lambda p: -jnp.sum(answer_logprob(p)[0] * weight)))(params)
  assert_close(new.params, moved(grads))
  assert metrics['logp_gap'] < 1e-5 and abs(metrics['ratio'] - 1) < 1e-5
  assert metrics['clip_frac_low'] == metrics['clip_frac_high'] == 0


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_an_invalid_trajectory_is_one_that_is_not_there(aggregate):
  valid = np.arange(B) != 3
  advantage = np.where(valid, ADVANTAGE, 0.0).astype(np.float32)
  masked, told = compiled(B, aggregate)(state(), *batch(valid=valid, advantage=advantage))
  removed, expected = compiled(B - 1, aggregate)(state(), *batch(members=np.flatnonzero(valid)))
  assert_close(masked.params, removed.params)
  assert_close(told, expected)


def test_what_an_invalid_trajectory_says_does_not_matter():
  valid = np.arange(B) != 3
  others = [*ANSWERS[:3], fakes.texts([len(ANSWERS[3])], CONFIG, seed=9)[0], *ANSWERS[4:]]
  old = np.where(valid[:, None], old_logp(), np.nan)
  one = compiled()(state(), *batch(valid=valid))
  other = compiled()(state(), *batch(old=old, valid=valid, answers=others))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
  assert_close(one, other)


def test_a_minibatch_without_a_valid_trajectory_changes_nothing():
  new, metrics = compiled()(state(), *batch(valid=np.zeros(B, bool)))
  jax.tree.map(np.testing.assert_array_equal, new.params, fakes.params(CONFIG))
  assert metrics['loss'] == 0


def test_however_many_micro_batches_there_are_one_compilation_serves():
  fn = program().jit()
  long = fakes.texts([T] * B, CONFIG)
  given = state()
  used = []
  for answers in (ANSWERS, long):
    minibatch, num_micro = batch(answers=answers, old=np.zeros((B, T), np.float32))
    used.append(num_micro)
    before, (given, metrics) = given, fn(given, minibatch, num_micro)
    assert before.params['embed'].is_deleted()
  assert used == [2, 3] and fn._cache_size() == 1 and given.step == 2
  args = (given, minibatch, np.int32(num_micro))
  assert fakes.fits(program(), args, (given, metrics))


def test_short_trajectories_lie_in_short_rows_of_few_shapes():
  shape = {'row_length': 64, 'micro_rows': 2, 'halvings': 3}
  found = {n: grpo.row_shape(n, 8, **shape) for n in (1, 8, 9, 16, 17, 32, 33, 64)}
  assert found == {
    **dict.fromkeys((1, 8), (8, 8)),
    **dict.fromkeys((9, 16), (16, 8)),
    **dict.fromkeys((17, 32), (32, 4)),
    **dict.fromkeys((33, 64), (64, 2)),
  }
  assert grpo.row_shape(1, 8, row_length=12, micro_rows=2, halvings=9) == (3, 8)
  assert grpo.row_shape(1, 8, row_length=12, micro_rows=2, halvings=0) == (12, 2)


def test_rows_of_any_length_give_the_same_step_and_as_many_compilations_as_lengths():
  shape = dataclasses.replace(SHAPE, row_length=24, micro_rows=1)
  fn = update_program(shape).jit()
  found = []
  for halvings in (0, 1, 5):  # 24, 12 and again 12: the longest trajectory has 12 tokens
    minibatch, num_micro = grpo.minibatch(
      *(PROMPTS, ANSWERS, old_logp(), ADVANTAGE, np.ones(B, bool)), shape, halvings=halvings
    )
    found.append(fn(state(), minibatch, num_micro))
  assert fn._cache_size() == 2
  assert_close(found[1], found[0])
  assert_close(found[2], found[1], atol=0)


def test_a_minibatch_holds_every_trajectory_once():
  minibatch, _ = batch()
  micro = minibatch['micro']
  np.testing.assert_array_equal(micro['here'].sum(axis=0), np.ones(B))
  np.testing.assert_array_equal(minibatch['mask'], MASK)
  for b, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
    (m,) = np.flatnonzero(micro['here'][:, b])
    at = minibatch['index'][b, : len(answer)]
    np.testing.assert_array_equal(micro['ids'][m].reshape(-1)[at + 1], answer)
    assert micro['ids'][m].reshape(-1)[at[0]] == prompt[-1]
    assert micro['positions'][m].reshape(-1)[at[0]] == len(prompt) - 1


def test_a_trajectory_longer_than_a_row_is_refused():
  with pytest.raises(ValueError, match='sequence 1 has 12 tokens, a row only 11'):
    shape = dataclasses.replace(SHAPE, row_length=11)
    grpo.minibatch(PROMPTS, ANSWERS, old_logp(), ADVANTAGE, np.ones(B, bool), shape)


def test_every_epoch_sweeps_the_whole_rollout_once_in_an_order_of_its_own():
  parts = grpo.minibatch_members(12, num_epochs=3, num_minibatches=4, seed=1, step=2)
  assert [len(part) for part in parts] == [3] * 12
  epochs = [np.concatenate(parts[4 * e : 4 * e + 4]).tolist() for e in range(3)]
  assert all(sorted(order) == list(range(12)) for order in epochs)
  assert len({tuple(order) for order in epochs}) == 3


def test_the_order_is_counted():
  def order(**changes):
    sizes = {'num_epochs': 1, 'num_minibatches': 1, 'seed': 1, 'step': 2} | changes
    return grpo.minibatch_members(12, **sizes)[0].tolist()

  assert order() == order()
  assert order() != order(seed=2) and order() != order(step=3)
  assert order() == order(num_epochs=2)


@functools.cache
def mixed_step(mesh_shape=None):
  """A step with every term of the objective: KL to a reference, entropy, weights."""
  mesh = mesh_shape and sharding.make_mesh(mesh_shape)
  shape = dataclasses.replace(SHAPE, row_length=16, micro_rows=4)
  built = update_program(shape, mesh, kl_weight=0.1, entropy_weight=0.05, weighted=True)
  noise = np.random.default_rng(5).normal(0, 0.3, (2, B, T)).astype(np.float32)
  minibatch, num_micro = grpo.minibatch(
    *(PROMPTS, ANSWERS, old_logp(), ADVANTAGE, np.ones(B, bool), shape),
    ref_logp=np.where(MASK, old_logp() + noise[0], np.nan),
    weight=np.where(MASK, np.exp(noise[1]), np.nan),
  )
  begin = state()
  if mesh is not None:
    begin = jax.device_put(begin, placement.shardings(built.abstract_args[0]))
  return built.jit()(begin, minibatch, num_micro), minibatch


def test_the_objective_is_the_sum_of_its_terms():
  (new, metrics), minibatch = mixed_step()
  ref, weight = (jnp.asarray(minibatch[name]) for name in ('ref_logp', 'weight'))

  def written_out(params):
    logp, entropy = answer_logprob(params)
    old = np.where(MASK, old_logp(), 0)
    ratio, advantage = jnp.exp(logp - old), jnp.asarray(ADVANTAGE)[:, None]
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - LOW, 1 + HIGH) * advantage)
    kl = jnp.exp(ref - logp) - (ref - logp) - 1
    values = -gain * weight + 0.1 * kl - 0.05 * entropy
    mean = lambda x: jnp.sum(jnp.where(MASK, x, 0)) / np.float32(MASK.sum())  # noqa: E731
    return mean(values), mean(kl)

  (loss, kl), grads = jax.jit(jax.value_and_grad(written_out, has_aux=True))(fakes.params(CONFIG))
  assert_close(new.params, moved(grads))
  np.testing.assert_allclose(metrics['loss'], loss, atol=1e-6)
  np.testing.assert_allclose(metrics['kl_reference'], kl, rtol=1e-5)


@pytest.mark.slow
def test_an_untied_model_compiles_for_a_tpu_that_is_not_there():
  # Where gradients are added up before they are reduced, XLA's TPU pass fails on its casts.
  pytest.importorskip('libtpu')
  over = topology.load('v5p:2x2x2')
  model = dataclasses.replace(config_lib.preset('32b'), num_hidden_layers=2)
  assert not model.tie_word_embeddings
  built = grpo.update_step(
    *(model, optax.adamw(1e-6), grpo.BatchShape(8, 1_024, 2_048, 4, chunk=512), OBJECTIVE),
    temperature=0.8,
    remat='full',
    mesh=sharding.make_mesh((1, 4, 2), over.devices),
  )
  found = fit.measure(built)
  assert found.compiled and found.peak < hardware.usable(over.chip)


def test_on_a_mesh_it_is_the_same_step():
  (new, metrics), _ = mixed_step((1, 4, 1, 2))
  (expected, told), _ = mixed_step()
  assert_close(new.params, expected.params)
  assert_close(metrics, told, atol=1e-5)


def test_log_probabilities_of_a_minibatch_are_those_of_the_trajectories():
  built = grpo.logprob_step(CONFIG, SHAPE, temperature=TEMPERATURE)
  minibatch, num_micro = batch()
  args = (fakes.params(CONFIG), minibatch, np.int32(num_micro))
  found = built.jit()(*args)
  expected = np.where(MASK, np.asarray(answer_logprob(fakes.params(CONFIG))[0]), 0)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert fakes.fits(built, args, found)


def test_any_loss_of_the_family_makes_a_step():
  loss = losses.gspo
  new, metrics = update_program(policy_loss=loss).jit()(state(), *batch())

  def written_out(params):
    logp, _ = answer_logprob(params)
    clips = {'clip_low': LOW, 'clip_high': HIGH, 'aggregate': losses.token_mean}
    return loss(logp, np.where(MASK, old_logp(), 0), ADVANTAGE, MASK, **clips)

  (value, told), grads = jax.jit(jax.value_and_grad(written_out, has_aux=True))(
    fakes.params(CONFIG)
  )
  assert_close(new.params, moved(grads))
  assert_close({name: metrics[name] for name in told}, told, atol=1e-5)
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5, atol=1e-6)
