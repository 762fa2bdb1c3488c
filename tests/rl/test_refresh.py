"""A reward model learns from the policy's texts, and a run finds it again."""

import json
import types as types_lib

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.data import tokenizer
from lwz.reward import components, writing
from lwz.rl import refresh, registry, resume, sampling, scoring
from lwz.runtime import preference_pairs, setup, sources
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf
from tests import jobs

ANSWER = '<think>Plan.</think><answer>; ; end. {} ; ; )</answer>'
COMPILED: list = []  # the one training step, which no test changes


class Loop:
  """What is asked of a trainer."""

  def __init__(self):
    self.asked = 0

  def lap(self, name):
    assert name == 'refresh'

  def stop_if_asked(self):
    self.asked += 1


class Bench:
  """A run of four steps with an archive of answers; every third of them is broken."""

  def __init__(self, folder, runs, **changes):
    self.folder, self.loop = folder, Loop()
    c = self.c = grpo_think.get_config('micro')
    c.runs_dir = str(runs)
    c.update_from_flattened_dict(
      {'reward.refresh': 2, 'reward.refresh_steps': 6, 'train.num_steps': 5} | changes
    )
    tok = tokenizer.load(str(runs / 'reward_model-micro' / 'tokenizer'))
    self.mesh, self.decode = setup.mesh(c), tokenizer.decoder(tok)
    self.prompts = list(sampling.fitting(c, tok, sources.writing_prompts(c)))
    self.store = resume.BatchStore(c, folder, stop_if_asked=lambda: None)
    self.samples = []
    for step in range(5):
      rollout = _rollout(c, tok, step)
      stored = self.store.open(step, {'w': jnp.arange(3.0)})
      shape = (c.rl.prompts_per_step, c.rl.group_size)
      stored.archive(rollout, types.Scores(np.zeros((*shape, 3), np.float32), np.ones(shape, bool)))
      chosen = sampling.take(c, self.prompts, step)
      self.samples.append(scoring.samples(c, self.decode, chosen, rollout))

  def open(self, start=0):
    c = self.c
    if not COMPILED:
      model = model_source.config(setup.reference(c, c.reward.model))
      COMPILED.append(refresh.programs(c, model, self.mesh)['refresh'].jit())
    step = types_lib.SimpleNamespace(jit=lambda: COMPILED[0])
    args = (self.store, self.decode, self.prompts, self.folder)
    return refresh.Refresher(c, self.mesh, step, *args, start)

  def step(self, opened, step):
    return opened.step(self.loop, step, self.samples[step])


def _rollout(c, tok, step):
  B, T = c.rl.prompts_per_step * c.rl.group_size, c.rollout.max_tokens
  texts = [(ANSWER if b % 3 else '{}').format(f'{step} {b}') for b in range(B)]
  found = tokenizer.encode(tok, texts, end=True)
  ids_BT = np.zeros((B, T), np.int32)
  for row, ids in zip(ids_BT, found, strict=True):
    row[: len(ids)] = ids
  lengths_B = np.array(list(map(len, found)), np.int32)
  return types.Rollout(ids_BT, np.zeros((B, T), np.float32), lengths_B, np.ones(B, bool))


def files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope='module')
def runs(micro_runs):
  jobs.launch('reward_model:micro', micro_runs)
  return micro_runs


@pytest.fixture(scope='module')
def made(runs, tmp_path_factory):
  """A bench whose run has passed step 3: the metrics of its steps, and the refresher."""
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(refresh, 'NUM_TESTED', 40)
    bench = Bench(tmp_path_factory.mktemp('refreshed'), runs)
    opened = bench.open()
    yield bench, opened, [bench.step(opened, step) for step in range(4)]


@pytest.mark.slow
def test_a_model_is_made_every_n_steps_of_the_policys_valid_answers(made, runs):
  bench, opened, metrics = made
  folder = bench.folder / refresh.FOLDER
  assert sorted(path.name for path in folder.iterdir()) == ['step-000002', 'step-000004']
  pairs = opened._pairs(range(2, 4))
  first = opened._first
  passages = {*opened._passages.values()}
  for pair in pairs:
    assert pair.chosen in passages and pair.rejected.startswith('; ; end.')
    assert pair.prompt in {prompt.text for prompt in bench.prompts}
    assert refresh.preferences.is_in(pair.prompt, (0, 0.6))  # the others are the referee's
  assert {pair.rejected.split()[3] for pair in pairs} <= {'2', '3'}
  assert [m.get('refresh/pairs') for m in metrics][1::2] == [
    len(opened._pairs(range(2))),
    len(pairs),
  ]
  assert [set(m) for m in metrics[::2]] == [{'refresh/first'}] * 2
  assert metrics[3]['refresh/after'] == 1.0 >= metrics[3]['refresh/before']
  valid = [(s.prompt.text, s.parsed.answer) for s in bench.samples[3] if s.parsed.valid]
  assert metrics[3]['refresh/first'] == pytest.approx(np.mean(first(valid)))
  assert np.mean(opened._now(valid)) < np.mean(first(valid))  # what it has learnt
  assert bench.loop.asked == 4 + 2 * 6


