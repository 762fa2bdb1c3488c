"""Evaluation in training: metrics, what it never touches, and that nothing is asked twice."""

import json
import types as std_types

import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.rl import evaluator, tasks
from lwz.rollout import scheduler
from lwz.runtime import keys, sources
from tests import jobs
from tests.faults import bad_days
from tests.rollout import scripted

TEN = 'one two three four five six seven eight nine ten'
PARAMS = {'w': np.arange(3.0, dtype=np.float32)}


class Tokenizer:
  """A token per character."""

  added_tokens_decoder, all_special_ids, eos_token_id = {}, (), 0

  def get_vocab(self):
    return {}

  def encode(self, text, **_):
    return [ord(x) for x in text]

  def decode(self, ids):
    return ''.join(map(chr, ids))


class Loop:
  """What a evaluation sees of a training loop."""

  def __init__(self):
    self.laps = []

  def lap(self, name):
    self.laps.append(name)

  def stop_if_asked(self):
    pass


@pytest.fixture
def writes(monkeypatch):
  """The engine's place: `answers[temperature]` writes each prompt; what was asked is kept."""
  asked = []

  def stream(engine, params, requests, *, decode):
    for index in reversed(range(len(requests))):  # in the order in which they end
      asked.append((engine.decode, requests[index]))
      text, finished = engine.decode(decode(requests[index].prompt))
      ids = np.array([ord(x) for x in text] + [0] * finished, np.int32)
      yield std_types.SimpleNamespace(index=index, ids=ids, finished=finished, text=text)

  monkeypatch.setattr(evaluator.local, 'stream', stream)
  return asked


def engine(answer):
  names = ('reshard', 'init', 'prefill', 'admit', 'move', 'compiling')
  steps = dict.fromkeys(names, lambda params: params)
  shapes = dict.fromkeys(
    ('batch_sizes', 'read_lengths', 'prompt_lengths', 'prompt_batch_sizes'), ()
  )
  return scheduler.Engine(
    **steps, **shapes, decode=answer, max_tokens=1, temperature=1.0, exact=True
  )


def thorough(prompt):
  return f'<think>a plan</think> <answer>{TEN} {len(prompt)}</answer>', True


def cut(prompt):
  return '<think>a plan that goes on and', False


def write_arena(folder, num=3, **baselines):
  baselines = baselines or {'base': 'one two'}
  rows = [
    {'idx': i, 'question': f'Ode {i}', 'type': 'x', 'length': 10, 'baseline_response': baselines}
    for i in range(num)
  ]
  (folder / 'arena.jsonl').write_text('\n'.join(map(json.dumps, rows)))


def config(folder, **changes):
  c = grpo_think.get_config('micro')
  c.runs_dir = str(folder)
  c.eval.file = str(folder / 'arena.jsonl')
  c.eval.every = 2
  c.reward.heldout = ''  # the referee has tests of its own
  c.update_from_flattened_dict(changes)
  return c


def evaluations(c, folder, asked=(), engines=(thorough, cut)):
  evaluator.check(c)
  return evaluator.Evaluator(c, Tokenizer(), None, *map(engine, engines), folder, asked)


def test_metrics_of_both_modes(writes, tmp_path):
  write_arena(tmp_path)
  loop = Loop()
  measured = evaluations(config(tmp_path), tmp_path).step(loop, 0, PARAMS)
  assert set(measured) == {*evaluator.KEYS, *evaluator.INTERVAL, evaluator.FAILURES}
  both = {
    name: tuple(measured[f'eval/{name}/{m}'] for m in evaluator.MODES) for name in evaluator.METRICS
  }
  assert both['words'] == (10, 0) and both['think'] == (2, 6)
  assert both['finished'] == both['valid_format'] == (1, 0)
  assert both['words_finished'][0] == 10 and np.isnan(both['words_finished'][1])
  # Three tasks, one baseline at 1000, a tie as the prior: 3.5 wins to 0.5.
  best = 1000 + 400 * np.log10(7)
  assert both['win_rate'] == (1, 0)
  np.testing.assert_allclose(both['rating'], (best, 2000 - best))
  np.testing.assert_allclose([measured[name] for name in evaluator.INTERVAL], best)
  assert loop.laps == ['eval_sampled', 'eval_greedy', 'eval_judge']


def test_the_report_has_all_answers_to_the_same_held_out_prompts(writes, tmp_path):
  write_arena(tmp_path)
  c = config(tmp_path, **{'train.num_steps': 6})
  due = evaluations(c, tmp_path)
  assert due.samples() == []
  for step in range(6):
    due.step(Loop(), step, {'w': np.full(2, step, np.float32)})
  samples = due.samples(num=2)
  assert [(s['step'], s['prompt']) for s in samples] == [
    (step, f'Ode {i}') for step in (0, 2, 4, 5) for i in (0, 1)
  ]
  assert all(s['valid'] and s['words'] == 10 and s['think'] == 'a plan' for s in samples)


