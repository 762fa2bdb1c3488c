"""Every experiment file loads at every size, holds base's keys and no other, and runs at micro."""

import ast
import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import base
from lwz.data import tokenizer
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf
from tests import jobs

FOLDER = pathlib.Path(base.__file__).parent
NAMES = sorted(p.stem for p in FOLDER.glob('*.py') if p.stem not in ('__init__', 'base'))


def load(name, size):
  return importlib.import_module(f'experiments.{name}').get_config(size)


def dotted(config, prefix=''):
  for key, value in config.items():
    if hasattr(value, 'items') and key != 'weights':
      yield from dotted(value, f'{prefix}{key}.')
    else:
      yield prefix + key


@pytest.mark.parametrize('size', base.SIZES)
@pytest.mark.parametrize('name', NAMES)
def test_loads_at_every_size(name, size):
  c = load(name, size)
  assert (c.experiment, c.size) == (name, size)
  assert set(dotted(c)) == set(dotted(base.get_config(size)))
  json.dumps(c.to_dict())


@pytest.mark.parametrize('name', NAMES)
def test_says_its_claim_and_its_command(name):
  doc = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
  assert f'python -m lwz.launch --config=experiments/{name}.py' in doc


def test_an_unknown_size_is_refused_with_the_sizes():
  with pytest.raises(ValueError, match=r"no size '33b'.*tiny.*32b"):
    base.get_config('33b')


def test_the_papers_run_is_the_papers():
  c = load('grpo_think', '32b')
  assert (c.rl.prompts_per_step * c.rl.group_size, c.rollout.max_tokens) == (32, 14_000)
  assert (c.rl.clip_low, c.rl.clip_high, c.rollout.temperature) == (0.2, 0.2, 0.8)
  assert (c.train.num_steps, c.rl.advantage, c.data.template) == (150, 'balanced', 'paper')
  assert (c.init, c.reward.model) == ('pretrain:32b', 'reward_model:72b')
  assert load('pretrain', '32b').data.formatted_share == 0.01


def test_the_ablation_differs_in_its_style_alone():
  think, direct = (load(f'grpo_{s}', 'tiny').to_dict() for s in ('think', 'nothink'))
  differing = {k for k in think if think[k] != direct[k]}
  assert differing == {'experiment', 'data'}
  assert {k for k in think['data'] if think['data'][k] != direct['data'][k]} == {'style'}


def read_keys(source):
  """Dotted keys that a source reads of a config named `c`: `c.train.rows` gives 'train.rows'."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    chain = []
    while isinstance(node, ast.Attribute):
      chain.append(node.attr)
      node = node.value
    if isinstance(node, ast.Name) and node.id in ('c', 'self') and chain:
      parts = [part for part in reversed(chain) if part != '_c']
      found |= {'.'.join(parts[: i + 1]) for i in range(len(parts))}
  return found


def test_every_key_is_read():
  rooms = ('runtime', 'judge', 'rl', 'stages')
  files = [path for room in rooms for path in FOLDER.parent.glob(f'lwz/{room}/*.py')]
  files.append(FOLDER.parent / 'lwz/launch.py')
  read = set().union(*(read_keys(path.read_text()) for path in files))
  assert read_keys('x = c.a.b.get') == {'a', 'a.b', 'a.b.get'}
  assert set(dotted(base.get_config('tiny'))) - read == set()


@pytest.mark.parametrize('stage', base.UNREAD)
def test_what_is_no_part_of_a_run_is_not_read_by_its_stage(stage):
  read = read_keys((FOLDER.parent / f'lwz/stages/{stage}.py').read_text())
  assert read and not read & set(base.UNREAD[stage])


TRAINING = [name for name in NAMES if load(name, 'micro').train.num_steps]


@pytest.mark.parametrize('name', TRAINING)
def test_runs_at_micro(name, micro_runs):
  jobs.launch(f'{name}:micro', micro_runs)
  folder = micro_runs / f'{name}-micro'
  assert (folder / 'DONE').exists()
  assert {p.name for p in folder.iterdir()} >= {
    'config.json',
    'metrics.jsonl',
    'checkpoints',
    'report.html',
    'tensorboard',
    'tokenizer',
  }
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(line)['step'] for line in lines]
  assert steps == list(range(load(name, 'micro').train.num_steps))


def test_an_exported_policy_is_the_policy(micro_runs, tmp_path):
  jobs.launch('grpo_think:micro', micro_runs)
  source = micro_runs / 'grpo_think-micro'
  output = jobs.launch(
    'export:micro',
    *(tmp_path, f'--config.init={source}'),
    *(f'--config.export.folder={tmp_path / "hf"}', '--config.export.dtype=float32'),
  )
  assert 'AutoModelForCausalLM' in output
  config, params = hf.load(tmp_path / 'hf')
  trained = model_source.params(source, config, jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, params, trained)
  assert tokenizer.load(str(tmp_path / 'hf')).get_vocab() == (
    tokenizer.load(str(source / 'tokenizer')).get_vocab()
  )


def test_runs_stand_side_by_side(micro_runs):
  for name in ('grpo_think', 'grpo_nothink'):
    jobs.launch(f'{name}:micro', micro_runs)
  jobs.launch('report:micro', micro_runs)
  folder = micro_runs / 'report-micro'
  table = (folder / 'table.md').read_text().splitlines()
  assert [line.split(' | ')[0] for line in table[2:]] == [
    '| grpo_think-micro',
    '| grpo_nothink-micro',
  ]
  figures = load('report', 'micro').report.figures
  assert table[0].split(' | ')[1:] == [*figures[:-1], f'{figures[-1]} |']
  assert (folder / 'curves.svg').read_text().count('<svg') == 1 + len(figures)
  assert 'grpo_nothink-micro' in (folder / 'report.html').read_text()


@pytest.mark.parametrize(
  'name', ['eval_arena', pytest.param('eval_writingbench', marks=pytest.mark.slow)]
)
def test_policies_are_compared_offline(name, micro_runs):
  jobs.launch(f'{name}:micro', micro_runs)  # runs first what it needs
  folder = micro_runs / f'{name}-micro'
  results = json.loads((folder / 'results.json').read_text())
  table = (folder / 'table.md').read_text()
  for system in ('base_model', 'pretrain', 'grpo_think', 'grpo_nothink'):
    assert f'| {system}-micro |' in table
  assert results['facts']['judge'] == 'offline-rules' and results['facts']['prompts'] == 4
  assert '<svg' in (folder / 'report.html').read_text()
  assert 'complete, nothing to do' in jobs.launch(f'{name}:micro', micro_runs)


def test_a_run_that_is_not_there_is_named(tmp_path):
  output = jobs.launch('report:micro', tmp_path, fails=True)
  assert 'grpo_think-micro/metrics.jsonl: no metrics here' in output
