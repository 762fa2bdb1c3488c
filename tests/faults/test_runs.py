"""A run that is hurt at any instant, and started again, ends as if it had not been."""

import random
import re
import signal
import subprocess
import sys

import pytest

from lwz.store import behind, journal, metrics
from tests import jobs
from tests.faults import bad_days

EVERY_STEP = '--config.checkpoint.every=1'


# Two trajectories are on disk; the third is being written, which `stuck` ends, the fourth waits.
WRITES = """
import sys, time
import numpy as np
from lwz.store import atomic, behind, journal

def write(path, data, real=atomic.write_bytes):
  if writer_is_slow:
    print('stuck', flush=True)
    time.sleep(float(sys.argv[2]))
  real(path, data)

atomic.write_bytes, writer_is_slow = write, False
writer = behind.Writer()
kept = journal.TrajectoryJournal(sys.argv[1], 0, 1, writer)
for index in range(4):
  kept.add(f'trajectory-{index}', ids=np.arange(index))
  if index == 1:
    writer.flush()
    writer_is_slow = True
"""


def undisturbed(experiment, source, folder, *arguments):
  """What an experiment leaves that nobody hurts, beside the runs that it needs."""
  folder.mkdir(exist_ok=True)
  name = experiment.replace(':', '-')
  bad_days.borrow(folder, source, name)
  jobs.launch(experiment, folder, *arguments)
  return bad_days.remains(folder / name)


@pytest.mark.slow
def test_asked_to_stop_it_says_how_to_go_on_and_ends_as_if_it_had_not_been(micro_runs, tmp_path):
  jobs.launch('base_model:micro', micro_runs)
  bad_days.borrow(tmp_path, micro_runs, 'base_model-micro')
  folder = tmp_path / 'base_model-micro'
  written = folder / 'metrics.jsonl'
  process = jobs.start('base_model:micro', tmp_path)
  bad_days.wait_for(lambda: bad_days.num_lines(written) > 0, process)
  output = bad_days.hurt(process, signal.SIGTERM)
  assert process.returncode == 75, output
  step = int(re.search(r'stopped and saved at step (\d) of 4; to go on:', output)[1])
  assert len(metrics.read(folder)) == step < 4
  assert f'-m lwz.launch --config=experiments/base_model.py:micro --config.runs_dir={tmp_path}' in (
    output
  )
  jobs.launch('base_model:micro', tmp_path)
  assert bad_days.remains(folder) == bad_days.remains(micro_runs / 'base_model-micro')


@pytest.mark.parametrize(('killed', 'left'), [(True, [0, 1]), (False, [0, 1, 2, 3])])
def test_a_kill_loses_what_was_not_written_yet_and_an_end_nothing(killed, left, tmp_path):
  command = [sys.executable, '-c', WRITES, str(tmp_path), '60' if killed else '0.2']
  process = subprocess.Popen(command, cwd=jobs.ROOT, stdout=subprocess.PIPE, text=True)
  assert process.stdout and process.stdout.readline() == 'stuck\n'
  if killed:
    process.kill()
  process.communicate(timeout=60)
  found = journal.TrajectoryJournal(tmp_path, 0, 1, behind.Writer()).read()
  assert sorted(found) == [f'trajectory-{index}' for index in left]
  assert all(len(found[f'trajectory-{index}']['ids']) == index for index in left)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('experiment', 'steps', 'times'),
  [
    ('base_model', 40, 3),
    ('pretrain', 40, 3),
    ('reward_model', 40, 4),
    ('grpo_think', 50, 5),
  ],
)
def test_killed_at_random_instants(experiment, steps, times, micro_runs, tmp_path, count):
  name, size = f'{experiment}-micro', f'{experiment}:micro'
  jobs.launch(size, micro_runs)
  arguments = [EVERY_STEP, f'--config.train.num_steps={steps}']
  if experiment == 'grpo_think':  # no answer of a micro policy is valid, so every step draws twice
    arguments.append('--config.rl.max_resamples=1')
  wanted = undisturbed(size, micro_runs, tmp_path / 'whole', *arguments)
  runs = tmp_path / 'killed'
  runs.mkdir()
  bad_days.borrow(runs, micro_runs, name)
  draw = random.Random(experiment)
  killed = sum(bad_days.kill_somewhere(size, runs, draw, *arguments) for _ in range(times))
  jobs.launch(size, runs, *arguments)
  same = bad_days.remains(runs / name) == wanted
  count(f'{experiment}: SIGKILL or SIGTERM at a random instant', killed, killed if same else 0)
  assert killed > times // 2
  assert bad_days.remains(runs / name) == wanted


