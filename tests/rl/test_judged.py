"""Rewards by a judge in a run: what is asked when, what is needed, and the state of the ladder."""

import functools
import itertools
import json
import random
import re
import signal
import sys
import threading
import time
import zlib

import jax
import numpy as np
import pytest
from etils import epath

from experiments import base, grpo_think
from lwz import types
from lwz.data import guidance
from lwz.judge import systems
from lwz.reward import background, components
from lwz.reward import format as format_lib
from lwz.rl import evaluation_report, judged, registry, sampling
from lwz.runtime import setup
from lwz.stages import grpo
from lwz.store import metrics, model_source
from tests import fakes, jobs
from tests.faults import bad_days
from tests.rollout import scripted as server_lib

PROMPT = types.Prompt(
  'p',
  'Write.',
  3,
  5,
  criteria=(types.Criterion('a', 'Names "silt".'), types.Criterion('b', 'Names "oak".')),
  references=('Sand.', 'Silt and sand under oaks.'),
)

TRUE = 'Rivers carry silt into the estuary.'


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
    ('m@http://localhost:1/v1', True, False, 16),  # replies are kept, so a resume asks for none
    ('m@http://localhost:1/v1', False, False, 16),
    ('lists.py', True, False, 16),
    ('pretrain:micro', False, True, 1),  # on our devices, which write until then
    ('policy', True, True, 1),
  ],
)
def test_when_a_form_is_computed_depends_on_its_judge(
  name, judge, exact, deferred, threads, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'lists.py').write_text("def reply(question):\n  return '[[A]]'\n")
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
    assert plain[[0, 2]].mean() > plain[[1, 3]].mean()


class Clock:
  """A judge whose judgements take one tick each, of a clock that the test moves."""

  def __init__(self):
    self.now, self.changed = 0, threading.Condition()

  def behave(self, number, payload):
    asked = payload['messages'][0]['content']
    with self.changed:
      due = self.now + 1
      assert self.changed.wait_for(lambda: self.now >= due, 30)
    if '[Criteria]' in asked:
      return '{"c1": "yes", "c2": "no"}'
    return '[[1 > 2 > 3 > 4]]' if '[Answer 1]' in asked else '[[A]]'

  def tick(self):
    with self.changed:
      self.now += 1
      self.changed.notify_all()


