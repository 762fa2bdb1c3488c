"""The plan of the house, as a law: what each room may import, and how large a page may grow.

A law is a function from a module's name and source to its complaints. Each is put to every file of
lwz, and to sources that break it.
"""

import ast
import graphlib
import re

import pytest

from tests import tree

GROUND = ('types', 'text', 'jsonl', 'rows', 'hosts')
ROOMS = {'ground', 'model', 'data', 'rollout', 'reward', 'learn', 'store', 'evals', 'report'}

# Room -> the rooms it may import, besides itself. Those at the end stand on each other.
MAY_IMPORT = {
  'ground': set(),
  'model': {'ground'},
  'data': {'ground'},
  'rollout': {'ground', 'model'},
  'reward': {'ground'},
  'learn': {'ground'},
  'store': {'ground', 'model'},
  'evals': {'ground'},
  'report': {'ground'},
  'programs': ROOMS,
  'runtime': ROOMS | {'programs'},
  'judge': ROOMS | {'programs', 'runtime'},
  'rl': ROOMS | {'programs', 'runtime', 'judge'},
  'serving': ROOMS | {'programs', 'runtime'},
  'stages': ROOMS | {'programs', 'runtime', 'judge', 'rl', 'serving'},
  'door': ROOMS | {'programs', 'runtime', 'judge', 'rl', 'serving', 'stages'},
  'launch': ROOMS | {'programs', 'runtime', 'judge', 'rl', 'serving', 'stages', 'door'},
  'sweep': ROOMS | {'programs', 'runtime', 'judge', 'rl', 'serving', 'stages', 'door'},
  'runs': ROOMS | {'programs', 'runtime', 'judge', 'rl', 'serving', 'stages', 'door'},
  'notebook': ROOMS | {'programs', 'runtime', 'judge', 'rl', 'serving', 'stages', 'door'},
  'lwz': {'notebook'},  # the package itself, see `lwz/__init__.py`
}
READ_THE_CONFIG = (
  *('runtime', 'judge', 'rl', 'stages', 'door', 'launch', 'sweep', 'runs', 'notebook'),
)

CONFIG = {'ml_collections'}
TOKENIZER = {'tokenizers', 'transformers'}
NETWORK = {'aiohttp', 'http', 'httpx2', 'huggingface_hub', 'openai', 'requests', 'socket', 'urllib'}
FILES = {
  *('etils', 'glob', 'huggingface_hub', 'io', 'open', 'orbax', 'os', 'pathlib', 'safetensors'),
  *('shutil', 'tempfile', 'tensorstore'),
}

# Room -> what it never imports ('open' is the builtin).
NEVER = {room: set(CONFIG) for room in MAY_IMPORT if room not in READ_THE_CONFIG}
NEVER['model'] |= TOKENIZER | FILES | {'optax'}
NEVER['data'] |= {'jax'}
NEVER['rollout'] |= TOKENIZER
NEVER['reward'] |= NETWORK
NEVER['learn'] |= FILES
NEVER['evals'] |= NETWORK

NEVER_IN_LWZ = {'torch', 'tensorflow', 'experiments', 'tests'}
VAGUE = {'util', 'utils', 'common', 'helper', 'helpers', 'misc'}
FILE_LINES, FUNCTION_LINES = 300, 80


def parts_of(module):
  return module.split('.')


def room_of(module):
  """`lwz.reward.length` -> 'reward'; `lwz.types` -> 'ground'; `lwz` itself -> 'lwz'."""
  room = parts_of(module)[:2][-1]
  return 'ground' if room in GROUND else room


def imports_downward(module, source):
  room = room_of(module)
  if room not in MAY_IMPORT:
    return [f'{room!r} is no room of the house: add it to README and to MAY_IMPORT']
  rooms = {room_of(name) for name in tree.imported(source) if name.startswith('lwz.')}
  return [f'{room} may not import {other}' for other in sorted(rooms - MAY_IMPORT[room] - {room})]


def keeps_its_never(module, source):
  banned = NEVER.get(room_of(module), set()) | NEVER_IN_LWZ
  met = banned & tree.roots(source)
  if any(isinstance(call.func, ast.Name) and call.func.id == 'open' for call in tree.calls(source)):
    met |= banned & {'open'}
  return [f'{room_of(module)} never imports {name}' for name in sorted(met)]


