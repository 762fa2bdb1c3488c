"""What learning is given of a rollout: who counts, against whom, and by which log-probabilities."""

import logging
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.data import tokenizer
from lwz.learn import advantage
from lwz.model import config as config_lib
from lwz.programs.cost import fit, memory_plan, mfu
from lwz.rl import fixed_models, registry, sampling
from lwz.rl import learner as learner_lib
from lwz.runtime import setup
from lwz.store import model_source
from tests import fakes

P, G, T = 2, 4, 96
B = P * G
PROMPTS = [np.array([1, 2, 3]), np.array([4, 5])]
VETO = {'rl.composition': 'veto', 'rl.advantage': 'mean_reward'}


def config(**changes):
  c = grpo_think.get_config('micro')
  c.update_from_flattened_dict(changes)
  return c


def rollout():
  rng = np.random.default_rng(0)
  lengths = np.array([3, 5, T, 7, 2, 9, 4, T])
  return types.Rollout(
    ids=rng.integers(0, 9, (B, T)).astype(np.int32),
    logp=-rng.random((B, T), np.float32),
    lengths=lengths,
    finished=lengths < T,
  )


def scores():
  values = np.random.default_rng(1).random((P, G, 3)).astype(np.float32)
  return types.Scores(values, np.ones((P, G), bool))


def sampled(values=None):
  values = scores().values if values is None else values
  return sampling.Batch(PROMPTS, [], rollout(), types.Scores(values, np.ones((P, G), bool)))


def own_logp(params, minibatch, num_micro):
  """As a program: of each token, `params` more than the sampler said; 0 where there is none."""
  return jnp.where(minibatch['mask'], minibatch['old_logp'] + params, 0.0)


class Loop:
  """Stands in for the training loop: keeps the minibatches, counts the state up."""

  def __init__(self):
    self.seen = []

  def update(self, fn, state, minibatch, num_micro):
    self.seen.append(minibatch)
    params = state.params + 1.0
    return types.TrainState(state.step + 1, params, None), {'loss': 1.0, 'logp_gap': 0.25}


def step(c, *names, reference=None):
  """The minibatches and the figures of one step whose programs are stand-ins."""
  stand_in = python_types.SimpleNamespace(jit=lambda: own_logp)
  compiled = dict.fromkeys(('grpo', *names), stand_in)
  learner = learner_lib.Learner(c, config_lib.preset('micro'), setup.mesh(c), compiled)
  loop, state = Loop(), types.TrainState(jnp.int32(0), jnp.float32(0.5), None)
  state, figures = learner.step(loop, state, 3, sampled())
  return loop.seen, figures, learner


def name_of(one):
  return round(float(one), 5)


def by_trajectory(minibatches, name):
  """The rows of all minibatches under the trajectory that they are of, told by its advantage."""
  return {
    name_of(a): row
    for minibatch in minibatches
    for a, row in zip(minibatch['advantage'], minibatch[name], strict=True)
  }


def test_every_trajectory_is_learnt_from_once_a_sweep_with_its_advantage():
  seen, figures, _ = step(config(**{'rl.num_epochs': 2}))
  assert len(seen) == 4
  expected = np.asarray(advantage.balanced(scores().values, jnp.ones(3))).reshape(-1)
  for sweep in (seen[:2], seen[2:]):
    found = by_trajectory(sweep, 'old_logp')
    assert sorted(found) == sorted(map(name_of, expected))
    for b, one in enumerate(expected):
      np.testing.assert_array_equal(found[name_of(one)], rollout().logp[b])
  assert figures['learn/loss'] == 1.0 and figures['zero_variance/all'] == 0
  assert figures['advantage/writing'] > 0


def test_a_group_is_informative_if_its_own_advantages_say_so():
  values = scores().values.copy()
  values[1] = 0.5
  values[1, 0] = [0.25, 0.625, 0.625]  # apart, but as good on average
  values[1, 1] = [0.75, 0.375, 0.375]
  for name, wanted in (('balanced', [True, True]), ('mean_reward', [True, False])):
    _, _, learner = step(config(**{'rl.advantage': name}))
    assert learner.informative(sampled(values)).tolist() == wanted


