"""Every experiment file loads at every size, holds base's keys and no other, and runs at micro."""

import ast
import importlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from experiments import base, preflight
from experiments.recipes import grpo as recipes
from lwz.data import tokenizer
from lwz.programs.cost import topology
from lwz.runtime import adapters, keys
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf
from tests import jobs

FOLDER = pathlib.Path(base.__file__).parent
STAGES = sorted(p.stem for p in (FOLDER.parent / 'lwz/stages').glob('*.py') if p.stem != '__init__')
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


@pytest.mark.parametrize('size', base.SIZES)
@pytest.mark.parametrize('name', NAMES)
def test_its_files_are_found_from_any_folder(name, size):
  c = load(name, size)
  values = {key: keys.get(c, key) for key in dotted(c)}
  paths = {key: value for key, value in values.items() if value and isinstance(value, str)}
  relative = {key: value for key, value in paths.items() if (FOLDER.parent / value).is_file()}
  assert all(value.startswith('/') for value in relative.values()), relative
  assert all(pathlib.Path(v).is_file() for v in paths.values() if v.endswith('.jsonl'))


@pytest.mark.parametrize('name', NAMES)
def test_says_its_claim_and_its_command(name):
  doc = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
  assert f'python -m lwz.launch --config=experiments/{name}.py' in doc


@pytest.mark.parametrize('machine', recipes.RECIPES)
def test_a_recipe_is_a_run_and_a_preflight(machine, monkeypatch):
  c = recipes.get_config(machine)
  assert set(dotted(c)) == set(dotted(base.get_config(c.size)))
  assert c.data.row_length == c.rollout.max_prompt_tokens + c.rollout.max_tokens
  asked = preflight.get_config(f'recipe:{machine}')
  assert (asked.stage, asked.preflight.stage, asked.size) == ('preflight', 'grpo', c.size)
  assert asked.preflight.topology == c.preflight.topology
  for one in (c, asked):
    keys.check(one)
  adapters.check(asked)  # of the shapes of a size: no model is there
  for found in ('_tpus', '_gpus'):
    monkeypatch.setattr(topology, found, lambda name, *_: name)
  assert topology.load(c.preflight.topology)


def test_an_unknown_recipe_is_refused_with_the_others():
  with pytest.raises(ValueError, match=r"no recipe 'v5e'.*v5e-1, v5e-8"):
    preflight.get_config('recipe:v5e')


def test_an_unknown_size_is_refused_with_the_sizes():
  with pytest.raises(ValueError, match=r"no size '33b'.*tiny.*32b"):
    base.get_config('33b')


def test_an_experiment_may_set_keys_of_base_and_weights_of_rewards_to_come():
  c = base.get_config('micro')
  with pytest.raises(AttributeError, match='weight_cap'):
    c.rl.weight_cap = 2.0
  c.reward.weights.keywords = 1.0


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


ALL = set(dotted(base.get_config('tiny')))
# READS that a run at micro, judged offline, has no occasion to read, and why.
ONLY_WHEN = {
  'base_model': 'the size is small',
  'data.style': 'the examples of fine-tuning are a file',
  'data.long': 'a valid answer is scored',
  'data.skip_broken': 'a file of pairs is named',
  'data.pair_paths': 'a file of pairs is named',
  'data.threshold': 'the rollouts of a run are named',
  'data.template': 'a system of an evaluation is no run of ours',
  'data.prompts': 'a file of prompts is named',
  'debug.heartbeat': 'several processes start, at the door',
  'eval.key_env': 'a system is an endpoint',
  'eval.sends': 'a system is an endpoint',
  'eval.slots': 'our own engine judges',
  'eval.style': 'a system is no run of ours',
  'needs_seed': 'a model is named by its experiment',
  'judge.': 'the judge is an endpoint or a model',
  'reward.': 'an ensemble, a server or a foreign model gives rewards',
  'train.dtype': 'our own engine judges',
  'rl.clip': 'a gradient is computed by a program that was compiled with it',
  'rl.overlong_margin': 'rl.overlong is penalise',
  'rl.satisfied': 'rl.composition has constraints',
  'rollout.': 'our own engine judges, or draws from a part of the tokens',
}


def test_every_key_is_read_by_some_stage():
  stages = [importlib.import_module(f'lwz.stages.{name}') for name in STAGES]
  read = {key for key in ALL for stage in stages if keys.is_under(key, stage.READS)}
  door = {'needs', 'needs_policy', 'needs_parallel'}
  assert ALL - read == door


def test_what_is_declared_is_a_key():
  for name in STAGES:
    for key in importlib.import_module(f'lwz.stages.{name}').READS:
      assert any(keys.is_under(leaf, [key]) for leaf in ALL), f'{name}: {key}'


TRAINING = [name for name in NAMES if load(name, 'micro').stage in keys.TRAINING]


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
  """A folder of runs at micro that the tests of this file fill, with the keys that they read."""
  return tmp_path_factory.mktemp('recorded')


def launch(experiment, runs, *arguments, **options):
  return jobs.launch(experiment, runs, *arguments, record=runs / 'reads.jsonl', **options)


# The stages of the main job; the others are slow.
FIRST = ('pretrain', 'reward_model', 'grpo_think')


@pytest.mark.parametrize(
  'name', [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in TRAINING]
)
def test_runs_at_micro(name, recorded):
  launch(f'{name}:micro', recorded)
  folder = recorded / f'{name}-micro'
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


