"""launch/pipeline.sh, its commands printed instead of run."""

import os
import re
import subprocess

import pytest

from tests import tree


def commands(*arguments):
  """{experiment: the arguments of its process}, in order."""
  script = [tree.ROOT / 'launch/pipeline.sh', *arguments]
  shown = subprocess.run(
    script, env=os.environ | {'PYTHON': 'echo'}, check=True, capture_output=True, text=True
  )
  return {re.search(r'experiments/(\w+)\.py', line)[1]: line for line in shown.stdout.splitlines()}


def test_what_prompts_writes_is_read_from_grpo_on():
  found = commands('32b', '--config.seed=1')
  reads = [name for name, line in found.items() if '--config.data.prompts=prompts:32b' in line]
  assert next(iter(found)) == 'prompts'
  assert list(found)[3:] == reads and reads[:2] == ['grpo_think', 'grpo_nothink']
  assert 'base_model' not in found
  assert all(':32b ' in line and line.endswith('--config.seed=1') for line in found.values())


@pytest.mark.parametrize('size', ['micro', 'tiny'])
def test_a_pocket_model_keeps_to_held_out_titles(size):
  found = commands(size)
  assert 'prompts' not in found and 'data.prompts' not in ''.join(found.values())


def test_a_model_of_its_own_size_runs_what_its_grpo_needs():
  assert list(commands('small'))[:2] == ['grpo_think', 'grpo_nothink']


def test_every_step_is_an_experiment():
  missing = [name for name in commands() if not (tree.ROOT / f'experiments/{name}.py').is_file()]
  assert not missing