def test_what_was_cut_off_is_left_out_or_learns_that_it_was():
  kept, _, _ = step(config(**{'rl.overlong': 'keep'}))
  masked, _, _ = step(config(**{'rl.overlong': 'mask'}))
  tokens = lambda seen: sum(int(m['mask'].sum()) for m in seen)  # noqa: E731
  assert tokens(kept) - tokens(masked) == 2 * T
  assert sum((m['advantage'] == 0).sum() for m in masked) == 2
  penalise = {'rl.overlong': 'penalise', 'rl.overlong_margin': 1, 'rl.advantage': 'mean_reward'}
  punished, _, _ = step(config(**penalise))
  values = scores().values - (rollout().lengths == T).reshape(P, G, 1)
  expected = np.asarray(advantage.mean_reward(values, jnp.ones(3))).reshape(-1)
  found = np.concatenate([m['advantage'] for m in punished])
  np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-6)


def test_a_composed_reward_alone_is_compared_and_measured():
  c = config(**{'rl.composition': 'product', 'rl.advantage': 'centred', 'rl.overlong': 'mask'})
  seen, figures, learner = step(c)
  valid = (rollout().lengths < T).reshape(P, G)
  expected = np.asarray(advantage.centred(scores().values.prod(axis=-1), valid)).reshape(-1)
  found = np.concatenate([m['advantage'] for m in seen])
  np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-6)
  assert figures['advantage/composed'] > 0 == figures['zero_variance/composed']
  values = scores().values.copy()
  values[1, :, 2] = 0.0  # one reward is 0 for all: the others do not matter
  assert learner.informative(sampled(values)).tolist() == [True, False]
  assert any('advantage/composed' in plot['keys'] for plot in learner_lib.plots(c))


def test_every_composition_is_taken_by_every_advantage_of_one_reward():
  for name in registry.COMPOSITIONS:
    for other in registry.ADVANTAGES.keys() - {*registry.AFTER}:
      c = config(**{'rl.composition': name, 'rl.advantage': other})
      learner_lib.check(c)
      found = np.concatenate([m['advantage'] for m in step(c)[0]])
      assert np.isfinite(found).all() and found.sum() == pytest.approx(0, abs=1e-5)


def test_where_the_sampler_is_not_trusted_the_policy_says_what_it_was_before_the_first_update():
  c = config(**{'rl.tis_cap': 1.5, 'rl.num_epochs': 2})
  trusting, _, _ = step(config(**{'rl.num_epochs': 2}))
  seen, figures, _ = step(c, 'logprob')
  for old, new in zip(trusting, seen, strict=True):
    there = new['mask']
    np.testing.assert_allclose(new['old_logp'][there], old['old_logp'][there] + 0.5, rtol=1e-6)
    np.testing.assert_allclose(new['weight'][there], 1.5)  # exp(0.5) = 1.65, capped
  assert figures['learn/logp_gap'] == pytest.approx(0.5)
  assert figures['learn/tis_weight'] == pytest.approx(1.5)


def test_a_reference_is_there_only_for_a_kl_term(monkeypatch):
  asked = []

  def initial(c, config, mesh, dtype):
    asked.append(dtype)
    return jnp.float32(-2.0)

  monkeypatch.setattr(learner_lib.trainer, 'initial_params', initial)
  step(config())
  assert not asked
  seen, figures, _ = step(config(**{'rl.kl_weight': 0.1}), 'reference')
  assert asked == [config_lib.preset('micro').dtype] and figures['learn/logp_gap'] == 0.25
  for minibatch in seen:
    there = minibatch['mask']
    np.testing.assert_allclose(
      minibatch['ref_logp'][there], minibatch['old_logp'][there] - 2.0, rtol=1e-6
    )


