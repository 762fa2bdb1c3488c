"""When a training loop saves, stops, and gives up."""

import itertools
import types as std_types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import base
from lwz import types
from lwz.model import config as config_lib
from lwz.runtime import interrupts, refusal, trainer
from lwz.store import metrics, run

NOT_FINITE = {'loss': np.float32(np.nan), 'skipped': 1.0}
FINE = {'loss': np.float32(2.0), 'skipped': 0.0}


class Checkpoints:
  """Remembers what was saved, instead of writing it."""

  def __init__(self, folder, **options):
    self.saved, self.metrics, self.options, self.failed = [], [], options, False

  def save(self, step, state, extra, *, metric=None):
    assert extra['step'] == step
    self.saved.append(step)
    self.metrics.append(metric)

  def latest(self):
    return self.saved[-1] if self.saved else None

  def check(self):
    if self.failed:
      raise OSError('a checkpoint could not be written')

  def wait(self):
    pass

  def close(self):
    pass


@pytest.fixture
def loop(monkeypatch, tmp_path):
  """A loop over `steps`, with keys of the config by their dotted names."""
  monkeypatch.setattr(trainer.checkpoint, 'Checkpoints', Checkpoints)
  state = types.TrainState(jnp.int32(0), {'w': jnp.ones(2)}, ())
  monkeypatch.setattr(trainer, 'initial_params', lambda *arguments: {})
  monkeypatch.setattr(trainer, 'begin_from', lambda *arguments, **options: state)
  monkeypatch.setattr(interrupts, '_HEARD', [])

  def make(steps, **keys):
    c = base.get_config('micro')
    c.experiment, c.train.num_steps = 'test', steps
    c.log.sinks = ()
    for key, value in keys.items():
      room, name = key.split('__')
      c[room][name] = value
    return trainer.Trainer(c, run.Run(tmp_path), config_lib.preset('micro'), None)

  return make


def go(loop, metrics=lambda step: FINE, at=lambda step: None):
  """Runs a loop to its end with these metrics for each step; returns the steps it went through."""
  seen = []
  for step in loop:
    at(step)
    state, found = loop.update(lambda state, step=step: (state, metrics(step)), loop.state)
    seen.append(step)
    loop.record(step, state, found, show=('loss',))
  return seen


def test_it_saves_by_steps_and_at_the_end(loop):
  opened = loop(7, checkpoint__every=3)
  assert go(opened) == list(range(7))
  assert opened._checkpoints.saved == [3, 6, 7]


def test_a_save_that_fails_in_the_background_is_told_at_the_next_step(loop):
  opened, seen = loop(9, checkpoint__every=3), []

  def at(step):
    seen.append(step)
    opened._checkpoints.failed = step == 4

  with pytest.raises(OSError, match='could not be written'):
    go(opened, at=at)
  assert seen[-1] == 4


def test_laps_of_one_name_add_up(loop, tmp_path, monkeypatch):
  clock = itertools.count(step=2)
  monkeypatch.setattr(trainer, 'time', std_types.SimpleNamespace(monotonic=clock.__next__))
  opened = loop(1)
  go(opened, at=lambda step: [opened.lap(name) for name in ('write', 'judge', 'write')])
  [record] = metrics.read(tmp_path)
  assert (record['seconds/write'], record['seconds/judge']) == (4, 2)