def keeps_stages_apart(module, source):
  if room_of(module) != 'stages':
    return []
  others = {'.'.join(parts_of(name)[:3]) for name in tree.imported(source)}
  others = {name for name in others if name.startswith('lwz.stages.')} - {module}
  return [f'a stage does not import another: {name}' for name in sorted(others)]


def imports_modules_absolutely(module, source):
  complaints = []
  for name in tree.imported(source):
    path = tree.ROOT.joinpath(*name.split('.'))
    if name.startswith('.'):
      complaints.append(f'relative import: {name}')
    elif name == 'lwz':
      complaints.append('`import lwz` hides which module is meant')
    elif tree.is_package(module) and name.startswith(f'{module}.'):
      continue  # a room that re-exports names of its own modules
    elif name.startswith('lwz.') and not (path.is_dir() or path.with_suffix('.py').is_file()):
      complaints.append(f'{name} is no module: import its module, and name it where it is used')
  return complaints


def has_a_noun_for_a_name(module, source):
  return [f'{part!r} names nothing' for part in parts_of(module) if part.lower() in VAGUE]


def stays_small(module, source):
  complaints = []
  if (lines := len(source.splitlines())) > FILE_LINES:
    complaints.append(f'{lines} lines, more than {FILE_LINES}')
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      lines = node.end_lineno - node.lineno + 1
      if lines > FUNCTION_LINES:
        complaints.append(f'{node.name} has {lines} lines, more than {FUNCTION_LINES}')
  return complaints


def says_what_it_is(module, source):
  return [] if ast.get_docstring(ast.parse(source)) else ['no docstring']


def reads_keys_without_defaults(module, source):
  """`c.rl.get('eps', 0.2)` and `getattr(c.rl, 'eps', 0.2)` hide what runs; `c.rl.eps` does not."""
  if room_of(module) not in ('programs', *READ_THE_CONFIG):
    return []
  hidden = []
  for call in tree.calls(source):
    match call.func:
      case ast.Attribute(value=owner, attr='get'):
        hidden += [call] if is_config(owner) else []
      case ast.Name(id='getattr') if len(call.args) == 3 and is_config(call.args[0]):
        hidden.append(call)
  return [f'line {c.lineno}: a default hides what runs: {ast.unparse(c)}' for c in hidden]


def is_config(node):
  return bool({'c', 'cfg', 'config'} & set(re.split(r'\W+', ast.unparse(node))))


LAWS = (
  imports_downward,
  keeps_its_never,
  keeps_stages_apart,
  imports_modules_absolutely,
  has_a_noun_for_a_name,
  stays_small,
  says_what_it_is,
  reads_keys_without_defaults,
)


@pytest.mark.parametrize('law', LAWS, ids=lambda law: law.__name__)
def test_every_file_of_lwz_keeps_the_law(law):
  house = tree.modules('lwz')
  assert 'lwz.types' in house
  complaints = [f'{m}: {said}' for m, source in house.items() for said in law(m, source)]
  assert not complaints, '\n'.join(complaints)


