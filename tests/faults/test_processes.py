"""Two processes are one run: the same figures, one end, and no survivor of a loss that hangs."""

import os
import re
import signal

import pytest

from lwz.store import evaluations, metrics
from tests import jobs
from tests.faults import bad_days

pytestmark = pytest.mark.slow
MAIN = 'grpo_think:micro'
STAGES = ('base_model', 'pretrain', 'reward_model', 'grpo_think')
FIGURES = {'loss', 'grad_norm', 'learn/entropy', 'learn/grad_norm', 'tokens/trajectory'}


def test_two_processes_give_the_curves_of_one(micro_runs, tmp_path, count):
  """Through every stage, within what another order of sums makes."""
  jobs.launch(MAIN, micro_runs)
  together = bad_days.start_together(MAIN, tmp_path)
  output, _ = together.communicate(timeout=900)
  assert together.returncode == 0, output
  for name in STAGES:
    alone, two = (metrics.read(runs / f'{name}-micro') for runs in (micro_runs, tmp_path))
    assert [r['step'] for r in two] == [r['step'] for r in alone]
    for figure in FIGURES & alone[0].keys():
      there, here = ([r[figure] for r in records] for records in (alone, two))
      assert here == pytest.approx(there, rel=1e-3, abs=1e-6), (name, figure)
      assert max(there) > 0, (name, figure)
    assert (tmp_path / f'{name}-micro' / 'report.html').exists()
  judged = [evaluations.metrics(runs / f'{STAGES[-1]}-micro') for runs in (micro_runs, tmp_path)]
  assert judged[0] and list(judged[0]) == list(judged[1])
  assert all(one['eval/failed'] == 0 for one in judged[1].values())
  assert 'grpo_think-micro: complete' in jobs.launch(MAIN, tmp_path, '--config.mesh.fsdp=-1')
  count('two processes through every stage, against one', len(STAGES), len(STAGES))


def test_a_signal_to_one_of_two_stops_both_at_one_step(tmp_path, count):
  long = '--config.train.num_steps=400'
  together = bad_days.start_together('base_model:micro', tmp_path, long)
  folder = tmp_path / 'base_model-micro'
  bad_days.wait_for(lambda: bad_days.num_lines(folder / 'metrics.jsonl') > 3, together)
  os.kill(bad_days.member(together, 1), signal.SIGTERM)
  output, _ = together.communicate(timeout=120)
  assert together.returncode == 75, output
  step = int(re.search(r'stopped and saved at step (\d+) of 400', output)[1])
  assert len(metrics.read(folder)) == step
  assert (folder / 'checkpoints' / str(step)).exists()
  jobs.launch('base_model:micro', tmp_path, f'--config.train.num_steps={step + 1}')
  assert [r['step'] for r in metrics.read(folder)] == list(range(step + 1))
  count('SIGTERM to one of two processes', 1, 1)


@pytest.mark.parametrize('victim', [0, 1])
def test_when_one_of_two_is_killed_the_other_leaves_and_all_start_again(victim, tmp_path, count):
  arguments = ('--config.train.num_steps=12', '--config.checkpoint.every=1')
  together = bad_days.start_together('base_model:micro', tmp_path, *arguments, attempts=2)
  folder = tmp_path / 'base_model-micro'
  bad_days.wait_for(lambda: bad_days.num_lines(folder / 'metrics.jsonl') > 2, together)
  os.kill(bad_days.member(together, victim), signal.SIGKILL)
  output, _ = together.communicate(timeout=300)
  assert together.returncode == 0, output
  assert f'process {victim} of 2 ended with status 137' in output
  assert 'attempt 1 of 2' in output
  assert [r['step'] for r in metrics.read(folder)] == list(range(12))
  count(f'SIGKILL to process {victim} of two', 1, 1)


def test_a_checkpoint_that_breaks_is_refused_by_both_and_both_go_on_from_the_one_before(
  tmp_path, count
):
  arguments = ('--config.train.num_steps=400', '--config.checkpoint.every=1')
  together = bad_days.start_together('base_model:micro', tmp_path, *arguments)
  folder = tmp_path / 'base_model-micro'
  bad_days.wait_for(lambda: bad_days.num_lines(folder / 'metrics.jsonl') > 3, together)
  os.kill(bad_days.member(together, 1), signal.SIGTERM)
  output, _ = together.communicate(timeout=120)
  step = int(re.search(r'stopped and saved at step (\d+) of 400', output)[1])
  newest = folder / 'checkpoints' / str(step)
  bad_days.cut_short(newest)
  end = f'--config.train.num_steps={step + 2}'
  again = bad_days.start_together('base_model:micro', tmp_path, *arguments, end)
  output, _ = again.communicate(timeout=300)
  assert again.returncode == 0, output
  assert f'{newest}: cannot be read' in output and (folder / 'refused' / str(step)).exists()
  assert [r['step'] for r in metrics.read(folder)] == list(range(step + 2))
  count('two processes: newest checkpoint cut short', 1, 1)