def test_an_exported_policy_is_the_policy(recorded, tmp_path):
  launch('grpo_think:micro', recorded)
  source = recorded / 'grpo_think-micro'
  output = launch(
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


@pytest.mark.slow
def test_runs_stand_side_by_side(recorded):
  for name in ('grpo_think', 'grpo_nothink'):
    launch(f'{name}:micro', recorded)
  launch('report:micro', recorded)
  folder = recorded / 'report-micro'
  table = (folder / 'table.md').read_text().splitlines()
  assert [line.split(' | ')[0] for line in table[2:]] == [
    '| grpo_think-micro',
    '| grpo_nothink-micro',
  ]
  figures = [m for m in load('report', 'micro').report.metrics if not m.startswith('eval/')]
  assert table[0].split(' | ')[1:] == [*figures[:-1], f'{figures[-1]} |']
  assert (folder / 'curves.svg').read_text().count('<svg') == 1 + len(figures)
  assert 'grpo_nothink-micro' in (folder / 'report.html').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['eval_arena', 'eval_writingbench'])
def test_policies_are_compared_offline(name, recorded):
  launch(f'{name}:micro', recorded)  # runs first what it needs
  folder = recorded / f'{name}-micro'
  results = json.loads((folder / 'results.json').read_text())
  table = (folder / 'table.md').read_text()
  for system in ('base_model', 'pretrain', 'grpo_think', 'grpo_nothink'):
    assert f'| {system}-micro |' in table
  assert results['facts']['judge'] == 'offline-rules' and results['facts']['prompts'] == 4
  assert '<svg' in (folder / 'report.html').read_text()
  assert 'complete, nothing to do' in launch(f'{name}:micro', recorded)


@pytest.mark.slow
def test_a_referee_judges_at_micro(recorded):
  named = ('--config.reward.heldout=referee:micro', '--config.name=refereed')
  launch('grpo_think:micro', recorded, *named)  # runs the referee first
  lines = (recorded / 'refereed' / 'evaluations.jsonl').read_text().splitlines()
  found = [json.loads(line) for line in lines]
  assert [record['step'] for record in found] == [0, 2]
  assert all(0 < record['eval/referee/corpus'] < 1 for record in found)
  assert all(record['eval/logp/corpus'] < 0 < record['eval/distinct/corpus'] for record in found)
  assert 'the referee prefers' in (recorded / 'refereed' / 'report.html').read_text()


def test_a_run_that_is_not_there_is_named(tmp_path):
  output = launch('report:micro', tmp_path, fails=True)
  assert 'grpo_think-micro/metrics.jsonl: no metrics here' in output


def test_the_browser_made_from_an_archive_is_that_of_the_training(recorded):
  launch('grpo_think:micro', recorded)
  folder = recorded / 'grpo_think-micro'
  assert 'href="rollouts.html"' in (folder / 'report.html').read_text()
  written = {path.name: path.read_bytes() for path in (folder / 'browser').iterdir()}
  steps = len((folder / 'metrics.jsonl').read_text().splitlines())
  assert {f'batch-{step:06d}-0.js' for step in range(steps)} < set(written)
  shutil.rmtree(folder / 'browser')
  runs = '--config.report.runs=("grpo_think-micro",)'
  launch('report:micro', recorded, runs, '--config.report.browser=True', '--config.name=compared')
  assert {path.name: path.read_bytes() for path in (folder / 'browser').iterdir()} == written
  linked = (recorded / 'compared' / 'report.html').read_text()
  assert 'href="../grpo_think-micro/rollouts.html"' in linked


@pytest.mark.slow
def test_stages_read_what_they_declare(recorded):
  names = ('grpo_think', 'sft', 'eval_arena', 'prompts', 'generate', 'report', 'export', 'rescore')
  for experiment in names:
    launch(f'{experiment}:micro', recorded)
  launch('grpo_think:micro', recorded, '--config.stage=score')
  scorers = "--config.eval.scorers=('reward_model:micro', 'pretrain:micro')"
  launch('eval_ruler:micro', recorded, scorers)
  asked = (recorded / 'prompts-micro' / 'prompts.jsonl').read_text().splitlines()
  rows = [json.dumps(json.loads(line) | {'lower': 1, 'upper': 900}) + '\n' for line in asked]
  wide = recorded / 'wide.jsonl'  # what a pocket model babbles fits no other range
  wide.write_text(''.join(rows))
  named = (f'--config.init={recorded / "pretrain-micro"}', f'--config.data.prompts={wide}')
  launch('passages:micro', recorded, *named)
  written = ('--config.data.written=policy_pairs:micro', '--config.name=written')
  launch('reward_model:micro', recorded, *written)
  read = {}
  for line in (recorded / 'reads.jsonl').read_text().splitlines():
    stage, key = json.loads(line)
    read.setdefault(stage, set()).add(key)
  assert set(read) >= {*keys.RESUMABLE, 'generate', 'report', 'export', 'score'}
  complaints = []
  for stage, found in read.items():
    declared = importlib.import_module(f'lwz.stages.{stage}').READS
    undeclared = [key for key in found if not keys.is_under(key, declared)]
    complaints += [f'{stage} reads {key}, which is not in its READS' for key in undeclared]
    if stage in keys.RESUMABLE:
      identity = {key for key in ALL if keys.is_identity(key, stage, declared)}
      unread = [key for key in identity - found if not key.startswith(tuple(ONLY_WHEN))]
      complaints += [f'{stage} declares {key}, which it does not read' for key in unread]
  assert not complaints, '\n'.join(sorted(complaints))