def test_at_the_first_step_at_every_so_many_and_at_the_last(writes, tmp_path):
  write_arena(tmp_path)
  c = config(tmp_path, **{'train.num_steps': 6})
  due = evaluations(c, tmp_path)
  assert [step for step in range(6) if due.step(Loop(), step, PARAMS)] == [0, 2, 4, 5]
  off = evaluations(config(tmp_path, **{'eval.every': 0}), tmp_path)
  assert off.step(Loop(), 0, PARAMS) == {}
  assert evaluator.plots(config(tmp_path, **{'eval.every': 0})) == []


def test_samples_belong_to_the_prompt_not_to_the_step_or_the_place(writes, tmp_path):
  write_arena(tmp_path)
  due = evaluations(config(tmp_path), tmp_path)
  due.step(Loop(), 0, PARAMS)
  due.step(Loop(), 2, {'w': PARAMS['w'] + 1})
  asked = [(r.prompt.tobytes(), r.key.tobytes()) for _, r in writes]
  assert len(asked) == 12 and len(set(asked)) == 3


def test_prompts_that_are_trained_on_or_do_not_fit_are_not_asked(writes, tmp_path):
  write_arena(tmp_path, num=5)
  asked = [types.Prompt('p', 'ode  3', 1, 2)]
  due = evaluations(config(tmp_path), tmp_path, asked)
  due.step(Loop(), 0, PARAMS)
  prompts = {Tokenizer().decode(r.prompt) for _, r in writes}
  assert len(prompts) == 4 and not any('Ode 3' in prompt for prompt in prompts)
  writes.clear()
  short = config(tmp_path, **{'rollout.max_prompt_tokens': 8})
  assert evaluations(short, tmp_path).step(Loop(), 0, PARAMS) == {}


