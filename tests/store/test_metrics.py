"""Each step once, whatever happened to the process."""

import json
import os
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from lwz.store import metrics, samples, sinks


def events(folder):
  """What TensorBoard would read, without the checksums: length (8 bytes), crc, event, crc."""
  found = []
  for path in sorted((folder / 'tensorboard').iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):
      length = int.from_bytes(data[at : at + 8], 'little')
      found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
      at += length + 16
  return found


def scalars(folder):
  return [(e.step, v.tag, v.simple_value) for e in events(folder) for v in e.summary.value]


def fill(folder, steps, *, start_step=0, tensorboard=False):
  named = ['tensorboard'] if tensorboard else []
  made = [sinks.make(name, folder, start_step=start_step, config={}) for name in named]
  with metrics.Writer(folder, start_step=start_step, sinks=made) as writer:
    for step in steps:
      writer.write(step, {'loss': float(step)})


def test_a_record_is_on_disk_when_write_returns(tmp_path):
  writer = metrics.Writer(tmp_path, start_step=0)
  writer.write(np.int32(3), {'b': jnp.float32(0.5), 'a': 2})
  (record,) = metrics.read(tmp_path)
  assert list(record) == ['step', 'time', 'a', 'b']
  assert (record['step'], record['a'], record['b']) == (3, 2, 0.5)
  assert record['time'] > 1.7e9
  writer.close()


def test_what_is_not_finite_is_null_and_keeps_its_key(tmp_path):
  board = sinks.make('tensorboard', tmp_path, start_step=0, config={})
  with metrics.Writer(tmp_path, start_step=0, sinks=[board]) as writer:
    writer.write(0, {'loss': float('nan'), 'rate': np.float32('inf'), 'fine': 1.0})
  (line,) = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  record = json.loads(line, parse_constant=pytest.fail)
  assert record['loss'] is None and record['rate'] is None
  assert scalars(tmp_path) == [(0, 'fine', 1.0)]


def test_steps_from_the_start_step_on_are_dropped(tmp_path):
  fill(tmp_path, range(5))
  fill(tmp_path, range(3, 6), start_step=3)
  assert [r['step'] for r in metrics.read(tmp_path)] == [0, 1, 2, 3, 4, 5]


def test_a_torn_last_line_is_removed(tmp_path):
  fill(tmp_path, range(3))
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(path.read_bytes()[:-9])
  assert [r['step'] for r in metrics.read(tmp_path)] == [0, 1]
  fill(tmp_path, [2], start_step=2)
  assert [r['step'] for r in metrics.read(tmp_path)] == [0, 1, 2]
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_old_records_keep_their_bytes(tmp_path):
  fill(tmp_path, range(3))
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  fill(tmp_path, [], start_step=3)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before


@pytest.mark.parametrize('name', ['step', 'time'])
def test_names_of_the_record_itself_are_refused(tmp_path, name):
  with metrics.Writer(tmp_path, start_step=0) as writer:
    with pytest.raises(ValueError, match=name):
      writer.write(0, {name: 1.0})
    assert metrics.read(tmp_path) == []


@pytest.mark.parametrize('value', ['text', [1.0], np.zeros(2)])
def test_what_is_no_scalar_is_refused(tmp_path, value):
  with metrics.Writer(tmp_path, start_step=0) as writer:
    with pytest.raises(ValueError):
      writer.write(0, {'loss': value})
    assert metrics.read(tmp_path) == []


def test_tensorboard_has_the_same_scalars_and_is_told_to_purge(tmp_path):
  fill(tmp_path, range(4), tensorboard=True)
  assert scalars(tmp_path) == [(s, 'loss', float(s)) for s in range(4)]
  fill(tmp_path, range(2, 4), start_step=2, tensorboard=True)
  starts = [e.step for e in events(tmp_path) if e.HasField('session_log')]
  assert starts == [0, 2]


SAMPLE = dict.fromkeys(samples.KEYS, '') | {'prompt': 'Write.', 'text': 'A text.', 'valid': True}


class Module:
  """Weights & Biases, or trackio, as far as a sink calls them."""

  def __init__(self):
    self.given, self.records, self.ended = {}, [], False

  def init(self, **given):
    self.given = given
    return self

  def log(self, record, *, step):
    self.records.append((step, record))

  def finish(self):
    self.ended = True

  def Table(self, *, columns, data):
    return columns, data


@pytest.mark.parametrize('name', ['wandb', 'trackio'])
def test_trackers_get_metrics_and_samples_and_know_the_run_again(name, tmp_path, monkeypatch):
  found = []
  for start in (0, 1):
    monkeypatch.setitem(sys.modules, name, module := Module())
    sink = sinks.make(name, tmp_path / 'run', start_step=start, config={'seed': 3})
    with metrics.Writer(tmp_path / 'run', start_step=start, sinks=[sink]) as writer:
      samples.write(tmp_path / 'run', start, [SAMPLE | {'rewards': {'length': 0.5, 'mine': None}}])
      writer.write(start, {'loss': 2.0, 'rate': float('nan')})
      writer.write(start + 1, {'loss': 1.0})
    table = ['prompt', 'text', 'length', 'mine'], [['Write.', 'A text.', 0.5, None]]
    assert module.records == [
      (start, {'loss': 2.0, 'samples': table}),
      (start + 1, {'loss': 1.0}),
    ]
    assert module.ended and module.given['resume'] == 'allow'
    assert module.given['config'] == {'seed': 3}
    found.append({key: module.given.get(key) for key in ('project', 'name', 'id', 'dir')})
  assert found[0] == found[1] and found[0]['name'] == 'run'
  assert (name == 'wandb') == (found[0]['id'] is not None)


