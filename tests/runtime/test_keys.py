"""The one table about config keys: bounds, names of before, identity."""

import importlib
import math
import pathlib
import re

import pytest

from experiments import base, grpo_think
from lwz import door
from lwz.runtime import keys, setup, sizing
from lwz.store import run

LEAVES = dict(keys.leaves(base.get_config('tiny')))


def is_number(value):
  return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize('size', base.SIZES)
def test_every_number_has_finite_bounds_and_its_default_lies_within(size):
  c = base.get_config(size)
  for key in sizing.OPEN if size == sizing.SMALL else ():
    assert keys.get(c, key) == 0  # left to `sizing.fill`
    keys.set_value(c, key, keys.of(key).low)
  for key, value in keys.leaves(c):
    if is_number(value):
      low, high = keys.of(key)[:2]
      assert low is not None and math.isfinite(low) and math.isfinite(high), key
      assert low <= value <= high, key
  keys.check(c)


def test_the_table_knows_no_key_that_base_does_not_have():
  unknown = [name for name in keys.KEYS if not any(keys.is_under(key, [name]) for key in LEAVES)]
  assert not unknown
  assert set(keys.RENAMED.values()) <= set(LEAVES) and not set(keys.RENAMED) & set(LEAVES)


@pytest.mark.parametrize('key', [key for key, value in LEAVES.items() if is_number(value)])
@pytest.mark.parametrize(
  'value', [math.inf, -math.inf, math.nan, 10**400], ids=('inf', '-inf', 'nan', 'huge')
)
def test_no_number_is_unbounded(key, value):
  if isinstance(LEAVES[key], float) and not isinstance(value, float):
    value = 1e300
  c = base.get_config('tiny')
  with c.ignore_type():
    keys.set_value(c, key, value)
  with pytest.raises(ValueError, match=f'^{key}=.{{1,60}}: choose a number from'):
    keys.check(c)


@pytest.mark.parametrize(
  'key, value',
  [
    ('train.max_norm', -1.0),
    ('train.final_share', -10.0),
    ('train.b1', 1.0),
    ('train.halvings', 10**13),
    ('reward.weights.length', -0.5),
    ('judge.timeout', -1),
    ('profile.steps', (3, -1)),
    ('reward.weights.mine', 'much'),
  ],
)
def test_numbers_outside_their_bounds_are_named(key, value):
  c = base.get_config('tiny')
  with c.ignore_type():
    keys.set_value(c, key, value)
  with pytest.raises(ValueError, match=f'^{key}='):
    keys.check(c)


@pytest.mark.parametrize(
  'key, value',
  [
    ('runs_dir', ''),
    *(('name', name) for name in ('..', '.', './a', 'a/../..', '../x', '/tmp/x', 'a/', 'a//b')),
    *(('name', name) for name in ('.replies.sqlite', 'gs://bucket/x')),
  ],
)
def test_a_run_has_a_folder_of_its_own(key, value):
  c = base.get_config('tiny')
  keys.set_value(c, key, value)
  with pytest.raises(ValueError, match=f'{key}={value!r}.*: a run needs a folder of its own'):
    keys.check(c)


@pytest.mark.parametrize(
  'key, value',
  [('report.metrics', (3,)), ('eval.systems', (('a', 'b'),)), ('profile.steps', ('a',))],
)
def test_what_a_tuple_holds_is_of_its_kind(key, value):
  c = base.get_config('tiny')
  keys.set_value(c, key, value)
  with pytest.raises(ValueError, match=f'^{key}=.*: each of them must be (str|int)$'):
    keys.check(c)


def test_a_name_is_one_of_its_choices():
  c = base.get_config('tiny')
  c.train.remat = 'some'
  with pytest.raises(ValueError, match=r"train\.remat: there is no 'some'; choose from none, dots"):
    keys.check(c)