def test_it_saves_by_time(loop, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(trainer.time, 'monotonic', lambda: now[0])
  opened = loop(6, checkpoint__every=100, checkpoint__minutes=2)
  go(opened, at=lambda step: now.__setitem__(0, 60.0 * step))
  assert opened._checkpoints.saved == [3, 5, 6]


def test_the_best_are_told_by_the_metric_that_is_named(loop):
  opened = loop(2, checkpoint__every=1, checkpoint__best='loss', checkpoint__keep_best=3)
  go(opened)
  assert opened._checkpoints.options['keep_best'] == 3
  assert opened._checkpoints.metrics == [-2.0, -2.0]  # less is better


def test_a_measure_of_some_steps_marks_the_checkpoints_of_these_alone(loop):
  opened = loop(7, checkpoint__every=2, checkpoint__best='eval/win_rate/sampled')
  rates = {0: 0.5, 4: 0.75}
  go(opened, lambda step: FINE | ({'eval/win_rate/sampled': rates[step]} if step in rates else {}))
  assert opened._checkpoints.saved == [1, 2, 4, 5, 6, 7]
  assert opened._checkpoints.metrics == [0.5, None, None, 0.75, None, None]


@pytest.mark.parametrize('leave', ['stop_if_asked', 'stop'])
def test_in_the_midst_of_faults_nothing_is_saved(loop, leave):
  opened = loop(9, checkpoint__every=2)

  def at(step):
    if step == 4:
      interrupts._HEARD.append(15)
      opened.stop('enough') if leave == 'stop' else opened.stop_if_asked()

  with pytest.raises((interrupts.Stopped, RuntimeError), match=r'75|saved at step 2 of 9: enough'):
    go(opened, lambda step: FINE if step < 2 else NOT_FINITE, at)
  assert opened._checkpoints.saved == [2]


def test_asked_to_stop_it_saves_after_the_step_and_leaves(loop):
  opened = loop(9, checkpoint__every=100)
  with pytest.raises(interrupts.Stopped) as stopped:
    go(opened, at=lambda step: interrupts._HEARD.append(15) if step == 4 else None)
  assert stopped.value.code == 75
  assert stopped.value.message == 'test-micro: stopped and saved at step 5 of 9'
  assert opened._checkpoints.saved == [5]


def test_at_a_resting_place_it_saves_before_the_step(loop, tmp_path):
  opened = loop(9, checkpoint__every=100)

  def at(step):
    if step == 4:
      interrupts._HEARD.append(15)
      opened.stop_if_asked()

  with pytest.raises(interrupts.Stopped, match='75'):
    go(opened, at=at)
  assert opened._checkpoints.saved == [4]
  assert len(metrics.read(tmp_path)) == 4


def test_stopped_by_its_stage_it_saves_and_says_why_with_a_status_that_nobody_restarts(loop):
  opened = loop(9, checkpoint__every=100)
  with pytest.raises(RuntimeError, match='saved at step 4 of 9: loud') as e:
    go(opened, at=lambda step: opened.stop('loud') if step == 4 else None)
  assert opened._checkpoints.saved == [4] and refusal.is_refusal(e.value)


def test_past_the_limit_it_stops_and_says_where_it_began(loop, tmp_path):
  opened = loop(99, checkpoint__every=1, debug__max_skipped=2)
  with pytest.raises(RuntimeError, match='It began at step 5: loss; to run it again') as error:
    go(opened, metrics=lambda step: NOT_FINITE if step >= 5 else FINE)
  assert 'the last good checkpoint is of step 5' in str(error.value)
  assert opened._checkpoints.saved == [1, 2, 3, 4, 5]  # none of the bad ones pushed a good one out
  assert f'--config.debug.replay={tmp_path}/faults/step-000005-0' in str(error.value)
  assert [p.name for p in (tmp_path / 'faults').iterdir()] == ['step-000005-0']


def test_a_fault_now_and_then_is_counted_and_survived(loop, tmp_path):
  opened = loop(12, debug__max_skipped=1)
  go(opened, metrics=lambda step: NOT_FINITE if step % 3 == 0 else FINE)
  assert sum(r['skipped'] for r in metrics.read(tmp_path)) == 4
  assert len(list((tmp_path / 'faults').iterdir())) == 4


def test_another_tokenizer_than_the_checkpoint_was_trained_with_is_named(
  loop, tmp_path, monkeypatch
):
  (tmp_path / 'tokenizer').mkdir()
  (tmp_path / 'tokenizer' / 'tokenizer.json').write_text('one')
  opened = loop(2)
  go(opened)
  extra = opened.extra | {'step': 0}
  restored = opened.state, extra
  monkeypatch.setattr(Checkpoints, 'latest', lambda self: 0)
  monkeypatch.setattr(Checkpoints, 'restore', lambda self, wanted: restored, raising=False)
  monkeypatch.setattr(trainer.placement, 'state', lambda *arguments, **options: None)
  go(loop(2))
  (tmp_path / 'tokenizer' / 'tokenizer.json').write_text('another')
  with pytest.raises(ValueError, match='tokenizer: is another one than the checkpoint of step 0'):
    loop(2)
  del extra['tokenizer']  # an older checkpoint
  go(loop(2))
