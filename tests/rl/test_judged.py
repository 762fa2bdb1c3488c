"""Rewards by a judge in a run: what is asked when, what is needed, and the state of the ladder."""

import json
import time

import numpy as np
import pytest

from experiments import base, grpo_think
from lwz import types
from lwz.reward import background, components
from lwz.reward import format as format_lib
from lwz.rl import evaluator, judged, registry, sampling
from tests.rollout import scripted as server_lib

PROMPT = types.Prompt(
  'p',
  'Write.',
  3,
  5,
  criteria=(types.Criterion('a', 'Names "silt".'), types.Criterion('b', 'Names "oak".')),
  references=('Sand.', 'Silt and sand under oaks.'),
)


def config(*names, judge='scripted-perfect', exact=True):
  c = base.get_config('micro')
  c.reward.judge, c.rollout.exact, c.seed = judge, exact, 5
  for name in names:
    c.reward.weights[name] = 1.0
  return c


def sample(answer, prompt=PROMPT):
  text = f'<think>Plan.</think><answer>{answer}</answer>'
  return components.Sample(prompt, text, format_lib.parse(text, 'think'))


ANSWERS = ('Silt under oaks here.', 'Oak.', 'Silt and mills there.', 'Sand.')
SAMPLES = [sample(answer) for answer in ANSWERS]


@pytest.mark.parametrize('name', judged.FORMS)
@pytest.mark.parametrize(
  'judge, exact, deferred, threads',
  [
    ('scripted-perfect', True, False, 1),
    ('m@http://localhost:1/v1', True, True, 1),  # as of a reward model behind a server
    ('m@http://localhost:1/v1', False, False, 16),
    ('pretrain:micro', False, True, 1),  # on our devices, which write until then
  ],
)
def test_when_a_form_is_computed_depends_on_its_judge(name, judge, exact, deferred, threads):
  reward = registry.REWARDS[name](config(name, judge=judge, exact=exact), None)
  assert reward.reads == ('group' if name in ('sibling', 'ranking') else 'answer')
  assert (reward.deferred, reward.threads) == (deferred, threads)


@pytest.mark.parametrize('name', judged.FORMS)
def test_values_in_the_background_are_those_without_it(name):
  reward = registry.REWARDS[name](config(name), None)
  plain = reward.values(SAMPLES * 2, 4)
  in_background = background.BackgroundRewards({name: reward}, 4)
  for index in (7, 2, 0, 1, 5, 3):
    in_background.add(index, (SAMPLES * 2)[index])
  np.testing.assert_array_equal(in_background.values(name, SAMPLES * 2), plain)
  expected = {'rubric': [1, 0.5, 0.5, 0], 'ladder': [1, 0.5, 1, 0.5]}
  if name in expected:
    assert plain.tolist() == expected[name] * 2
  else:
    assert min(plain[[0, 2]]) >= 0.5 > max(plain[[1, 3]])


def test_a_slow_judge_is_waited_for_once_after_the_last_answer():
  """16 in flight, 0.4 s each, an answer every 25 ms: what waits at the end is one judgement."""
  seconds = 0.4

  def behave(number, payload):
    time.sleep(seconds)
    return '{"c1": "yes", "c2": "no"}'

  with server_lib.serve(behave) as server:
    c = config('rubric', judge=f'm@{server.url}', exact=False)
    c.judge.cache = ':memory:'
    judges = judged.JudgedRewards(c)
    rewards = background.BackgroundRewards(judges.rewards(None), 1)
    samples = [sample(f'Text {i}.') for i in range(40)]
    for index, one in enumerate(samples):
      rewards.add(index, one)
      time.sleep(0.025)
    began = time.monotonic()
    assert rewards.values('rubric', samples).tolist() == [0.5] * 40
    assert time.monotonic() - began < 1.5 * seconds
    judges.close()
  assert 10 < server.most_in_flight <= 16


def test_all_forms_of_a_run_share_one_judge():
  names = ('rubric', 'sibling', 'ranking', 'ladder')
  judges = judged.JudgedRewards(config(*names))
  given = components.per_answer(components.format)
  rewards = judges.rewards({'sibling': given})
  assert set(rewards) == set(names) and rewards['sibling'] is given
  rewards['rubric'].values(SAMPLES, 4)
  rewards['ranking'].values(SAMPLES, 4)
  assert judges.step(['rubric', 'ladder'], [batch([[0.0] * 4] * 2)])['judge/asked'] == 5
  assert not judged.JudgedRewards(config()).rewards(None)
  assert judged.JudgedRewards(config()).step([], []) == {}