BROKEN = [
  (imports_downward, 'lwz.learn.losses', 'from lwz.model import qwen', 'may not import model'),
  (imports_downward, 'lwz.types', 'from lwz.data import prompts', 'ground may not import data'),
  (imports_downward, 'lwz.programs.grpo', 'import lwz.runtime.setup', 'may not import runtime'),
  (imports_downward, 'lwz.runtime.setup', 'from lwz.judge import judge', 'may not import judge'),
  (imports_downward, 'lwz.judge.judge', 'from lwz.rl import scoring', 'may not import rl'),
  (imports_downward, 'lwz.rl.scoring', 'def f():\n  from lwz.stages import grpo', 'import stages'),
  (imports_downward, 'lwz.store.hf', 'from lwz import door', 'may not import door'),
  (imports_downward, 'lwz.stages.report', 'from lwz import sweep', 'may not import sweep'),
  (imports_downward, 'lwz.odds.ends', '', 'no room'),
  (keeps_its_never, 'lwz.model.qwen', 'import optax', 'never imports optax'),
  (keeps_its_never, 'lwz.rollout.local', 'from transformers import AutoTokenizer', 'transformers'),
  (keeps_its_never, 'lwz.learn.update', 'from etils import epath', 'never imports etils'),
  (keeps_its_never, 'lwz.learn.update', "open('log.txt')", 'never imports open'),
  (keeps_its_never, 'lwz.data.prompts', 'import jax.numpy as jnp', 'never imports jax'),
  (keeps_its_never, 'lwz.reward.writing', 'import httpx2', 'never imports httpx2'),
  (keeps_its_never, 'lwz.store.metrics', 'from ml_collections import ConfigDict', 'ml_coll'),
  (keeps_its_never, 'lwz.stages.grpo', 'import torch.nn', 'never imports torch'),
  (keeps_its_never, 'lwz.launch', 'from experiments import base', 'never imports experiments'),
  (keeps_stages_apart, 'lwz.stages.grpo', 'from lwz.stages import sft', 'lwz.stages.sft'),
  (imports_modules_absolutely, 'lwz.learn.update', 'from . import losses', 'relative'),
  (imports_modules_absolutely, 'lwz.learn.update', 'from ..rows import pack', 'relative'),
  (imports_modules_absolutely, 'lwz.reward.length', 'import lwz', 'hides'),
  (imports_modules_absolutely, 'lwz.data.prompts', 'from lwz.types import Prompt', 'no module'),
  (has_a_noun_for_a_name, 'lwz.model.utils', '', 'utils'),
  (has_a_noun_for_a_name, 'lwz.common.words', '', 'common'),
  (stays_small, 'lwz.text', 'x = 1\n' * 301, '301 lines'),
  (stays_small, 'lwz.text', 'def f():\n' + '  x = 1\n' * 80, 'f has 81 lines'),
  (says_what_it_is, 'lwz.text', 'x = 1', 'no docstring'),
  (reads_keys_without_defaults, 'lwz.stages.grpo', "c.rl.get('eps', 0.2)", 'line 1'),
  (reads_keys_without_defaults, 'lwz.stages.sft', "run.config.get('eps')", 'default'),
  (reads_keys_without_defaults, 'lwz.stages.sft', "getattr(c, 'eps', None)", 'default'),
]


@pytest.mark.parametrize('law, module, source, complaint', BROKEN)
def test_a_broken_law_is_named(law, module, source, complaint):
  assert complaint in '\n'.join(law(module, source))


def test_every_law_has_been_seen_broken():
  assert {law for law, *_ in BROKEN} == set(LAWS)


UPRIGHT = (
  '"""Runs it."""\nimport jax\nfrom lwz import types\nheaders.get("a", 1)\nc.rl.group_size\n'
)


@pytest.mark.parametrize('law', LAWS, ids=lambda law: law.__name__)
def test_an_upright_stage_is_let_through(law):
  assert law('lwz.stages.grpo', UPRIGHT) == []


def circle(house):
  """Modules that import each other, first and last the same; [] where there are none."""
  graph = {m: {n for n in tree.imported(source) if n in house} - {m} for m, source in house.items()}
  try:
    graphlib.TopologicalSorter(graph).prepare()
  except graphlib.CycleError as error:
    return error.args[1]
  return []


def test_no_circle():
  assert circle(tree.modules('lwz')) == []


def test_a_circle_is_found():
  house = {'lwz.model.a': 'from lwz.model import b', 'lwz.model.b': 'import lwz.model.a'}
  assert len(circle(house)) == 3


def foreign(source):
  """What an experiment file imports besides ml_collections and the experiment it derives from."""
  names = tree.imported(source)
  return [n for n in names if n.split('.')[0] not in ('ml_collections', 'experiments')]


def test_experiments_are_tied_to_nothing():
  strays = {m: foreign(source) for m, source in tree.modules('experiments').items()}
  assert not {m: names for m, names in strays.items() if names}


@pytest.mark.parametrize('source', ['from lwz.model import config', 'import jax'])
def test_a_tied_experiment_is_found(source):
  assert foreign(source)
  assert not foreign('import ml_collections\nfrom experiments import base')