def test_paths_and_references_are_expanded_alone_or_several(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  c = base.get_config('tiny')
  c.init, c.name, c.prompts.sources = '~/model', '~/name', ('~/a', 'b')
  keys.expand_paths(c)
  assert (c.init, c.name) == ('/home/me/model', '~/name')
  assert c.prompts.sources == ('/home/me/a', 'b')


def test_a_needed_run_takes_what_is_inherited_and_nothing_else():
  c, need = base.get_config('tiny'), base.get_config('tiny')
  c.data.heldout, c.mesh.fsdp, c.train.rows = 0.2, 4, 99
  door.inherit(need, c)
  assert (need.data.heldout, need.mesh.fsdp) == (0.2, 4)
  assert need.train.rows == base.get_config('tiny').train.rows


def test_needed_runs_are_of_the_seed_that_is_asked_for():
  c = grpo_think.get_config('tiny')
  folders = {}
  for c.needs_seed in (0, 3):
    needs = door.needs(c, pathlib.Path(grpo_think.__file__).parent)
    folders[c.needs_seed] = [setup.run_name(need) for need in needs]
    assert setup.reference(c, c.init) == f'runs/{folders[c.needs_seed][1]}'
    assert setup.reference(c, c.reward.heldout) == f'runs/{folders[c.needs_seed][-2]}'
    seeds = {need.experiment: need.seed for need in needs}
    assert seeds.pop('referee') == 1_000 + c.needs_seed
    assert seeds.pop('reward_model_second') == 2_000 + c.needs_seed
    assert set(seeds.values()) == {c.needs_seed}
  assert folders[3] == [f'{name}-s3' for name in folders[0]]


def reads(stage):
  return importlib.import_module(f'lwz.stages.{stage}').READS


@pytest.mark.parametrize(
  'stage, key, is_identity',
  [
    ('grpo', 'rl.clip_low', True),
    ('grpo', 'rollout.weights', True),
    ('grpo', 'reward.weights.novelty', True),
    ('grpo', 'train.num_steps', False),  # a run goes further
    ('grpo', 'eval.file', False),  # it watches a training
    ('evaluate', 'eval.file', True),  # it is what an evaluation is of
    ('evaluate', 'judge.timeout', False),
    ('prompts', 'rollout.int8', True),  # the judge may be our own engine
    ('prompts', 'train.rows', False),  # it reads none of train
    ('pretrain', 'rl.clip_low', False),
  ],
)
def test_identity_is_what_a_stage_reads_without_what_may_change(stage, key, is_identity):
  assert keys.is_identity(key, stage, reads(stage)) == is_identity


def test_a_run_of_before_the_renames_is_the_same_run():
  now = run.flatten(grpo_think.get_config('micro').to_dict())
  back = {new: old for old, new in keys.RENAMED.items()}
  before = {back.get(key, key): text for key, text in now.items()} | {'outside_identity': '[]'}
  assert before.keys() != now.keys()
  assert {**keys.upgrade(before)}.items() >= now.items()


def test_none_is_a_value_of_optional_keys_alone():
  c = base.get_config('micro')
  c.judge.temperature = None
  keys.check(c)
  for name in ('judge.rounds', 'name', 'rollout.temperature', 'data.style', 'eval.systems'):
    c = base.get_config('micro')
    keys.set_value(c, name, None)
    with pytest.raises(ValueError, match=f'{name}=None: give it a value'):
      keys.check(c)


@pytest.mark.parametrize(
  'value, named',
  [
    ('before=org/model@http://h/v1', ('before', 'org/model@http://h/v1')),
    ('final=grpo_think:tiny', ('final', 'grpo_think:tiny')),
    ('org/model@http://h/v1?a=b', ('', 'org/model@http://h/v1?a=b')),
    ('./lr=0.1', ('', './lr=0.1')),
    ('grpo_think:tiny', ('', 'grpo_think:tiny')),
  ],
)
def test_a_system_may_have_a_name(value, named):
  assert keys.alias(value) == named


def test_a_tilde_behind_a_name_is_expanded(monkeypatch):
  monkeypatch.setenv('HOME', '/home/ann')
  c = base.get_config('micro')
  c.eval.systems = ('own=~/pred.jsonl', '~/model')
  keys.expand_paths(c)
  assert c.eval.systems == ('own=/home/ann/pred.jsonl', '/home/ann/model')


@pytest.mark.parametrize(
  ('stage', 'wanted'),
  [
    ('pretrain', {'data.folder': {'a.txt'}, 'data.tokenizer': {'tokenizer.json'}}),
    ('reward_model', {'data.preferences': {'pairs.jsonl'}}),
    ('grpo', {'data.folder': {'a.txt'}, 'data.prompts': {'prompts.jsonl'}}),
    ('evaluate', {'data.folder': {'a.txt'}, 'eval.file': {'arena.jsonl'}}),
    ('prompts', {'prompts.sources': {'FOLDER/corpus/a.txt', 'FOLDER/pairs.jsonl/pairs.jsonl'}}),
  ],
)
def test_the_files_that_a_stage_reads_are_part_of_its_identity(stage, wanted, tmp_path):
  for name in ('corpus/a.txt', 'tok/tokenizer.json', 'prompts-micro/prompts.jsonl'):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text('x')
  for name in ('pairs.jsonl', 'arena.jsonl'):
    (tmp_path / name).write_text('x')
  c = base.get_config('micro')
  c.stage, c.runs_dir = stage, str(tmp_path)
  c.data.folder, c.data.tokenizer = str(tmp_path / 'corpus'), str(tmp_path / 'tok')
  c.data.preferences, c.eval.file = str(tmp_path / 'pairs.jsonl'), str(tmp_path / 'arena.jsonl')
  c.data.prompts = 'prompts:micro'
  c.prompts.sources = (str(tmp_path / 'corpus'), str(tmp_path / 'pairs.jsonl'))
  reads = importlib.import_module(f'lwz.stages.{stage}').READS
  found = {key: set(files) for key, files in setup.identity(c, reads).files().items()}
  named = {
    k: {name.replace('FOLDER', str(tmp_path)) for name in names} for k, names in wanted.items()
  }
  assert named.items() <= found.items()
  assert {'data.preferences', 'eval.file'} & found.keys() == {
    'data.preferences',
    'eval.file',
  } & wanted.keys()


@pytest.mark.parametrize('name', ['a\\b', 'a[b]', 'a\nb', 'a\0b', 'a\udcffb'], ids=ascii)
@pytest.mark.parametrize('key', ['runs_dir', 'name'])
def test_what_would_lie_beside_the_run_folder_or_has_no_name_is_refused(key, name):
  c = base.get_config('micro')
  c[key] = name
  with pytest.raises(ValueError, match=r'cannot be in the path .*choose another name'):
    keys.check(c)


@pytest.mark.parametrize(
  'name', ['a%20b', 'a?b', 'a#b', 'a|b', 'a b', 'ü 海', 'a:b', 'a;b&c', 'a/b']
)
@pytest.mark.parametrize('key', ['runs_dir', 'name'])
def test_any_other_name_is_a_name(key, name):
  c = base.get_config('micro')
  c[key] = name
  keys.check(c)


@pytest.mark.parametrize('key', ['runs_dir', 'data.folder', 'eval.file', 'export.folder'])
def test_an_address_is_no_path(key):
  c = base.get_config('micro')
  keys.set_value(c, key, 'file:///tmp/x')
  with pytest.raises(ValueError, match=re.escape(f'{key}=file:///tmp/x: name a path, or a bucket')):
    keys.check(c)
  keys.set_value(c, key, 'gs://bucket/x')
  keys.check(c)
