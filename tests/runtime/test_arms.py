"""Names of arms and their command lines."""

import pytest

from experiments import grpo_think
from lwz.runtime import arms
from lwz.stages import grpo


def name(varied=(), **values):
  c = grpo_think.get_config('micro')
  with c.unlocked():
    c.update_from_flattened_dict({key.replace('__', '.'): value for key, value in values.items()})
  return arms.name(c, grpo_think.get_config('micro'), grpo.READS, varied)


def test_a_name_says_what_differs_and_the_seed_last():
  assert name(rl__advantage='mean_reward', data__style='direct', seed=2) == (
    'grpo_think-micro-data.style=direct-rl.advantage=mean_reward-s2'
  )


@pytest.mark.parametrize(
  'values',
  [{}, {'seed': 1}, {'runs_dir': '/x'}, {'log__samples_every': 3}, {'checkpoint__keep': 9}],
)
def test_what_is_the_experiments_own_run_has_its_name(values):
  assert name(**values) == ''


def test_steps_and_all_that_a_sweep_varies_are_in_the_name():
  assert name(train__num_steps=7) == 'grpo_think-micro-train.num_steps=7'
  assert name(('log.samples_every',), log__samples_every=3) == (
    'grpo_think-micro-log.samples_every=3'
  )


def test_names_are_names_of_folders_and_differ_where_values_do():
  names = [name(init=value) for value in ('base_model:micro', '/a/b c', '/a/b-c', 'x' * 300)]
  names += [name(reward__ensemble=value) for value in (('a', 'b'), ('a-b',))]
  assert names[0] == 'grpo_think-micro-init=base_model-micro'
  assert len(set(names)) == len(names)
  assert all(len(found) < 200 and set("/ ()',") & set(found) == set() for found in names)


def test_the_command_line_has_what_differs():
  c, own = grpo_think.get_config('micro'), grpo_think.get_config('micro')
  assert arms.arguments(c, own) == []
  c.reward.ensemble, c.rl.kl_weight, c.rollout.exact = ('a',), 0.5, False
  assert arms.arguments(c, own) == [
    "--config.reward.ensemble=('a',)",
    '--config.rl.kl_weight=0.5',
    '--config.rollout.exact=False',
  ]


@pytest.mark.parametrize(
  'docstring, claim',
  [
    ('Thinking helps (paper, Fig. 3).\n\nMore.', 'Thinking helps'),
    ('\n  Large groups (of 32) help.', 'Large groups (of 32) help'),
    (None, ''),
  ],
)
def test_a_claim_is_the_first_line_without_its_place_in_the_paper(docstring, claim):
  assert arms.claim(docstring) == claim


def test_at_the_size_small_a_name_has_that_of_the_model():
  c, own = grpo_think.get_config('small'), grpo_think.get_config('small')
  c.base_model = own.base_model = 'org/Some-Model'
  c.rl.kl_weight = 0.5
  assert arms.name(c, own, grpo.READS, ()) == 'grpo_think-Some-Model-rl.kl_weight=0.5'


def test_what_no_command_line_can_leave_out_is_refused():
  c = grpo_think.get_config('micro')
  del c.reward.weights['writing']
  with pytest.raises(ValueError, match=r'reward\.weights\.writing: .*; set it to 0'):
    arms.arguments(c, grpo_think.get_config('micro'))