@pytest.mark.slow
def test_a_run_whose_newest_checkpoint_breaks_goes_on_from_the_one_before(
  micro_runs, tmp_path, count
):
  jobs.launch('base_model:micro', micro_runs)
  wanted = bad_days.remains(micro_runs / 'base_model-micro')
  folder = tmp_path / 'broken' / 'base_model-micro'
  (tmp_path / 'broken').mkdir()
  process = jobs.start('base_model:micro', tmp_path / 'broken', EVERY_STEP)
  bad_days.wait_for(lambda: (folder / 'checkpoints' / '2').exists(), process)
  bad_days.hurt(process, signal.SIGKILL)
  newest = max((p for p in (folder / 'checkpoints').iterdir() if p.name.isdigit()), key=str)
  bad_days.cut_short(newest)
  output = jobs.launch('base_model:micro', tmp_path / 'broken', EVERY_STEP)
  assert f'{newest}: cannot be read' in output
  same = bad_days.remains(folder) == wanted
  count('base_model: newest checkpoint cut short', 1, int(same))
  assert same


@pytest.mark.slow
def test_numbers_gone_wrong_stop_the_run_and_can_be_run_again(tmp_path, count):
  arguments = (
    *('--config.train.learning_rate=10.0', '--config.train.warmup_steps=0'),
    # Decay beyond 1 grows weights, a hundredfold or more in each step.
    *('--config.train.weight_decay=100.0', '--config.train.num_steps=60'),
  )
  output = jobs.launch('base_model:micro', tmp_path, *arguments, fails=True)
  assert '6 steps in a row were not finite, more than debug.max_skipped=5. It began at step' in (
    output
  )
  replay = re.search(r'(--config.debug.replay=\S+)', output)[1]
  records = metrics.read(tmp_path / 'base_model-micro')
  assert [r['skipped'] for r in records[-6:]] == [1.0] * 6
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*') if 'metrics' in p.name}
  again = jobs.launch('base_model:micro', tmp_path, *arguments, replay)
  assert 'skipped: 1.0 then, 1.0 now' in again
  assert before == {p: p.stat().st_mtime_ns for p in before}
  count('base_model: loss and gradient not finite', 1, 1)


@pytest.mark.slow
def test_a_run_that_an_alarm_stops_goes_on_without_the_key(micro_runs, tmp_path):
  jobs.launch('grpo_think:micro', micro_runs)
  steps = '--config.train.num_steps=5'
  wanted = undisturbed('grpo_think:micro', micro_runs, tmp_path / 'whole', steps)
  runs = tmp_path / 'stopped'
  runs.mkdir()
  bad_days.borrow(runs, micro_runs, 'grpo_think-micro')
  for _ in range(2):  # the second start adds no step
    asked = '--config.rl.stop_on_alarm=broken_structure'  # no answer of a micro policy is valid
    output = jobs.launch('grpo_think:micro', runs, steps, asked, fails=True)
    assert 'stopped and saved at step 3 of 5: broken_structure has rung in 3 steps' in output
    assert len(metrics.read(runs / 'grpo_think-micro')) == 3
  jobs.launch('grpo_think:micro', runs, steps)
  assert bad_days.remains(runs / 'grpo_think-micro') == wanted