@pytest.mark.parametrize('name', ['wandb', 'tensorboard'])
def test_evaluations_reach_the_sinks_when_they_come(name, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', module := Module())
  sink = sinks.make(name, tmp_path, start_step=0, config={})
  with metrics.Writer(tmp_path, start_step=0, sinks=[sink]) as writer:
    for step in range(3):
      writer.write(step, {'loss': 1.0})
      if step == 1:
        writer.late(0, {'eval/a': 0.5, 'eval/b': None})
        writer.late(1, {'eval/a': 0.25})
    for step in (2, 3):
      writer.late(step, {'eval/a': 0.75})
  if name == 'wandb':  # where steps must not fall, and two records of one step are one
    assert module.records == [
      (0, {'loss': 1.0}),
      (1, {'loss': 1.0}),
      (2, {'loss': 1.0, 'eval/a': 0.5, 'eval/step': 0}),
      (2, {'eval/a': 0.25, 'eval/step': 1}),
      (3, {'eval/a': 0.75, 'eval/step': 2}),
      (4, {'eval/a': 0.75, 'eval/step': 3}),
    ]
  else:
    found = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    late = [(0, 0.5), (1, 0.25), (2, 0.75), (3, 0.75)]
    assert [one for one in found if one[1] != 'loss'] == [(k, 'eval/a', x) for k, x in late]


def test_tensorboard_has_the_samples(tmp_path):
  samples.write(tmp_path, 0, [SAMPLE | {'rewards': {}}])
  fill(tmp_path, range(1), tensorboard=True)
  values = [value for event in events(tmp_path) for value in event.summary.value]
  texts = [value.tensor.string_val[0] for value in values if value.HasField('tensor')]
  assert [b'A text.' in text for text in texts] == [True]


def test_a_sink_that_is_not_installed_is_named(monkeypatch):
  monkeypatch.setattr(sinks.importlib.util, 'find_spec', lambda name: None)
  sinks.check(['tensorboard'])
  with pytest.raises(ImportError, match=r'log\.sinks: wandb is not installed; pip install wandb'):
    sinks.check(['tensorboard', 'wandb'])


def test_no_metrics_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'metrics\.jsonl'):
    metrics.read(tmp_path)


def test_a_bucket_is_never_appended_to(bucket):
  fill(bucket, range(4))
  fill(bucket, range(2, 5), start_step=2)
  assert [r['step'] for r in metrics.read(bucket)] == [0, 1, 2, 3, 4]


def test_the_file_has_its_name(tmp_path):
  fill(tmp_path, [0])
  assert (tmp_path / 'metrics.jsonl').exists()


def test_a_full_disk_is_named(tmp_path):
  with metrics.Writer(tmp_path, start_step=0) as writer:
    writer._file.close()
    writer._file = os.fdopen(os.open('/dev/full', os.O_WRONLY), 'wb', buffering=0)
    with pytest.raises(OSError, match=r'No space left on device; fix that.*metrics.jsonl'):
      writer.write(0, {'loss': 1.0})


def test_names_of_older_versions_are_read_as_todays_and_kept_as_such(tmp_path):
  old = [
    'learn/clip_low',
    'draws/num',
    'no_spread/all',
    'eval/whole/greedy',
    'learn/weights',
    'loss',
  ]
  new = [
    'learn/clip_frac_low',
    'sampling/rounds',
    'zero_variance/all',
    'eval/words_finished/greedy',
  ]
  new += old[4:]
  record = {'step': 0, 'time': 1.0, **{name: i + 0.5 for i, name in enumerate(old)}}
  (tmp_path / 'metrics.jsonl').write_text(json.dumps(record) + '\n')
  expected = {'step': 0, 'time': 1.0, **{name: i + 0.5 for i, name in enumerate(new)}}
  assert metrics.read(tmp_path) == [expected]
  fill(tmp_path, [1], start_step=1)
  assert json.loads((tmp_path / 'metrics.jsonl').read_text().splitlines()[0]) == expected


@pytest.mark.parametrize(
  'line, fault',
  [
    ('{"step": "a"}', "'step' should be int"),
    ('{"loss": 1.0}', "no field 'step'"),
    ('{"step": 1, "loss": [1]}', "'loss' should be Real"),
    ('{"step": 1, "loss": %s}' % ('9' * 400), "'loss' has more than 64 bits"),
  ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line, fault):
  (tmp_path / 'metrics.jsonl').write_text(f'{line}\n' + '{"step": 2, "loss": null}\n')
  with pytest.raises(ValueError, match=rf'metrics\.jsonl:1: {fault}'):
    metrics.read(tmp_path)


@pytest.mark.parametrize(
  ('steps', 'message'),
  [
    ([0, 1, 3, 4], r'metrics\.jsonl: .*before 5.*: 2 is missing; put the lines back'),
    ([0, 1, 2, 2, 3, 4], '2 is there more than once'),
    ([0, 1, 2, 3], '4 is missing'),
    ([0, 9], '1, 2, 3, 4 are missing'),
    ([0, 2, 1, 3, 4], '0, 2, 1, 3, 4 are out of order'),
    ([3], '0, 1, 2, 4 are missing'),
  ],
)
def test_a_file_that_lost_or_doubled_lines_is_not_gone_on_with(steps, message, tmp_path):
  fill(tmp_path, steps)
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  with pytest.raises(ValueError, match=message):
    fill(tmp_path, [5], start_step=5)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_a_file_that_was_moved_away_begins_anew_and_says_so(tmp_path, caplog):
  for start in (3, 4):
    fill(tmp_path, [start], start_step=start)
    assert 'metrics.jsonl: steps 0 to 2 are not there' in caplog.records.pop().getMessage()
  assert [r['step'] for r in metrics.read(tmp_path)] == [3, 4]
