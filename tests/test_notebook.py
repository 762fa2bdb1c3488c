"""The Python door: light to import, the runs of the command line, stopped and gone on with."""

import dataclasses
import importlib
import inspect
import os
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import lwz
from experiments import base
from lwz import notebook
from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.runtime import keys, setup
from lwz.stages import grpo
from lwz.store import metrics
from lwz.store.hf import checkpoint as hf
from tests import tree
from tests.faults import bad_days


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
  """What the door sets for the process is set back."""
  monkeypatch.setenv('XLA_FLAGS', os.environ.get('XLA_FLAGS', ''))
  cache = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update('jax_compilation_cache_dir', cache)


@pytest.mark.parametrize(
  'module, heavy', [('lwz', ('jax', 'numpy', 'absl')), ('lwz.rl.registry', ())]
)
def test_importing_lwz_or_a_room_loads_no_stage(module, heavy):
  heavy = (*heavy, 'lwz.stages', 'lwz.door', 'lwz.launch', 'lwz.notebook')
  code = f'import {module}, sys; assert "run" in dir(lwz); print(sys.modules.keys() & {{*{heavy}}})'
  said = subprocess.run([sys.executable, '-c', code], cwd=tree.ROOT, capture_output=True, text=True)
  assert said.stdout == 'set()\n', said.stderr


def test_its_names_are_those_of_the_door():
  assert all(getattr(lwz, name) is getattr(notebook, name) for name in lwz.__all__)
  with pytest.raises(AttributeError, match="module 'lwz' has no attribute 'walk'"):
    _ = lwz.walk


def test_it_defines_no_flag_of_a_command_line():
  asked = 'import lwz.notebook; from absl import flags; assert "config" not in flags.FLAGS'
  subprocess.run([sys.executable, '-c', asked], check=True, cwd=tree.ROOT)


def test_a_config_is_found_from_anywhere_by_name_and_by_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  by_name = lwz.load_config('grpo_think:micro', {'rl.group_size': 2, 'reward.weights.mine': 0.5})
  assert (by_name.size, by_name.rl.group_size, by_name.reward.weights.mine) == ('micro', 2, 0.5)
  by_path = lwz.load_config(tree.ROOT / 'experiments/grpo_think.py', {'report.runs': ['a']})
  assert (by_path.size, by_path.report.runs) == ('tiny', ('a',))


@pytest.mark.parametrize(
  'name, overrides, message',
  [
    ('grpo_thin:micro', {}, 'grpo_thin.py: there is no such experiment; choose from base_model, '),
    ('grpo_think:33b', {}, "no size '33b': choose one of micro"),
    ('grpo_think', {'rl.group_sise': 4}, 'no key \'group_sise\'. Did you mean "group_size"?'),
    ('grpo_think', {'lr.group_size': 4}, "there is no key 'lr'."),
    ('grpo_think', {'rl.group_size': 'four'}, "rl.group_size='four': "),
    ('grpo_think', {'rl.weight_cap': 2.0}, 'rl.weight_cap is called rl.tis_cap now'),
  ],
)
def test_what_is_wrong_with_a_config_is_a_sentence(name, overrides, message):
  with pytest.raises((ValueError, FileNotFoundError)) as raised:
    lwz.load_config(name, overrides)
  assert message in str(raised.value)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'rl.group_size': 0}, 'rl.group_size=0: choose a number from 1'),
    ({'runs_dir': ''}, 'a run needs a folder of its own'),
  ],
)
def test_a_value_out_of_bounds_is_refused_before_anything_runs(change, message):
  with pytest.raises(ValueError, match=message):
    lwz.steps(lwz.load_config('grpo_think:micro', change))


def small(folder, **overrides):
  """The config of a run of seconds: a base model on a corpus of a few pages."""
  texts = folder / 'texts'
  texts.mkdir(exist_ok=True)
  for i in range(60):
    (texts / f'{i}.txt').write_text(f'River number {i} runs past the mill and the bridge. ' * 9)
  given = {'data.folder': str(texts), 'runs_dir': str(folder / 'runs')}
  return lwz.load_config('base_model:micro', given | overrides)


def unclocked(records):
  return [{k: v for k, v in r.items() if not bad_days.CLOCKS.match(k)} for r in records]


@pytest.mark.slow
def test_steps_stop_when_they_like_and_go_on_as_if_they_had_not(tmp_path, capsys, monkeypatch):
  c = small(tmp_path)
  whole = lwz.run(c, quiet=True)
  assert capsys.readouterr() == ('', '')
  assert whole.metrics['step'].tolist() == [0, 1, 2, 3] and whole.summary['loss'] > 0
  assert whole.plots['training loss']._repr_svg_().startswith('<svg')
  assert whole.samples == {}

  c.name = 'cut'
  folder = setup.run_folder(c)
  for record in lwz.steps(c, quiet=True):
    assert np.isfinite(record['loss']) and metrics.read(folder)[-1]['loss'] == record['loss']
    break
  assert [path.name for path in (folder / 'checkpoints').iterdir()] == ['1']
  assert not (folder / 'LOCK').exists() and not (folder / 'DONE').exists()
  assert notebook.Run(folder).summary == {} and notebook.Run(folder).plots == {}

  left_open = lwz.steps(c, quiet=True)
  assert next(left_open)['step'] == 1
  interrupted = lwz.steps(c, quiet=True)  # the other one is ended, and saved
  assert next(left_open, None) is None
  write = metrics.Writer.write
  monkeypatch.setattr(metrics.Writer, 'write', lambda *a: (signal.raise_signal(2), write(*a)))
  with pytest.raises(KeyboardInterrupt, match='cut: stopped and saved at step 3 of 4'):
    next(interrupted)
  monkeypatch.undo()
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

  assert [record['step'] for record in lwz.steps(c)] == [3]
  assert 'cut: done at step 4 of 4' in capsys.readouterr().err
  assert unclocked(metrics.read(folder)) == unclocked(metrics.read(whole.folder))
  assert list(lwz.steps(c)) == []
  assert 'cut: complete, nothing to do' in capsys.readouterr().out


