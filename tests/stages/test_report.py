"""Runs and sweeps side by side, of folders as runs leave them."""

import json

import pytest

from experiments import grpo_think, report
from lwz.runtime import setup
from lwz.stages import report as stage
from lwz.store import metrics, run


def leave(runs, name, *, value, seed=0, done=True, **changed):
  """The folder of a run with a constant reward."""
  c = grpo_think.get_config('micro')
  c.runs_dir, c.name, c.seed = str(runs), name, seed
  c.update_from_flattened_dict({key.replace('__', '.'): v for key, v in changed.items()})
  identity = run.Identity(includes=lambda key: True)
  opened = run.open_run(setup.run_folder(c), c.to_dict(), identity=identity, command=[])
  with metrics.Writer(opened.folder, start_step=0) as writer:
    for step in range(c.train.num_steps):
      writer.write(step, {'reward/length': value, 'words/answer': 10 * value})
  if done:
    opened.mark_done({})
  opened.close()
  return name


def compare(tmp_path, *names):
  c = report.get_config('micro')
  c.runs_dir, c.report.runs = str(tmp_path), names
  c.report.metrics = ('reward/length', 'words/answer')
  stage.check(c)
  stage.run(c)
  folder = tmp_path / 'report-micro'
  return folder, (folder / 'report.html').read_text()


@pytest.fixture
def swept(tmp_path):
  names = [
    leave(tmp_path, f'{style}-{seed}', value=value + 0.1 * seed, seed=seed, data__style=style)
    for style, value in (('think', 0.5), ('direct', 0.3))
    for seed in range(3)
  ]
  names.append(leave(tmp_path, 'cut', value=9.0, seed=3, done=False))
  (tmp_path / 'swept').mkdir()
  arms = [{'name': name} for name in (*names, 'later')]
  (tmp_path / 'swept' / 'sweep.json').write_text(json.dumps({'arms': arms}))
  return tmp_path


def test_a_sweep_is_compared_by_groups_without_the_arms_that_are_not_complete(swept):
  folder, page = compare(swept, 'swept')
  assert 'left out: cut (interrupted)' in page and 'left out: later (not begun)' in page
  record = json.loads((folder / 'groups.json').read_text())
  assert [(g['label'], len(g['runs'])) for g in record['groups']] == [
    ('style=think', 3),
    ('style=direct', 3),
  ]
  one = record['comparisons'][0]
  assert one['sentence'].startswith(
    'reward/length is higher (better) with style=think than with style=direct: holds; difference '
  )
  assert one['difference']['mean'] == pytest.approx(0.2)
  assert one['sentence'] in page.replace('&gt;', '>')
  table = (folder / 'table.md').read_text()
  assert '| style=think | 3 | 0.600 [0.352, 0.848] |' in table  # 0.1 x 4.303 / sqrt(3)
  assert '| think-0 | 0.500 → 0.500 | 5.000 → 5.000 |' in table


def test_runs_that_differ_by_more_than_seeds_stay_runs(swept):
  folder, page = compare(swept, 'think-0', 'direct-0')
  assert not (folder / 'groups.json').exists() and 'cannot tell' not in page
  lines = (folder / 'table.md').read_text().splitlines()
  assert lines[0] == '| run | reward/length | words/answer |' and len(lines) == 4


def test_where_and_how_a_run_was_made_makes_no_group(tmp_path):
  leave(tmp_path, 'a', value=1.0, checkpoint__every=3, data__style='think')
  leave(tmp_path, 'b', value=1.0, seed=1, mesh__fsdp=2)
  record = json.loads((compare(tmp_path, 'a', 'b')[0] / 'groups.json').read_text())
  assert [g['runs'] for g in record['groups']] == [['a', 'b']] and record['comparisons'] == []


def test_a_sweep_without_a_complete_arm_is_refused(tmp_path):
  (tmp_path / 'swept').mkdir()
  (tmp_path / 'swept' / 'sweep.json').write_text(json.dumps({'arms': [{'name': 'a'}]}))
  with pytest.raises(ValueError, match='no arm of the sweep is complete'):
    compare(tmp_path, 'swept')


def test_a_run_of_an_earlier_version_says_what_is_default_now(tmp_path):
  """A key that it lacks makes no group of it."""
  for seed in range(2):
    leave(tmp_path, f'run-{seed}', value=0.5, seed=seed)
  path = tmp_path / 'run-0' / 'config.json'
  config = json.loads(path.read_text())
  del config['config']['train']['dtype']
  path.write_text(json.dumps(config))
  folder, _ = compare(tmp_path, 'run-0', 'run-1')
  (group,) = json.loads((folder / 'groups.json').read_text())['groups']
  assert len(group['runs']) == 2


def test_a_reward_that_a_run_lacks_is_none_by_default(tmp_path):
  for name in ('whole', 'less'):
    leave(tmp_path, name, value=0.5)
  path = tmp_path / 'less' / 'config.json'
  config = json.loads(path.read_text())
  del config['config']['reward']['weights']['writing']
  path.write_text(json.dumps(config))
  folder, _ = compare(tmp_path, 'whole', 'less')
  assert not (folder / 'groups.json').exists()  # two groups of one run are runs