def test_a_teachers_log_probabilities_reach_the_loss(monkeypatch):
  monkeypatch.setattr(fixed_models, 'check', lambda c: None)
  monkeypatch.setattr(model_source, 'config', lambda source: config_lib.preset('micro'))
  monkeypatch.setattr(setup, 'load_params', lambda c, source, *_: jnp.float32(len(source)))
  c = config(**{'rl.loss': 'distill', 'rl.teacher': 'a/run'})
  for minibatch in step(c, 'teacher')[0]:
    there = minibatch['mask']
    wanted = minibatch['old_logp'][there] + len('a/run')
    np.testing.assert_allclose(minibatch['teacher_logp'][there], wanted, rtol=1e-6)
    assert (minibatch['teacher_logp'][~there] == 0).all() and 'ref_logp' not in minibatch


@pytest.mark.parametrize(
  'changes', [{'rl.loss': 'distill'}, {'rl.teacher': 'sft:micro'}], ids=['no teacher', 'no loss']
)
def test_a_teacher_and_its_loss_go_together(changes):
  with pytest.raises(ValueError, match=r"rl\.loss='.*set both or neither"):
    learner_lib.check(config(**changes))


def test_a_teacher_of_another_vocabulary_is_refused(tmp_path):
  def model(name, text, **changes):
    folder = tmp_path / name
    model_source.keep(folder, fakes.config(**changes))
    tokenizer.save(tokenizer.train([text], 300), folder / 'tokenizer')
    return str(folder)

  (tmp_path / 'own').mkdir(), (tmp_path / 'twin').mkdir(), (tmp_path / 'other').mkdir()
  (tmp_path / 'marks').mkdir()
  text = 'A river runs to the sea. ' * 9
  own = model('own', text)
  c = config(**{'rl.loss': 'distill', 'init': own})
  c.rl.teacher = model('twin', text)
  learner_lib.check(c)
  c.rl.teacher = model('other', 'Something else altogether, other words. ' * 9)
  with pytest.raises(ValueError, match=r'rl\.teacher=.*other: its vocabulary is not that of init='):
    learner_lib.check(c)
  c.rl.teacher = model('marks', text, scalar_head=True)
  with pytest.raises(ValueError, match='a reward model gives marks'):
    learner_lib.check(c)


def test_short_trajectories_lie_in_short_rows():
  long, short = (config(**{'train.halvings': n, 'rl.overlong': 'keep'}) for n in (0, 1))
  learner_lib.check(short)
  assert {m['micro']['ids'].shape[-1] for m in step(long)[0]} == {256}
  assert {m['micro']['ids'].shape[-1] for m in step(short)[0]} == {128}


def test_speed_counts_prompts_and_answers_in_every_sweep(monkeypatch):
  c = config(**{'rl.num_epochs': 2})
  monkeypatch.setattr(mfu.hardware, 'local', lambda _: python_types.SimpleNamespace(flops=1e12))
  _, _, learner = step(c)
  told = learner.speed(sampled(), seconds=2.0)
  lengths = rollout().lengths + np.repeat([3, 2], G)
  assert told['learn/tokens_per_second'] == lengths.sum()
  flops = 2 * mfu.train_flops(config_lib.preset('micro'), lengths)
  assert told['learn/mfu'] == pytest.approx(flops / (2.0 * 1e12 * jax.device_count()))


def test_programs_are_those_that_the_loss_asks_for_and_the_reference_stays():
  c = config(**{'rl.kl_weight': 0.1, 'rl.tis_cap': 2.0})
  policy, mesh = config_lib.preset('micro'), setup.mesh(c)
  assert set(learner_lib.programs(config(), policy, mesh)) == {'grpo'}
  built = learner_lib.programs(c, policy, mesh)
  assert set(built) == {'grpo', 'logprob', 'reference'}
  assert {'ref_logp', 'weight'} < set(built['grpo'].abstract_args[1])
  found = {entry.program.name: entry for entry in memory_plan.plan(built)}
  assert set(found['grpo'].residents) == {'reference'}
  reference = fit.bytes_per_device(built['reference'].abstract_args[0])
  assert fit.bytes_per_device(found['grpo'].residents) == reference > 0
  assert set(found['reference'].residents) == {'masters and optimiser'}
  assert set(found['logprob'].residents) == {'optimiser', 'reference'}
  built = learner_lib.programs(config(**{'rl.loss': 'distill'}), policy, mesh, policy)
  assert 'teacher_logp' in built['grpo'].abstract_args[1]
  found = {entry.program.name: entry for entry in memory_plan.plan(built)}
  assert set(found['grpo'].residents) == {'teacher'}