def test_a_run_at_home_is_found_there(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setattr(notebook, 'steps', lambda *_, **__: iter(()))
  found = lwz.run(c := lwz.load_config('base_model:micro', {'runs_dir': '~/mine'}))
  assert os.fspath(found.folder) == f'{tmp_path}/mine/base_model-micro'
  assert c.runs_dir == '~/mine'  # the caller's config is as it was


def test_a_refusal_has_no_stack(tmp_path):
  with pytest.raises(ValueError, match='to train on and 0 held out') as raised:
    lwz.run(small(tmp_path, **{'data.heldout': 1e-9}), quiet=True)
  assert len(raised.traceback) <= 4


def test_a_function_is_a_reward_by_its_name(tmp_path, capsys):
  def words(samples):
    return [float(len(s.parsed.answer.split())) for s in samples]

  path = tmp_path / 'texts.jsonl'
  path.write_text('{"prompt": "Write.", "text": "<think>A</think><answer>Some words.</answer>"}')
  given = {'stage': 'score', 'score.texts': str(path), 'reward.model': '', 'needs': ()}
  c = lwz.load_config('grpo_think:micro', given)
  del c.reward.weights['writing']
  lwz.run(c, {'words': words})
  rows = [line.split('|') for line in capsys.readouterr().out.splitlines() if '|' in line]
  assert (rows[0][-2].strip(), float(rows[-1][-2])) == ('words', 2.0)
  assert 'words' not in c.reward.weights  # the caller's config is as it was


@pytest.mark.parametrize(
  'experiment, rewards, message',
  [
    ('grpo_think:micro', {'length': lambda s: s}, 'lwz has a reward of this name'),
    ('grpo_think:micro', {'mine': 3}, 'is no function from samples to numbers'),
    ('base_model:micro', {'mine': (len, '1')}, 'stage=pretrain reads no rewards'),
  ],
)
def test_rewards_that_cannot_be_used_are_refused(experiment, rewards, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    lwz.run(lwz.load_config(experiment, {'runs_dir': str(tmp_path)}), rewards, quiet=True)


def test_the_function_of_a_reward_is_part_of_the_identity_of_its_run():
  """Added, changed, left out: each is another run."""

  def config(rewards):
    return notebook._given(lwz.load_config('grpo_think:micro'), rewards)[0]

  def differing(one, two):
    found = setup.identity(one, grpo.READS, base.get_config('micro'))
    return set(found.differences(one.to_dict(), two.to_dict()))

  plain = config({})
  one, two = (config({'mine': (len, version)}) for version in '12')
  assert differing(one, two) == {'reward.functions.mine'}
  assert differing(one, one) == differing(plain, plain) == set()
  assert {'reward.functions.mine', 'reward.weights.mine'} <= differing(plain, two)
  assert {'reward.functions.mine', 'reward.weights.mine'} <= differing(two, plain)


def test_a_model_writes_to_several_prompts(tmp_path):
  tok = tokenizer.train(['the sea is wide, and rivers run to the sea'] * 9, 384)
  config = dataclasses.replace(config_lib.preset('micro'), max_position_embeddings=4_096)
  hf.save(tmp_path, config, qwen.init(jax.random.key(0), config), tok)
  prompts = ['the sea', 'rivers run', 'wide']
  texts = lwz.generate(tmp_path, prompts, max_tokens=6, quiet=True)
  assert len(texts) == 3 and len(set(texts)) > 1
  assert lwz.generate(tmp_path, []) == []


@pytest.mark.parametrize('stage', keys.TRAINING)
def test_a_stage_that_trains_yields_its_records(stage):
  """Else `lwz.steps` would run it, and yield nothing."""
  assert inspect.isgeneratorfunction(importlib.import_module(f'lwz.stages.{stage}').run)


def test_a_run_of_the_size_small_is_asked_by_the_model_that_it_began_with(monkeypatch):
  config = {'size': 'small', 'base_model': 'gguf:package/file.gguf', 'rollout': {'top_p': 0.5}}
  monkeypatch.setattr(notebook.model_source, 'is_run', lambda path: True)
  monkeypatch.setattr(notebook.run_lib, 'Run', lambda path: types.SimpleNamespace(config=config))
  asked = notebook._asked('runs/mine')
  assert (asked.base_model, asked.rollout.top_p) == ('gguf:package/file.gguf', 0.5)
