"""The door of many runs, as a user meets it."""

import ast
import json
import re
import signal
import sys
import time
import types

import pytest
from etils import epath

from lwz import sweep
from tests import jobs

CLAIMS = sorted((jobs.ROOT / 'experiments/claims').glob('[!_]*.py'))
EXAMPLE = 'experiments/sweeps/style_advantage_seed.py'


def begin(*arguments):
  return jobs.begin(sys.executable, '-m', 'lwz.sweep', *arguments)


def run(*arguments, status=0):
  process = begin(*arguments)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == status and 'Traceback' not in output, output
  return output


def sweep_of(tmp_path, text, name='mine'):
  """A sweep file beside the experiments that there are."""
  folder = tmp_path / 'experiments'
  if not folder.exists():
    folder.mkdir()
    for path in (jobs.ROOT / 'experiments').glob('*.py'):
      (folder / path.name).symlink_to(path)
    (folder / 'sweeps').mkdir()
  path = folder / 'sweeps' / f'{name}.py'
  path.write_text(text)
  return path


def arms_of(tmp_path, text, *arguments):
  return sweep.Sweep(
    sweep_of(tmp_path, text), 'micro', [f'--config.runs_dir={tmp_path}', *arguments]
  )


def test_the_example_has_twelve_arms_that_share_what_they_need(monkeypatch, tmp_path):
  monkeypatch.chdir(jobs.ROOT)
  found = sweep.Sweep(jobs.ROOT / EXAMPLE, 'tiny', [f'--config.runs_dir={tmp_path}'])
  assert len(found.arms) == 12 and len((jobs.ROOT / EXAMPLE).read_text().splitlines()) <= 16
  names = [job.name for job in found.plan(range(1, 13))]
  needed, arms = names[:-12], names[-12:]
  assert len(set(names)) == len(names)
  assert {'base_model-tiny', 'pretrain-tiny', 'reward_model-tiny'} <= set(needed)
  assert arms[:3] == ['grpo_think-tiny', 'grpo_think-tiny-s1', 'grpo_think-tiny-s2']
  assert arms[-1] == 'grpo_think-tiny-data.style=direct-rl.advantage=mean_reward-s2'
  last = found.plan([12])[-1]
  assert set(last.needs) == set(needed)
  assert '--config.rl.advantage=mean_reward' in last.command


@pytest.mark.parametrize('path', CLAIMS, ids=lambda path: path.stem)
def test_every_claim_is_a_sweep_of_three_seeds_that_says_what_would_refute_it(
  monkeypatch, tmp_path, path
):
  monkeypatch.chdir(jobs.ROOT)
  found = sweep.Sweep(path, 'tiny', [f'--config.runs_dir={tmp_path}'])
  groups: dict[str, list] = {}
  for arm in found.arms:
    apart = {k: v for k, v in arm.values.items() if k not in ('seed', 'needs_seed')}
    groups.setdefault(json.dumps(apart), []).append((arm.config.seed, arm.config.needs_seed))
  assert len(groups) >= 2
  assert all(seeds == [(0, 0), (1, 1), (2, 2)] for seeds in groups.values())
  said = ast.get_docstring(ast.parse(path.read_text()))
  assert 'aper' in said and 'Refuted if' in said and f'claims/{path.name}' in said


def test_list_prints_every_arm_and_begins_nothing(monkeypatch, tmp_path, capsys):
  monkeypatch.chdir(jobs.ROOT)
  sweep.main([f'--sweep={EXAMPLE}:micro', '--list', f'--config.runs_dir={tmp_path}'])
  output = capsys.readouterr().out
  assert re.search(
    r'^ *12 +grpo_think-micro-data.style=direct-rl.advantage=mean_reward-s2 +wai', output, re.M
  )
  assert list(tmp_path.iterdir()) == []


GET = 'from experiments import base_model\n\n\ndef get_config(size="tiny"):\n'
HYPER = '\n\ndef get_hyper(h):\n  return '


def test_a_config_of_the_sweeps_own_is_the_experiment_and_what_differs(tmp_path):
  text = f'{GET}  c = base_model.get_config(size)\n  c.train.num_steps = 2\n  return c\n'
  found = arms_of(tmp_path, text + HYPER + "h.sweep('train.rows', [8, 4])", '--config.log.sinks=()')
  first, second = found.plan([1, 2])
  assert [first.name, second.name] == [
    'base_model-micro-train.num_steps=2',
    'base_model-micro-train.num_steps=2-train.rows=4',
  ]
  assert second.command[3:] == [
    f'--config={tmp_path}/experiments/base_model.py:micro',
    '--config.log.sinks=()',
    '--config.name=base_model-micro-train.num_steps=2-train.rows=4',
    f'--config.runs_dir={tmp_path}',
    '--config.train.num_steps=2',
    '--config.train.rows=4',
  ]


def test_experiments_and_sizes_may_be_arms(tmp_path):
  text = 'def get_hyper(h):\n  return h.product(['
  text += (
    "h.sweep('experiment', ['grpo_think', 'grpo_nothink']), h.sweep('size', ['micro', 'tiny'])])"
  )
  found = arms_of(tmp_path, f"EXPERIMENT = ''\n{text}")
  assert [job.name for job in found.plan([1, 4]) if job.name.startswith('grpo')] == [
    'grpo_think-micro',
    'grpo_nothink-tiny',
  ]


