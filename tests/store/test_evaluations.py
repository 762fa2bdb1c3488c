"""Records of evaluations: one of each step, joined to the metrics, and never half-read."""

import json

import pytest

from lwz.store import evaluations, metrics, status


def test_a_step_has_one_record_the_last_one_and_nan_is_null(tmp_path):
  evaluations.write(tmp_path, 20, {'eval/a': 1.0, 'policy': 7, 'fault': ''})
  evaluations.write(tmp_path, 0, {'eval/a': float('nan'), 'positions': {'x': [0.5, float('nan')]}})
  evaluations.write(tmp_path, 20, {'eval/a': 2.0, 'policy': 8, 'fault': ''})
  found = evaluations.read(tmp_path)
  assert list(found) == [0, 20] and found[20]['policy'] == 8
  assert evaluations.metrics(tmp_path) == {0: {'eval/a': None}, 20: {'eval/a': 2.0}}
  assert found[0]['positions'] == {'x': [0.5, None]}
  assert len((tmp_path / 'evaluations.jsonl').read_text().splitlines()) == 2


def test_the_metrics_of_a_run_have_those_of_its_evaluations(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text(
    '{"step": 0, "time": 1.0, "eval/old": 3.0}\n{"step": 1, "time": 2.0}\n'
  )
  assert metrics.read(tmp_path)[0]['eval/old'] == 3.0  # as older versions wrote them
  evaluations.write(tmp_path, 1, {'eval/a': 1.0, 'policy': 7})
  evaluations.write(tmp_path, 9, {'eval/a': 1.0})  # of a step that a kill has undone
  assert metrics.read(tmp_path) == [
    {'step': 0, 'time': 1.0, 'eval/old': 3.0},
    {'step': 1, 'time': 2.0, 'eval/a': 1.0},
  ]


@pytest.mark.parametrize(
  'record, why',
  [
    ({'eval/a': 1.0}, "'step'"),
    ({'step': 0, 'eval/a': 'high'}, "'eval/a'"),
    ({'step': 0, 'positions': [1]}, "'positions'"),
    ({'step': 0, 'positions': {'x': 1}}, "positions of 'x'"),
    ({'step': 0, 'positions': {'x': [True]}}, "positions of 'x'"),
  ],
)
def test_a_broken_line_is_named_and_a_torn_end_left_out(record, why, tmp_path):
  path = tmp_path / 'evaluations.jsonl'
  path.write_text('{"step": 1}\n{"step": 2, "ev')
  assert list(evaluations.read(tmp_path)) == [1]
  path.write_text(f'{json.dumps(record)}\n' + '{"step": 2}\n')
  with pytest.raises(ValueError, match=f'evaluations.jsonl:1: .*{why}'):
    evaluations.read(tmp_path)


def test_the_latest_metrics_have_those_of_the_latest_evaluation(tmp_path):
  (tmp_path / 'config.json').write_text('{"config": {"train": {"num_steps": 9}}}')
  (tmp_path / 'metrics.jsonl').write_text('{"step": 3, "loss": 1.0}\n')
  (tmp_path / 'evaluations.jsonl').write_text(
    '{"step": 0, "eval/a": 1.0}\n{"step": 2, "eval/a": 2.0}\n'
  )
  found = status.read(tmp_path)
  assert found.step == 4 and found.last == {'step': 3, 'loss': 1.0, 'eval/a': 2.0}