@pytest.mark.parametrize('names', [*((name,) for name in judged.FORMS), judged.FORMS])
@pytest.mark.parametrize('exact', [False, True])
def test_after_the_last_answer_nothing_is_waited_for_but_what_it_brought(names, exact):
  """8 answers a tick, 16 questions in flight: ceil(questions of the last 8 answers / 16) ticks."""
  clock, group_size = Clock(), 4
  # Of each answer, of 3 x 2 comparisons in each of 2 groups, of 2 groups.
  num = sum({'rubric': 8, 'ladder': 16, 'sibling': 12, 'ranking': 2}[name] for name in names)
  samples = [sample(f'Text {i}.') for i in range(24)]
  with server_lib.serve(clock.behave) as server:
    c = config(*names, judge=f'm@{server.url}', exact=exact)
    c.judge.cache = ':memory:'
    judges = judged.JudgedRewards(c)
    rewards = judges.rewards(None)
    assert not any(reward.deferred for reward in rewards.values())
    running = background.BackgroundRewards(rewards, group_size)

    def ticks(total):
      """Moves the clock until so many questions were asked and answered; returns how often."""
      for tick in itertools.count():
        if (answered := _answered(server)) == total:
          return tick
        asked = min(total, answered + 16)
        jobs.wait_for(functools.partial(_is_waiting, server, asked - answered))
        clock.tick()
        jobs.wait_for(functools.partial(_has_answered, server, asked))

    for step in range(3):
      for index in range(8 * step, 8 * step + 8):
        running.add(index, samples[index])
      waited = ticks(num * (step + 1))
    assert waited == -(-num // 16)
    for name in names:
      assert np.isfinite(running.values(name, samples)).all()
    assert len(server.seen) == 3 * num
    judges.close()


def _answered(server):
  with server.lock:
    return len(server.seen) - server.in_flight


def _has_answered(server, num):
  return _answered(server) == num


def _is_waiting(server, num):
  return server.in_flight == num


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


def test_a_budget_ends_the_run_and_counts_what_a_killed_step_has_cost(tmp_path):
  with server_lib.serve(lambda number, payload: '{"c1": "yes", "c2": "no"}') as server:
    c = config('rubric', judge=f'm@{server.url}')
    c.judge.price_in, c.judge.cache, c.reward.judge_budget = 1e5, ':memory:', 4.5
    killed = judged.JudgedRewards(c, epath.Path(tmp_path))
    assert killed.stops() == ''
    killed.rewards(None)['rubric'].values(SAMPLES, 4)  # no step is recorded
    judges = judged.JudgedRewards(c, epath.Path(tmp_path))
    assert judges.stops() == ''
    judges.rewards(None)['rubric'].values([*SAMPLES, sample('New.')], 1)
    assert judges.step(['rubric'], [])['judge/cost'] == pytest.approx(1.0)
    assert judges.stops().startswith('the judge has cost 5.00, and reward.judge_budget=4.5')
    killed.close()
    judges.close()
  for cost in (None, 9.6):  # of an older run, whose journal has no costs
    with (tmp_path / 'metrics.jsonl').open('a') as file:
      file.write(json.dumps({'step': int(bool(cost)), 'judge/cost': cost}) + '\n')
    again = judged.JudgedRewards(c, epath.Path(tmp_path))
    assert ('cost 5.00' if cost is None else 'cost 9.60') in again.stops()
    again.close()
  c.reward.judge_budget = 0.0
  unbounded = judged.JudgedRewards(c, epath.Path(tmp_path))
  assert unbounded.stops() == ''
  unbounded.close()


def test_a_budget_is_not_exceeded_by_more_than_what_is_in_flight(tmp_path):
  with server_lib.serve(lambda number, payload: '{"c1": "yes", "c2": "no"}') as server:
    c = config('rubric', judge=f'm@{server.url}')
    c.judge.price_in, c.judge.cache, c.judge.concurrency = 1e5, ':memory:', 1
    c.reward.judge_budget = 2.5
    samples = [sample(f'Text {i}.') for i in range(7)]
    judges = judged.JudgedRewards(c, epath.Path(tmp_path))
    values = judges.rewards(None)['rubric'].values(samples, 1)
    assert (len(server.seen), np.isfinite(values).sum()) == (3, 3) and judges.stops() == ''
    said = 'the judge has cost 3.00, and reward.judge_budget=2.5: raise it'
    assert judges.refused() == said
    judges.close()
    c.reward.judge_budget = 7.5
    judges = judged.JudgedRewards(c, epath.Path(tmp_path))
    assert judges.rewards(None)['rubric'].values(samples, 1).tolist() == [0.5] * 7
    assert len(server.seen) == 7 and judges.refused() == judges.stops() == ''
    judges.close()


def test_what_one_process_leaves_of_a_budget_is_there_for_the_others(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(judged.hosts, 'all_gather', lambda x: np.stack([x, 0 * x]))  # pays nothing
  with server_lib.serve(lambda number, payload: '{"c1": "yes", "c2": "no"}') as server:
    c = config('rubric', judge=f'm@{server.url}')
    c.judge.price_in, c.judge.concurrency, c.reward.judge_budget = 1e5, 1, 6.0
    judges = judged.JudgedRewards(c, epath.Path(tmp_path))
    for step, sent in enumerate((3, 5, 6)):  # 3 is half of 6, 2 more than half of 3, 1 half of 1
      samples = [sample(f'Text {step} {i}.') for i in range(sent)]
      judges.reward('rubric').fn(samples)
      assert len(server.seen) == sent
      judges.step(['rubric'], [])
    judges.close()


def test_verdicts_on_all_criteria_have_to_fit_into_a_reply():
  c = config('rubric', judge='m@http://localhost:1/v1')
  many = types.Prompt(
    'p', 'Write.', 1, 2, criteria=tuple(types.Criterion(f'{i}', 'Is.') for i in range(500))
  )
  said = r'judge_tokens=2048 hold no verdicts on 500 criteria, .* raise it to 2,500 or more'
  with pytest.raises(ValueError, match=said):
    judged.check_prompts(c, [PROMPT, many])
  c.reward.judge = 'scripted-perfect'  # counts no tokens
  judged.check_prompts(c, [PROMPT, many])


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
  (made,) = judged.guided(config('rubric'), [types.Prompt('t', 'Write.', 1, 2, references=(TRUE,))])
  judged.check_prompts(config('rubric', 'ladder'), [made])
  assert judged.guided(config('sibling'), [bare]) == [bare]  # nothing is made that nobody needs
  c.reward.judge = ''
  with pytest.raises(ValueError, match=r"reward\.judge='' names no judge"):
    registry.check_rewards(c)


def test_a_judge_that_trains_and_evaluates_is_marked(tmp_path):
  c = grpo_think.get_config('micro')
  c.reward.weights.sibling = 1.0
  c.reward.judge = c.judge.model = 'm@http://localhost:1/v1'
  judge = evaluation_report.facts(c, tmp_path)['judge of the evaluations']
  assert judge.endswith(', which trains and evaluates')
  assert 'which trains and evaluates' in evaluation_report.plots(c)[0]['unit']
  assert judged.facts(c) == {'judge of sibling': f'{c.judge.model}, which trains and evaluates'}
  c.reward.judge += '/'
  assert judged.mark(c, c.judge.model)
  c.reward.weights.sibling = 0.0  # it is computed and shown, and trains nothing
  assert not judged.mark(c, c.judge.model)
  c.reward.weights.sibling, c.reward.judge = 1.0, 'scripted-perfect'
  assert 'trains' not in str(evaluation_report.facts(c, tmp_path)) + str(evaluation_report.plots(c))
  assert judged.facts(c) == {'judge of sibling': 'scripted-perfect'}


def test_systems_that_the_judge_of_an_evaluation_has_trained_are_known(tmp_path):
  c, url = base.get_config('micro'), 'm@http://localhost:1/v1'
  c.judge.model = f'{url}/'
  cases = {'by_it': (url, 1.0), 'shown': (url, 0.0), 'by_rules': ('scripted-perfect', 1.0)}
  for name, (judge, weight) in cases.items():
    (tmp_path / name).mkdir()
    reward = {'judge': judge, 'weights': {'length': 1.0, 'sibling': weight}}
    fakes.keep_config(tmp_path / name, {'size': 'micro', 'stage': 'grpo', 'reward': reward})
    (tmp_path / name / model_source.KEPT).write_text('{}')
  sources = [*(str(tmp_path / name) for name in cases), url, 'answers.jsonl', str(tmp_path)]
  evaluated = [systems.System(f'system {i}', s, '', '', '') for i, s in enumerate(sources)]
  assert judged.trained(c, evaluated) == ['system 0']
  fakes.keep_config(
    tmp_path / 'shown',
    {'size': 'micro', 'stage': 'grpo', 'reward': {'judge': 'policy', 'weights': {'sibling': 1.0}}},
  )
  c.judge.model = str(tmp_path / 'shown')  # it has judged itself
  assert judged.trained(c, evaluated) == ['system 1']


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
  for i, what in enumerate(('rivers', 'mills'))
]


@pytest.fixture(scope='module')
def keys(micro_runs, tmp_path_factory):
  """What a run by the judge of all forms takes; it needs no other run but that it begins from."""
  jobs.launch('pretrain:micro', micro_runs)
  asked = tmp_path_factory.mktemp('prompts') / 'prompts.jsonl'
  asked.write_text(''.join(json.dumps(record) + '\n' for record in REQUESTS))
  return {
    'init': str(micro_runs / 'pretrain-micro'),
    'data.prompts': str(asked),
    'reward.model': '',
    'reward.judge': 'scripted-noisy-0.3',
    'eval.every': 0,
    'data.tested': 0.0,
    'checkpoint.every': 1,
    'rl.num_minibatches': 1,
    **{f'reward.weights.{name}': 1.0 for name in judged.FORMS},
  }


def start(keys, runs, **changes):
  given = json.dumps(keys | {'runs_dir': str(runs), 'name': 'run'} | changes)
  return jobs.begin(sys.executable, '-m', 'tests.lenient', given)


def wait_for_verdicts(folder, process, num):
  """Returns when the judge has given so many more."""
  kept = folder / 'judge' / 'verdicts-0.jsonl'
  more = bad_days.num_lines(kept) + num
  bad_days.wait_for(lambda: bad_days.num_lines(kept) > more, process)


def finish(process):
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output


@pytest.mark.slow
def test_a_run_by_the_judge_of_all_forms(keys, tmp_path):
  finish(start(keys, tmp_path))
  folder = tmp_path / 'run'
  records = metrics.read(folder)
  assert len(records) == 3
  for record in records:
    assert all(0 <= record[f'reward/{name}'] <= 1 for name in judged.FORMS)
    assert record['reward/ranking'] == pytest.approx(0.5)  # of a group without broken ones
    # 8 samples by their criteria, 3 x 2 comparisons in each of 2 groups, 2 rankings, 16 with rungs.
    assert record['judge/asked'] == 8 + 12 + 2 + 16
  assert records[-1]['ladder/rung'] == 1 and 'advantage/sibling' in records[0]
  assert 'scripted-noisy-0.3' in (folder / 'report.html').read_text()
  assert bad_days.num_lines(folder / 'judge' / 'verdicts-0.jsonl') <= 3 * 38


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been_and_asks_nothing_twice(keys, tmp_path):
  """Asked again is at most what was in flight when the run was killed."""
  counts = {}

  def behave(number, payload):
    time.sleep(0.05)
    said = payload['messages'][0]['content']
    counts[said] = counts.get(said, 0) + 1
    value = zlib.crc32(said.encode())
    if '[Criteria]' in said:
      return json.dumps({f'c{i}': ('yes', 'partly', 'no')[value // i % 3] for i in (1, 2)})
    if '[Answer 1]' in said:
      num = max(map(int, re.findall(r'\[Answer (\d)\]', said)))
      order = np.random.default_rng(value).permutation(num) + 1
      return f'[[{" > ".join(map(str, order))}]]'
    return f'[[{"ABC"[value % 3]}]]'

  found = {}
  for name in ('whole', 'killed'):
    counts.clear()
    with server_lib.serve(behave) as server:
      run = keys | {'reward.judge': f'm@{server.url}', 'rl.max_resamples': 1, 'rollout.exact': True}
      run |= {'judge.cache': str(tmp_path / f'{name}.sqlite'), 'train.num_steps': 5}
      folder = tmp_path / name / 'run'
      draw = random.Random(3)
      for _ in range(4 if name == 'killed' else 0):
        process = start(run, tmp_path / name)
        wait_for_verdicts(folder, process, draw.randrange(3, 40))
        bad_days.hurt(process, signal.SIGKILL)
      finish(start(run, tmp_path / name))
      found[name] = bad_days.remains(folder)
      lines = (folder / 'judge' / 'verdicts-0.jsonl').read_text().splitlines()
      assert len({json.loads(line)['key'] for line in lines}) == len(lines) == len(counts)
      assert sum(counts.values()) - len(counts) <= (4 * 16 if name == 'killed' else 0)
  assert found['whole']['data']['ladder']
  assert found['killed'] == found['whole']


@pytest.mark.slow
def test_a_killed_run_whose_policy_judges_itself_ends_as_if_it_had_not_been(keys, tmp_path):
  """Bit for bit, with the same replies; another step has others."""
  run = {k: v for k, v in keys.items() if not k.startswith('reward.weights.')}
  run |= {'reward.judge': 'policy', 'reward.judge_tokens': 8, 'reward.weights.sibling': 1.0}
  run |= {'rollout.exact': True, 'train.num_steps': 4}
  found, draw = {}, random.Random(3)
  for name in ('whole', 'killed'):
    folder = tmp_path / name / 'run'
    for _ in range(3 if name == 'killed' else 0):
      process = start(run, tmp_path / name)
      wait_for_verdicts(folder, process, draw.randrange(1, 12))
      bad_days.hurt(process, signal.SIGKILL)
    finish(start(run, tmp_path / name))
    lines = (folder / 'judge' / 'verdicts-0.jsonl').read_text().splitlines()
    assert len({json.loads(line)['key'] for line in lines}) == len(lines) <= 4 * 12
    found[name] = bad_days.remains(folder), sorted(lines)
  assert found['killed'] == found['whole']
  assert 'policy, which judges itself' in (folder / 'report.html').read_text()


OWN = """
import zlib
from lwz.judge import scripted

def reply(question):
  chance = zlib.crc32(str(question).encode()) % 5
  if chance == 0:
    raise OSError('down')
  return 'hm' if chance == 1 else scripted.by_quality(question, lambda p, text: text.count('a') / 9)
"""


@pytest.mark.slow
def test_a_run_by_a_judge_of_ones_own_that_fails_and_rambles(keys, tmp_path):
  file = tmp_path / 'likes_a.py'
  file.write_text(OWN)
  finish(start(keys | {'reward.judge': str(file), 'reward.max_failures': 1.0}, tmp_path))
  records = metrics.read(tmp_path / 'run')
  assert len(records) == 3
  for cause in ('error', 'unreadable'):
    assert sum(record.get(f'judge/failed/{cause}', 0) for record in records) > 0
  assert 'likes_a.py' in (tmp_path / 'run' / 'report.html').read_text()


@pytest.mark.slow
def test_a_run_that_its_budget_stops_goes_on_with_a_larger_one_as_if_it_had_not(keys, tmp_path):
  def behave(number, payload):
    value = zlib.crc32(payload['messages'][0]['content'].encode())
    return json.dumps({f'c{i}': ('yes', 'partly', 'no')[value // i % 3] for i in (1, 2)})

  found, runs = {}, [('whole', [0.0]), ('stopped', [3.5, 100.0])]
  for name, budgets in runs:
    with server_lib.serve(behave) as server:
      run = {k: v for k, v in keys.items() if not k.startswith('reward.weights.')}
      run |= {'reward.judge': f'm@{server.url}', 'reward.weights.rubric': 1.0}
      run |= {'judge.price_in': 1e5, 'judge.cache': str(tmp_path / f'{name}.sqlite')}
      run |= {'judge.concurrency': 1}  # in flight
      for budget in budgets:
        process = start(run | {'reward.judge_budget': budget}, tmp_path / name)
        output, _ = process.communicate(timeout=300)
        assert (process.returncode == 0) == (budget != 3.5), output
        if budget == 3.5:
          assert 'stopped and saved at step 0 of 3: the judge has cost' in output
          assert 'reward.judge_budget=3.5: raise it to go on' in output
      chats = [json.dumps(payload['messages']) for payload in server.payloads]
      assert len(set(chats)) == len(chats)
    found[name] = bad_days.remains(tmp_path / name / 'run')
  assert found['stopped'] == found['whole']


def test_prompts_of_a_run_are_those_of_its_folder_before_a_run(tmp_path):
  """Beside them lie other files of lines: no prompts."""
  c = grpo_think.get_config('micro')
  c.reward.weights.rubric, c.reward.judge = 1.0, 'scripted-perfect'
  c.reward.model, c.data.prompts = 'http://localhost:1/score', str(tmp_path)
  pair = {'prompt': 'Write.', 'chosen': 'Good.', 'rejected': 'Bad.'}
  files = {'prompts.jsonl': {'text': 'Write.', 'lower': 1, 'upper': 2}, setup.PAIRS: pair}
  (tmp_path / 'DONE').write_text('{}')  # a mark of somebody else's: no run
  assert setup.input_file(c, 'data.prompts') == str(tmp_path)
  (tmp_path / 'config.json').write_text('{}')
  for mark, name in (('DONE', 'prompts.jsonl'), (model_source.KEPT, setup.PAIRS)):
    (tmp_path / 'inputs.jsonl').write_text('{"key": "x"}\n')
    (tmp_path / mark).write_text('{}')
    (tmp_path / name).write_text(json.dumps(files[name]) + '\n')
    assert setup.input_file(c, 'data.prompts') == str(tmp_path / name)
    with pytest.raises(ValueError, match=r"rubric: \d of \d prompts have no 'criteria'"):
      grpo.check(c)


def test_titles_without_criteria_are_named_before_a_run(monkeypatch):
  c = grpo_think.get_config('micro')
  c.reward.weights.rubric, c.reward.judge = 1.0, 'scripted-perfect'
  c.reward.model = 'http://localhost:1/score'
  monkeypatch.setattr(guidance, 'add', lambda prompt: prompt)
  with pytest.raises(ValueError, match=r"rubric: .* have no 'criteria'.* in place of 'titles'"):
    grpo.check(c)