def test_every_choice_has_a_function():
  c = config(**{'rl.ratio_cap': 3.0})
  assert registry.LOSSES['grpo'](c, None).keywords == {'ratio_cap': 3.0}
  assert registry.LOSSES['grpo'](config(), None).keywords == {'ratio_cap': np.inf}
  values, valid = scores().values, scores().valid
  means = values.mean(axis=-1)
  for name, entry in registry.ADVANTAGES.items():
    found = np.asarray(entry(c, None)(values, jnp.ones(3), valid))
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-5, err_msg=name)
  expected = means - means.mean(axis=1, keepdims=True)
  for name, times in (('centred', 1.0), ('leave_one_out', G / (G - 1))):
    found = registry.ADVANTAGES[name](c, None)(values, jnp.ones(3), valid)
    np.testing.assert_allclose(found, expected * times, atol=1e-6)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'rl.loss': 'ppo'}, r"rl\.loss: there is no 'ppo'; choose from grpo, gspo, cispo"),
    ({'rl.overlong': 'drop'}, r"rl\.overlong: there is no 'drop'"),
    ({'rl.advantage': 'gae'}, r"rl\.advantage: there is no 'gae'"),
    ({'rl.composition': 'mix'}, r"rl\.composition: there is no 'mix'; choose from sum, product"),
    ({'rl.composition': 'sum'}, r"'balanced' averages several afterwards: set rl\.advantage='mean"),
    (
      VETO | {'rl.constraints': ('rubric',)},
      r"rl\.constraints=\('rubric',\): .*format, length, w",
    ),
    (
      VETO | {'rl.constraints': ('length', 'writing', 'format')},
      'another with a weight that is no',
    ),
    (VETO | {'rl.constraints': ()}, r'rl\.constraints=\(\)'),
    ({'rl.ratio_cap': 1.2}, r'rl\.ratio_cap=1\.2 must be above 1 \+ clip_high = 1\.2'),
    (
      {'rl.ratio_cap': 3.0, 'rl.loss': 'gspo'},
      r'rl\.ratio_cap=3\.0 is of dual clip, which only grpo has',
    ),
    ({'rl.overlong': 'penalise'}, r"'penalise' takes .* set rl\.advantage='mean_reward'"),
    (
      {'rl.overlong': 'penalise', 'rl.overlong_margin': 97, 'rl.advantage': 'mean_reward'},
      r'rl\.overlong_margin=97',
    ),
    ({'train.halvings': 9}, r'train\.halvings=9: data\.row_length=256'),
    ({'train.halvings': 7, 'mesh.context': 4}, r'= 512'),
    ({'rl.num_minibatches': 3}, r'rl\.num_minibatches=3 does not divide .* = 8 samples'),
    ({'rl.group_size': 1}, r'rl\.group_size=1: choose at least 2'),
  ],
)
def test_what_does_not_go_together_is_refused_by_its_keys(changes, message):
  with pytest.raises(ValueError, match=message):
    learner_lib.check(config(**changes))


@pytest.mark.parametrize(
  'changes, hint',
  [
    ({'rl.loss': 'gspo'}, '3e-4 and 4e-4'),
    ({'rl.loss': 'gspo', 'rl.clip_low': 3e-4, 'rl.clip_high': 4e-4}, ''),
    ({'rl.loss': 'cispo'}, 'rl.clip_low=0.2 should be 1'),
    ({'rl.loss': 'cispo', 'rl.clip_low': 1.0}, ''),
    ({}, ''),
  ],
)
def test_clips_of_another_loss_get_a_hint(changes, hint, caplog):
  with caplog.at_level(logging.WARNING, logger='absl'):
    learner_lib.check(config(**changes))
  assert hint in caplog.text and bool(hint) == bool(caplog.text)