ONE = "EXPERIMENT = 'base_model'" + HYPER


@pytest.mark.parametrize(
  ('text', 'arguments', 'message'),
  [
    (f"{ONE}h.sweep('rl.group_sise', [1])", [], 'Did you mean "group_size"'),
    (f"{ONE}h.sweep('rl.group_size', ['four'])", [], 'group_size=four'),
    (f"{ONE}h.sweep('rollout.top_p', [2.0])", [], 'rollout.top_p=2.0: choose a number'),
    (f"{ONE}h.sweep('seed', [1, 1])", [], 'arms 1 and 2 are the same run, base_model-micro-s1'),
    (f"{ONE}h.sweep('seed', [1])", ['--config.seed=2'], 'config.seed: the sweep gives it a value'),
    (f"{ONE}h.sweep('seed', [1])", ['--config.name=a'], 'name: arms are named by what differs'),
    (f'{ONE}[]', [], 'get_hyper gives no arm'),
    (f'{ONE}None', [], 'get_hyper has to return a list of dicts'),
    (f"{ONE}['seed']", [], 'get_hyper has to return a list of dicts'),
    ("EXPERIMENT = 'base_model'", [], 'needs get_hyper'),
    (
      f"EXPERIMENT = 'nothing'{HYPER}h.sweep('seed', [1])",
      [],
      'there is no experiment .*nothing.py',
    ),
  ],
)
def test_what_is_wrong_with_a_sweep_is_said_before_it_begins(tmp_path, text, arguments, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    arms_of(tmp_path, text, *arguments)


def test_two_needs_of_one_name_are_refused(tmp_path):
  found = arms_of(tmp_path, f"EXPERIMENT = 'pretrain'{HYPER}h.sweep('data.lower', [10, 12])")
  with pytest.raises(ValueError, match=r'is needed with data\.lower=10 and with data\.lower=12'):
    found.plan([1, 2])


@pytest.mark.parametrize('text', ['0', '3', '2-1', 'x', '1,'])
def test_only_names_arms_that_are_there(text):
  with pytest.raises(ValueError, match='numbers from 1 to 2'):
    sweep._numbers(text, 2)
  assert sweep._numbers('4,1-2', 4) == [1, 2, 4]


def test_commands_are_printed_for_machines_that_are_elsewhere(tmp_path, capsys):
  path = sweep_of(tmp_path, f"EXPERIMENT = 'pretrain'{HYPER}h.sweep('seed', [1])")
  sweep.main([f'--sweep={path}:micro', '--runner=commands', '--prefix=launch/tpu_pod.sh v5e zone'])
  lines = capsys.readouterr().out.splitlines()
  assert [re.search(r'^launch/tpu_pod.sh v5e zone --config=\S+/(\w+).py', x)[1] for x in lines] == [
    'base_model',
    'pretrain',
  ]


def test_the_command_that_compares_arms_finds_their_folder(tmp_path, capsys):
  done = [types.SimpleNamespace(state='complete')]
  for runs_dir, said in (('runs', ''), (tmp_path, f' --config.runs_dir={tmp_path}')):
    made = types.SimpleNamespace(
      folder=epath.Path(runs_dir) / 'mine-micro', path=epath.Path('mine')
    )
    assert sweep._close(made, done) == 0
    assert f'report.py{said} --config.name=report-mine' in capsys.readouterr().out


def test_an_arm_that_is_refused_is_named_with_its_reason(tmp_path):
  path = sweep_of(tmp_path, f"EXPERIMENT = 'base_model'{HYPER}h.sweep('data.folder', ['/none'])")
  output = run(f'--sweep={path}:micro', f'--config.runs_dir={tmp_path / "runs"}', status=1)
  assert re.search(r'base_model-micro-data.folder=none-\w+: failed: .*/none: no such', output), (
    output
  )


@pytest.mark.slow
def test_a_sweep_is_stopped_goes_on_and_names_the_arm_that_failed(tmp_path):
  path = sweep_of(
    tmp_path, f"EXPERIMENT = 'base_model'{HYPER}h.sweep('data.folder', ['', '/none'])"
  )
  runs = tmp_path / 'runs'
  arguments = (f'--sweep={path}:micro', f'--config.runs_dir={runs}', '--config.checkpoint.every=1')
  process = begin(*arguments)
  metrics = runs / 'base_model-micro' / 'metrics.jsonl'
  while process.poll() is None and not (metrics.exists() and metrics.read_text()):
    time.sleep(0.02)
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 75 and 'to go on:' in output, output
  before = metrics.read_text()
  output = run(*arguments, '--parallel=2', status=1)
  assert metrics.read_text().startswith(before)
  assert re.search(r'base_model-micro-data.folder=none-\w+: failed: .*/none: no such', output), (
    output
  )
  assert json.loads((runs / 'base_model-micro' / 'DONE').read_text())
  recorded = json.loads((runs / 'mine-micro' / 'sweep.json').read_text())
  assert recorded['arms'][0]['name'] == 'base_model-micro'