def batch(values_G2, valid=True):
  scores = types.Scores(np.array(values_G2).T[None], np.full((1, 4), valid))
  return sampling.Batch([], SAMPLES, None, scores)


def test_the_ladder_moves_after_the_step_and_its_state_is_what_a_checkpoint_keeps():
  c = config('ladder')
  judges = judged.JudgedRewards(c)
  reward = judges.rewards(None)['ladder']
  before = reward.values(SAMPLES, 4)
  first = judges.step(['format', 'ladder'], [batch([[0.0] * 4, before])])
  extra = json.loads(json.dumps(judges.extra))
  assert extra == {'ladder': {'p': 1}} and first['ladder/rung'] == 0
  resumed = judged.JudgedRewards(c, extra={'monitor': {}, **extra})
  after = reward.values(SAMPLES, 4)
  np.testing.assert_array_equal(resumed.rewards(None)['ladder'].values(SAMPLES, 4), after)
  assert after.sum() < before.sum()
  assert judges.step(['ladder'], [batch([after])])['ladder/rung'] == 1
  assert judged.JudgedRewards(config('rubric')).extra == {}


def test_what_a_form_needs_of_prompts_is_asked_for_before_the_run(tmp_path):
  c = grpo_think.get_config('micro')
  c.reward.weights.rubric, c.reward.judge = 1.0, 'scripted-perfect'
  c.reward.model, c.init = 'http://localhost:1/score', 'random'
  bare = types.Prompt('q', 'Write.', 1, 2)
  with pytest.raises(ValueError, match=r"rubric: 1 of 2 prompts have no 'criteria'.* 'q'; name"):
    judged.check_prompts(c, [PROMPT, bare])
  judged.check_prompts(config('sibling', 'ranking'), [bare])
  with pytest.raises(ValueError, match="ladder: 1 of 1 prompts have no 'references'"):
    judged.check_prompts(config('ladder'), [bare])
  c.reward.judge = ''
  with pytest.raises(ValueError, match=r"reward\.judge='' names no judge"):
    registry.check_rewards(c)


def test_a_judge_that_trains_and_evaluates_is_marked():
  c = grpo_think.get_config('micro')
  c.reward.weights.sibling = 1.0
  c.reward.judge = c.judge.model = 'm@http://localhost:1/v1'
  assert evaluator.facts(c)['judge of the evaluations'].endswith(', which trains and evaluates')
  assert 'which trains and evaluates' in evaluator.plots(c)[0]['unit']
  assert judged.facts(c) == {'judge of sibling': f'{c.judge.model}, which trains and evaluates'}
  c.reward.judge = 'scripted-perfect'
  assert 'trains' not in str(evaluator.facts(c)) + str(evaluator.plots(c))
  assert judged.facts(c) == {'judge of sibling': 'scripted-perfect'}


def test_no_reward_model_is_needed_where_it_gives_no_reward():
  c = grpo_think.get_config('micro')
  assert registry.has_own_model(c)
  del c.reward.weights['writing']
  assert not registry.has_own_model(c)


REQUESTS = [
  {
    'id': f'p{i}',
    'text': f'Write about {what}.',
    'lower': 10,
    'upper': 24,
    'criteria': [{'text': f'Names "{what}".', 'kind': 'hard'}, {'text': 'Names "the".'}],
    'references': ['x', f'The {what} is old and wide.'],
  }
  for i, what in enumerate(('rivers', 'mills', 'ships', 'stones', 'bridges', 'towns'))
]
# Without the reward model, which is none of this; no text of a micro policy is valid, so `valid`
# below lets them pass for it.
ARGUMENTS = (
  *('--config.reward.judge=scripted-noisy-0.3', '--config.reward.max_failures=0.5'),
  *(f'--config.reward.weights.{name}=1.0' for name in judged.FORMS),
)


@pytest.fixture(scope='module')
def asked(tmp_path_factory):
  path = tmp_path_factory.mktemp('prompts') / 'prompts.jsonl'
  path.write_text(''.join(json.dumps(record) + '\n' for record in REQUESTS))
  return path


def test_a_run_by_the_judge_of_all_forms(micro_runs, asked, tmp_path):
  jobs.launch('grpo_think:micro', micro_runs)
  bad_days.borrow(tmp_path, micro_runs, 'grpo_think-micro')
  jobs.launch('grpo_think:micro', tmp_path, *ARGUMENTS, f'--config.data.prompts={asked}')
  records = metrics.read(tmp_path / 'grpo_think-micro')
  assert len(records) == 3
  for record in records:
    assert {f'reward/{name}' for name in judged.FORMS} <= record.keys()
  report = (tmp_path / 'grpo_think-micro' / 'report.html').read_text()
  assert 'scripted-noisy-0.3' in report