@pytest.mark.slow
def test_the_scale_is_that_of_its_own_scores(made):
  bench, opened, metrics = made
  target = bench.folder / refresh.FOLDER / 'step-000004'
  config, params = hf.load(target, bench.mesh)
  assert config.scalar_head
  scores = preference_pairs.scores(
    opened._first.score_fn, params, opened._heldout, opened._first.shape
  )
  scale = json.loads((target / registry.SCALE).read_text())
  assert scale == {'mean': pytest.approx(scores.mean()), 'std': pytest.approx(scores.std())}
  accuracy = np.mean(scores[:, 0] > scores[:, 1])
  assert metrics[3]['refresh/heldout'] == pytest.approx(accuracy)
  pair = bench.samples[0][0].prompt.text, 'A text.'
  assert opened._now._scale == writing.Scale(**scale)
  fn = opened.rewards(None)['writing'].fn
  sample = bench.samples[0][1]
  valid = components.Sample(sample.prompt, '', scoring.format_lib.Parsed('', pair[1], True, ''))
  assert fn([valid])[0] == opened._now([(sample.prompt.text, pair[1])])[0]


@pytest.mark.slow
def test_a_killed_run_has_the_same_models(made, runs, tmp_path):
  bench, opened, metrics = made
  places = {2: 'reward_model:micro', 3: 'step-000002', 4: 'step-000002', 5: 'step-000004'}
  for before, name in places.items():
    assert opened._newest(before).endswith(name)
  other = Bench(tmp_path, runs)  # another run with the same answers
  folder, save = tmp_path / refresh.FOLDER, refresh.hf.save

  def die(*args, **kwargs):
    save(*args, **kwargs)
    raise KeyboardInterrupt

  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(refresh.hf, 'save', die)
    with pytest.raises(KeyboardInterrupt):
      other.step(other.open(), 1)
  assert [path.name for path in folder.iterdir()] == ['.step-000002.tmp']
  assert other.step(other.open(1), 1) == metrics[1]
  again = other.open(3)  # from the files of the model of step 2
  assert other.step(again, 3) == metrics[3]
  wanted = files(bench.folder / refresh.FOLDER / 'step-000004')
  assert files(folder / 'step-000004') == wanted
  refresh.atomic.remove(again._target(4))  # as where the run was to have four steps
  other.open(4)
  assert files(folder / 'step-000004') == wanted
  refresh.atomic.remove(again._target(4))
  other.c.train.num_steps = 4  # killed after its last step: no other one is to have a model
  other.open(4)
  assert not again._target(4).exists()


@pytest.mark.slow
def test_without_valid_answers_the_model_stays(made, monkeypatch):
  bench, opened, _ = made
  monkeypatch.setattr(opened, '_pairs', lambda steps: [])
  stale = opened._target(6)  # of a run on another mesh
  stale.mkdir(parents=True)
  assert opened._make(6, lambda: None) == {'refresh/pairs': 0.0}
  assert not stale.exists() and opened._newest(7).endswith('step-000004')
  assert np.isnan(opened.step(bench.loop, 0, bench.samples[0][::3])['refresh/first'])
  assert 'refresh/pairs' not in bench.step(opened, 4)


def test_what_cannot_be_refreshed_is_refused(tmp_path):
  def refused(match, **changes):
    c = grpo_think.get_config('micro')
    c.update_from_flattened_dict({'reward.refresh': 20, 'runs_dir': str(tmp_path)} | changes)
    with pytest.raises(ValueError, match=match):
      refresh.check(c)

  begin = r'^reward\.refresh=20: .*'
  refused(
    f'{begin}reward.model=http://host/score is no.*name such a run',
    **{'reward.model': 'http://host/score'},
  )
  refused(f'{begin}reward.model=owner/model is no', **{'reward.model': 'owner/model'})
  refused(f'{begin}gives the writing reward', **{'reward.weights.writing': 0.0})
  refused(f'{begin}data.prompts=x.jsonl', **{'data.prompts': 'x.jsonl'})
  refused(f'{begin}local disk', runs_dir='gs://bucket/runs')
  refused('^1 row in a pass, train.micro_rows', **{'train.micro_rows': 1})
  c = grpo_think.get_config('micro')
  refresh.check(c)
  c.reward.refresh = 1
  refresh.check(c)
