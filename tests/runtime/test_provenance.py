"""Where a model comes from: followed from run to run, by what their folders hold."""

import json

import pytest

from experiments import base
from lwz.runtime import provenance
from lwz.store import model_source
from tests import fakes


def make_run(folder, stage='grpo', init='random', **changes):
  c = base.get_config('micro')
  c.stage, c.init = stage, init
  c.update_from_flattened_dict(changes)
  folder.mkdir()
  model_source.keep(folder, fakes.config())
  fakes.keep_config(folder, c.to_dict())
  return str(folder)


def test_runs_are_followed_to_the_base_and_its_license(tmp_path):
  (tmp_path / 'base').mkdir()
  (tmp_path / 'base' / 'README.md').write_text('---\nlicense: apache-2.0\n---\n')
  make_run(tmp_path / 'pretrain-micro', 'pretrain', str(tmp_path / 'base'))
  found = provenance.of(make_run(tmp_path / 'p', init='pretrain:micro'))  # where it was run
  assert found.lineage == ('p', 'pretrain-micro')
  assert (found.base, found.license) == ('base', 'apache-2.0')  # not the path
  assert found.rewards == {'length': 1.0, 'writing': 1.0, 'format': 1.0}


def test_how_a_policy_is_asked_and_sampled(tmp_path):
  found = provenance.of(make_run(tmp_path / 'p', **{'rollout.top_p': 0.9, 'data.style': 'direct'}))
  assert found.prompt == ('direct', 'pocket') and found.base == ''
  assert found.sampling == {
    **{'do_sample': True, 'temperature': 0.8, 'top_p': 0.9, 'top_k': 0, 'max_new_tokens': 96},
    'stop_strings': ['<|user|>', '<|endoftext|>', '</answer>'],
  }
  assert found.context == 112 + 96
  greedy = provenance.of(make_run(tmp_path / 'g', **{'rollout.temperature': 0.0}))
  assert greedy.sampling['do_sample'] is False and 'temperature' not in greedy.sampling


def test_a_reward_model_has_no_prompt(tmp_path):
  found = provenance.of(make_run(tmp_path / 'r', 'reward_model'))
  assert found.prompt is None and not found.sampling and not found.rewards


def test_a_run_that_is_gone_is_named_and_a_circle_ends(tmp_path):
  gone = provenance.of(make_run(tmp_path / 'p', init='pretrain:micro'))
  assert gone.lineage == ('p',) and gone.base == 'pretrain:micro'
  circle = provenance.of(make_run(tmp_path / 'c', init=str(tmp_path / 'c')))
  assert set(circle.lineage) == {'c'}


def test_a_model_that_is_no_run_is_its_own_base(tmp_path):
  found = provenance.of('owner/model')
  assert (found.name, found.base, found.license) == ('model', 'owner/model', '')


def test_adapters_without_a_license_have_that_of_their_base(tmp_path):
  for name, card in (('base', '---\nlicense: mit\n---\n'), ('adapters', 'no front matter')):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'README.md').write_text(card)
  said = {'peft_type': 'LORA', 'r': 1, 'lora_alpha': 1, 'base_model_name_or_path': '../base'}
  (tmp_path / 'adapters' / 'adapter_config.json').write_text(json.dumps(said))
  assert provenance.of(str(tmp_path / 'adapters')).license == 'mit'


def test_a_config_of_something_else_is_refused(tmp_path):
  folder = make_run(tmp_path / 'p')
  record = json.loads((tmp_path / 'p' / 'config.json').read_text())
  del record['config']['data']['style']
  (tmp_path / 'p' / 'config.json').write_text(json.dumps(record))
  with pytest.raises(ValueError, match=r'no data\.style, data\.template; is this a run of lwz'):
    provenance.of(folder)