def test_titles_that_grpo_asks_for_are_not_among_those_of_evaluations(tmp_path):
  rows = [{'title': f'Title {i}', 'text': f'It is text {i}. ' * 4} for i in range(600)]
  (tmp_path / 'docs.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  c = config(tmp_path, **{'eval.file': '', 'data.folder': str(tmp_path)})
  asked, tested = ({d.title for d in found} for found in sources.heldout(c))
  assert asked and tested and not asked & tested
  assert len(asked | tested) == len(sources.documents(c)[1])
  found = tasks.of(c, sources.writing_prompts(c))
  assert sorted(task.question.split(' in about')[0] for task in found) == sorted(
    f'Write about {title}' for title in tested
  )
  assert len(tasks.spread(found, 4)) == 4 and tasks.spread(found, 0) == found


def test_a_share_of_the_users_prompts_is_kept_for_evaluations(writes, tmp_path):
  rows = [{'text': f'Ode {i} of {i} words', 'lower': 8, 'upper': 12} for i in range(40)]
  (tmp_path / 'mine.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  mine = {'eval.file': '', 'data.prompts': str(tmp_path / 'mine.jsonl'), 'data.tested': 0.25}
  c = config(tmp_path, **mine)
  trained = sources.writing_prompts(c)
  found = tasks.of(c, trained)
  assert 4 <= len(found) <= 16 and len(found) + len(trained) == 40
  assert {t.question for t in found}.isdisjoint(p.text for p in trained)
  assert sources.writing_prompts(config(tmp_path, **mine, **{'eval.every': 0})) == trained
  assert len(sources.writing_prompts(config(tmp_path, **mine | {'data.tested': 0.0}))) == 40
  # Without baselines the judge compares with the first answers: those of the same length tie.
  due = evaluations(c, tmp_path, trained)
  first = due.step(Loop(), 0, PARAMS)
  assert np.isnan(first['eval/win_rate/sampled']) and first['eval/words/sampled'] == 10
  later = due.step(Loop(), 2, {'w': PARAMS['w'] + 1})
  assert later['eval/win_rate/sampled'] == 0.5
  assert later['eval/win_rate/greedy'] == 0


class Judge:
  """Behind a server: prefers the longer answer, and fails on the questions named."""

  def __init__(self):
    self.fails, self.asked = set(), 0

  def __call__(self, number, payload):
    self.asked += 1
    text = payload['messages'][-1]['content']
    if any(name in text for name in self.fails):
      return 'I would rather not say.'
    first, second = text.split('[Answer A]')[1].split('[Answer B]')
    return '[[A]]' if len(first) > len(second.partition('[End of answer B]')[0]) else '[[B]]'


@pytest.fixture
def judge():
  return Judge()


@pytest.fixture
def server(judge):
  with scripted.serve(judge) as server:
    yield server


def by_server(folder, server, **changes):
  return config(
    folder,
    **{'judge.model': f'judge@{server.url}', 'judge.rounds': 1, 'judge.tries': 1} | changes,
  )


def test_a_restart_asks_nothing_twice_and_measures_the_same(
  writes, judge, server, tmp_path, monkeypatch
):
  write_arena(tmp_path)
  c = by_server(tmp_path, server)
  first = evaluations(c, tmp_path).step(Loop(), 2, PARAMS)
  num_written, num_judged = len(writes), judge.asked
  # Both orders of three answers; those without a text, cut in their thoughts, lose unasked.
  assert (num_written, num_judged) == (6, 6)
  c.judge.cache = str(tmp_path / 'other.sqlite')  # the journal alone must do
  again = evaluations(c, tmp_path).step(Loop(), 2, PARAMS)
  np.testing.assert_equal(again, first)
  assert (len(writes), judge.asked) == (num_written, num_judged)


def test_baselines_stay_where_their_own_games_put_them(writes, judge, server, tmp_path):
  write_arena(tmp_path, weak='w', strong='s ' * 200)
  c = by_server(tmp_path, server)
  measured = evaluations(c, tmp_path).step(Loop(), 0, PARAMS)
  # Of the four who play, the anchors met thrice: 3.5 wins to 0.5 between them, centred on 1000.
  gap = 400 * np.log10(7)
  assert 1000 - gap / 2 < measured['eval/rating/sampled'] < 1000 + gap / 2
  assert measured['eval/win_rate/sampled'] == 0.5
  np.testing.assert_allclose(measured['eval/rating/sampled'], 1000, atol=1e-6)


def test_a_judge_that_fails_is_masked_and_counted_up_to_a_share(writes, judge, server, tmp_path):
  write_arena(tmp_path)
  judge.fails = {'Ode 1'}
  c = by_server(tmp_path, server, **{'judge.max_failures': 0.5})
  measured = evaluations(c, tmp_path).step(Loop(), 0, PARAMS)
  assert measured[evaluator.FAILURES] == pytest.approx(2 / 12)
  assert measured['eval/win_rate/sampled'] == 1
  np.testing.assert_allclose(measured['eval/rating/sampled'], 1000 + 400 * np.log10(2.5 / 0.5))
  c = by_server(tmp_path, server, **{'judge.max_failures': 0.1})
  with pytest.raises(RuntimeError, match=r'2 of 12 have failed.*max_failures=10%'):
    evaluations(c, tmp_path / 'other').step(Loop(), 0, PARAMS)


@pytest.mark.parametrize(
  'changes, complaint',
  [
    ({'eval.file': 'nowhere.jsonl'}, 'nowhere.jsonl'),
    ({'eval.prompts': -1}, 'eval.prompts=-1'),
    ({'judge.max_failures': 2.0}, 'judge.max_failures=2.0'),
  ],
)
def test_what_cannot_be_is_said_before_the_run(changes, complaint, tmp_path):
  write_arena(tmp_path)
  c = config(tmp_path, **changes)
  with pytest.raises((ValueError, FileNotFoundError), match=complaint):
    keys.check(c)
    evaluator.check(c)


def test_a_file_without_baselines_is_refused(tmp_path):
  (tmp_path / 'arena.jsonl').write_text('{"idx": 1, "question": "Ode"}')
  with pytest.raises(ValueError, match=r'arena.jsonl.*baseline'):
    evaluator.check(config(tmp_path))


@pytest.mark.slow
def test_a_run_trains_the_same_with_and_without(micro_runs, tmp_path):
  """Figures, parameters, optimiser, trajectories: bit for bit."""
  bad_days.borrow(tmp_path, micro_runs, 'grpo_think-micro')
  for name, every in (('often', 1), ('never', 0)):
    jobs.launch(
      'grpo_think:micro',
      *(tmp_path, f'--config.name={name}', f'--config.eval.every={every}'),
      # At micro nothing is ever rewarded: a bonus makes each step move the policy.
      *('--config.checkpoint.every=1', '--config.rl.entropy_weight=0.1'),
    )
  often, never = (bad_days.remains(tmp_path / name) for name in ('often', 'never'))
  assert all('eval/rating/sampled' in record for record in often['figures'])
  page = (tmp_path / 'often' / 'report.html').read_text()
  assert 'held-out rating' in page and 'Elo scale, by offline-rules' in page
  for record in often['figures']:
    for name in [name for name in record if name.startswith('eval/')]:
      del record[name]
  assert often == never
