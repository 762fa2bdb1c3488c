"""Evaluation in training: records, what it never touches or holds, that nothing is asked twice."""

import json
import threading
import time
import types as std_types

import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.rl import evaluation_report, evaluator, heldout_answers, judging, tasks
from lwz.rollout import scheduler
from lwz.runtime import keys, sources
from lwz.store import by_prompt, metrics
from lwz.store import evaluations as records
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
  """What an evaluation sees of a training loop."""

  def __init__(self):
    self.laps, self.passed, self.asked = [], [], 0

  def late(self, step, values):
    self.passed.append(step)

  def lap(self, name):
    self.laps.append(name)

  def stop_if_asked(self):
    self.asked += 1


@pytest.fixture
def writes(monkeypatch):
  """The engine's place: `decode(prompt, greedy)` is a text; what was asked is kept."""
  asked = []

  def stream(engine, params, requests, *, decode):
    for index in reversed(range(len(requests))):  # in the order in which they end
      asked.append(requests[index])
      prompt = decode(requests[index].prompt)
      text, finished = engine.decode(prompt, requests[index].greedy)
      ids = np.array([ord(x) for x in text] + [0] * finished, np.int32)
      yield std_types.SimpleNamespace(index=index, ids=ids, finished=finished, text=text)

  monkeypatch.setattr(heldout_answers.local, 'stream', stream)
  return asked


def engine(*answers):
  def decode(prompt, greedy):
    return answers[greedy](prompt)

  steps = dict.fromkeys(('reshard', 'init', 'prefill', 'admit', 'move'), lambda params: params)
  shapes = dict.fromkeys(
    ('batch_sizes', 'read_lengths', 'prompt_lengths', 'prompt_batch_sizes'), ()
  )
  return scheduler.Engine(
    **steps, **shapes, decode=decode, compiling=decode, max_tokens=1, exact=True
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
  c.eval.siblings = 0
  c.update_from_flattened_dict(changes)
  return c


MADE = []


@pytest.fixture(autouse=True)
def ends():
  yield
  while MADE:
    MADE.pop().stop()


def evaluations(c, folder, asked=(), answers=(thorough, cut)):
  evaluator.check(c)
  MADE.append(evaluator.Evaluator(c, Tokenizer(), None, engine(*answers), folder, asked))
  return MADE[-1]


def test_processes_that_see_a_renamed_folder_early_and_late_wait_together(tmp_path, monkeypatch):
  write_arena(tmp_path)
  (tmp_path / 'evaluations').mkdir()  # process 0 has renamed 'checkup' meanwhile
  calls = []
  monkeypatch.setattr(evaluator.hosts, 'of_first', lambda value: True)
  monkeypatch.setattr(evaluator.hosts, 'first', calls.append)
  evaluations(config(tmp_path), tmp_path)
  assert len(calls) == 1


def measured(due, step, params=PARAMS, loop=None):
  """The metrics of the record that an evaluation leaves."""
  due.step(loop or Loop(), step, params)
  assert due._judging.wait(60)
  return {
    name: np.nan if value is None else value
    for name, value in records.metrics(due._run)[step].items()
  }


def test_metrics_of_both_modes(writes, tmp_path):
  write_arena(tmp_path)
  loop = Loop()
  found = measured(evaluations(config(tmp_path), tmp_path), 0, loop=loop)
  assert {*evaluator.KEYS, *evaluator.INTERVAL, evaluator.FAILURES, judging.FAILED} <= set(found)
  both = {
    name: tuple(found[f'eval/{name}/{m}'] for m in evaluator.MODES) for name in evaluator.METRICS
  }
  assert both['words'] == (10, 0) and both['think'] == (2, 6)
  assert both['finished'] == both['valid_format'] == (1, 0)
  assert both['words_finished'][0] == 10 and np.isnan(both['words_finished'][1])
  # Three tasks, one baseline at 1000, a tie as the prior: 3.5 wins to 0.5.
  best = 1000 + 400 * np.log10(7)
  assert both['win_rate'] == (1, 0)
  np.testing.assert_allclose(both['rating'], (best, 2000 - best))
  np.testing.assert_allclose([found[name] for name in evaluator.INTERVAL], best)
  assert both['similarity'][0] == 1 and both['openings'][0] == pytest.approx(1 / 3)
  assert np.isnan(found[evaluator.SIBLINGS]) and found[judging.FAILED] == 0
  assert loop.laps == ['eval_write', 'eval_referee']


def test_siblings_are_other_samples_of_the_same_prompts(writes, tmp_path):
  write_arena(tmp_path)

  def sampled(prompt):
    words = f'{TEN} and so on' if len(writes) % 2 else 'none of those at all'
    return f'<think>a plan</think> <answer>{words}</answer>', True

  c = config(tmp_path, **{'eval.siblings': 2})
  due = evaluations(c, tmp_path, answers=(sampled, cut))
  found = measured(due, 0)
  assert len(writes) == 2 * 3 + 2 * 3 and len({r.key.tobytes() for r in writes}) == 3 + 2 * 3
  assert sum(request.greedy for request in writes) == 3
  assert 0 < found[evaluator.SIBLINGS] < 1
  rows = (tmp_path / 'evaluations' / 'answers.jsonl').read_text().splitlines()
  modes = [json.loads(row)['mode'] for row in rows]
  assert sorted(set(modes)) == ['greedy', 'sampled', 'sibling-1', 'sibling-2', 'sibling-3']


def test_positions_of_the_sampled_answers_are_a_column_of_the_heat_map(writes, tmp_path):
  write_arena(tmp_path)

  def repeating(prompt):
    new = ' '.join(f'word{i} goes on to place{i}.' for i in range(40))
    again = 'The same thing is said here once more. ' * 25
    return f'<think>a plan</think> <answer>{new} {again}</answer>', True

  c = config(tmp_path, **{'eval.window': 20})
  due = evaluations(c, tmp_path, answers=(repeating, cut))
  assert measured(due, 0)['eval/fall/repetition'] > 0.5
  of = records.read(tmp_path)[0]['positions']['repetition']
  assert len(of) == 8 and of[0] == pytest.approx(0, abs=0.01) and of[-1] > 0.9
  maps = evaluation_report.heat_maps(tmp_path)
  plots = dict.fromkeys(svg.split('aria-label="')[1].split('"')[0] for _, svg in maps)
  assert 'repetition over position' in plots and 'referee over position' not in plots
  none = evaluations(config(tmp_path, **{'eval.inside': 0}), tmp_path / 'none')
  measured(none, 0)
  assert evaluation_report.heat_maps(tmp_path / 'none') == []


def test_the_report_has_all_answers_to_the_same_held_out_prompts(writes, tmp_path):
  write_arena(tmp_path)
  c = config(tmp_path, **{'train.num_steps': 6})
  due = evaluations(c, tmp_path)
  assert due.samples() == []
  for step in range(6):
    due.step(Loop(), step, {'w': np.full(2, step, np.float32)})
  assert list(records.read(tmp_path)) == [0, 2, 4, 5]  # the last step waits for all
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
  assert evaluation_report.plots(config(tmp_path, **{'eval.every': 0})) == []


def test_samples_belong_to_the_prompt_not_to_the_step_or_the_place(writes, tmp_path):
  write_arena(tmp_path)
  due = evaluations(config(tmp_path), tmp_path)
  due.step(Loop(), 0, PARAMS)
  due.step(Loop(), 2, {'w': PARAMS['w'] + 1})
  asked = [(r.prompt.tobytes(), r.key.tobytes()) for r in writes]
  assert len(asked) == 12 and len(set(asked)) == 3


def test_prompts_that_are_trained_on_or_do_not_fit_are_not_asked(writes, tmp_path):
  write_arena(tmp_path, num=5)
  asked = [types.Prompt('p', 'ode  3', 1, 2)]
  due = evaluations(config(tmp_path), tmp_path, asked)
  due.step(Loop(), 0, PARAMS)
  prompts = {Tokenizer().decode(r.prompt) for r in writes}
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
  first = measured(due, 0)
  assert np.isnan(first['eval/win_rate/sampled']) and first['eval/words/sampled'] == 10
  later = measured(due, 2, {'w': PARAMS['w'] + 1})
  assert later['eval/win_rate/sampled'] == 0.5
  assert later['eval/win_rate/greedy'] == 0


class Judge:
  """Behind a server: prefers the longer answer, and fails on the questions named."""

  def __init__(self):
    self.fails, self.asked, self.may_go = set(), 0, threading.Event()
    self.may_go.set()

  def __call__(self, number, payload):
    self.asked += 1
    self.may_go.wait(60)
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


def test_what_has_a_record_is_not_repeated_and_of_a_lost_one_nothing_is_asked_twice(
  writes, judge, server, tmp_path
):
  write_arena(tmp_path)
  c = by_server(tmp_path, server)
  first = measured(evaluations(c, tmp_path), 2)
  num_written, num_judged = len(writes), judge.asked
  # Both orders of three answers; those without a text, cut in their thoughts, lose unasked.
  assert (num_written, num_judged) == (6, 6)
  before = (tmp_path / 'evaluations.jsonl').read_bytes()
  measured(evaluations(c, tmp_path), 2)
  assert (tmp_path / 'evaluations.jsonl').read_bytes() == before
  (tmp_path / 'evaluations.jsonl').unlink()
  c.judge.cache = str(tmp_path / 'other.sqlite')  # the journal alone must do
  again = measured(evaluations(c, tmp_path), 2)
  np.testing.assert_equal(again, first)
  assert (len(writes), judge.asked) == (num_written, num_judged)
  measured(evaluations(c, tmp_path), 2, {'w': PARAMS['w'] + 1})  # an inexact run comes by again
  assert len(writes) == 2 * num_written and len(records.read(tmp_path)) == 1


def test_training_goes_on_while_the_judge_thinks_and_the_record_comes_later(
  writes, judge, server, tmp_path
):
  write_arena(tmp_path)
  judge.may_go.clear()
  c = by_server(tmp_path, server, **{'train.num_steps': 9})
  due, loop = evaluations(c, tmp_path), Loop()
  assert set(due.step(loop, 0, PARAMS)) == {evaluator.SHARE}
  assert due.step(loop, 1, PARAMS) == {} and records.read(tmp_path) == {} and loop.passed == []
  judge.may_go.set()
  assert due._judging.wait(60)
  assert due.step(loop, 3, PARAMS) == {} and loop.passed == [0]
  with metrics.Writer(tmp_path, start_step=0) as writer:
    for step in range(3):
      writer.write(step, {'seconds': 1.0})
  joined = metrics.read(tmp_path)
  assert [r.get('eval/win_rate/sampled') for r in joined] == [1, None, None]
  assert 'eval' not in (tmp_path / 'metrics.jsonl').read_text()


def killed_before_a_verdict(judge, server, folder):
  """The config of a run that has answered at step 0, and was stopped before the judge replied."""
  write_arena(folder)
  c = by_server(folder, server)
  judge.may_go.clear()
  killed = evaluations(c, folder)
  killed.step(Loop(), 0, PARAMS)
  killed.stop()
  judge.may_go.set()
  return c


def test_a_resumed_run_judges_what_was_written_and_had_no_record(writes, judge, server, tmp_path):
  c = killed_before_a_verdict(judge, server, tmp_path)
  num_written, loop = len(writes), Loop()
  resumed = evaluations(c, tmp_path)
  assert resumed.step(loop, 1, {'w': PARAMS['w'] + 1}) == {}  # the policy has moved on
  assert loop.laps == ['eval_referee'] and loop.asked == 1 and resumed._seconds > 0
  assert resumed._judging.wait(60)
  assert records.metrics(tmp_path)[0]['eval/win_rate/sampled'] == 1
  assert len(writes) == num_written
  other = tmp_path / 'other'
  np.testing.assert_equal(measured(resumed, 0), measured(evaluations(c, other), 0))


def test_a_resumed_run_judges_the_prompts_that_it_asks_itself(writes, judge, server, tmp_path):
  c = killed_before_a_verdict(judge, server, tmp_path)
  c.eval.file = str(tmp_path / 'other.jsonl')  # others by the same numbers: nothing is judged
  rows = (tmp_path / 'arena.jsonl').read_text()
  (tmp_path / 'other.jsonl').write_text(rows.replace('Ode', 'Hymn'))
  resumed = evaluations(c, tmp_path)
  resumed.step(Loop(), 1, policy(1))
  assert resumed._judging.wait(60) and records.read(tmp_path) == {}
  c.eval.file, c.eval.prompts = str(tmp_path / 'arena.jsonl'), 2
  fewer = evaluations(c, tmp_path)
  fewer.step(Loop(), 1, policy(1))
  assert fewer._judging.wait(60)
  found = records.metrics(tmp_path)[0]
  assert found[judging.FAILED] == 0 and found['eval/win_rate/sampled'] == 1
  assert found['eval/openings/sampled'] == pytest.approx(1 / 2)  # of two answers


def test_the_end_waits_for_a_judge_no_longer_than_it_may(writes, judge, server, tmp_path):
  write_arena(tmp_path)
  judge.may_go.clear()
  c = by_server(tmp_path, server, **{'train.num_steps': 1, 'eval.wait': 0.2})
  due, loop = evaluations(c, tmp_path), Loop()
  due.step(loop, 0, PARAMS)
  record = records.read(tmp_path)[0]
  assert record[judging.FAILED] == 1 and 'eval.wait=0.2' in record['fault']
  assert record['eval/win_rate/sampled'] is None and record['eval/words/sampled'] == 10
  assert loop.passed == [0] and loop.laps[-1] == 'eval_wait'
  judge.may_go.set()  # what comes later is dropped
  due._judging.add(7, 0, *[lambda values: None] * 2)
  assert due._judging.wait(60) and records.read(tmp_path)[0] == record


def test_a_slow_judge_costs_no_metric_that_needs_none(writes, judge, server, tmp_path):
  write_arena(tmp_path)
  judge.may_go.clear()
  c = by_server(tmp_path, server, **{'train.num_steps': 3, 'eval.wait': 0.2})
  due = evaluations(c, tmp_path)
  due.step(Loop(), 0, PARAMS)
  due.step(Loop(), 2, {'w': PARAMS['w'] + 1})  # its turn never came
  for one in records.read(tmp_path).values():
    assert one[judging.FAILED] == 1 and one['eval/words/sampled'] == 10
  judge.may_go.set()


def test_after_the_end_the_judge_is_asked_nothing_more_and_nothing_is_written(
  writes, judge, server, tmp_path
):
  write_arena(tmp_path)
  judge.may_go.clear()
  c = by_server(tmp_path, server, **{'judge.concurrency': 1, 'train.num_steps': 9})
  due = evaluations(c, tmp_path)
  due.step(Loop(), 0, PARAMS)
  due.step(Loop(), 2, PARAMS)
  while not judge.asked:
    time.sleep(0.01)
  due.stop()
  judge.may_go.set()
  due._judging._thread.join(60)
  assert not due._judging._thread.is_alive() and judge.asked <= 2
  assert (tmp_path / 'evaluations' / 'verdicts.jsonl').read_bytes() == b''
  assert not (tmp_path / 'evaluations.jsonl').exists()


def test_a_judge_on_our_devices_is_waited_for_as_long_as_it_takes(writes, judge, server, tmp_path):
  write_arena(tmp_path)
  judge.may_go.clear()
  due = evaluations(by_server(tmp_path, server, **{'eval.wait': 0.1}), tmp_path)
  due._inside = True
  free = threading.Timer(1.5, judge.may_go.set)
  free.start()
  due.step(Loop(), 0, PARAMS)
  free.join()
  assert records.metrics(tmp_path)[0]['eval/win_rate/sampled'] == 1


def test_a_resumed_run_judges_again_what_has_failed(writes, judge, server, tmp_path):
  write_arena(tmp_path)
  judge.may_go.clear()
  c = by_server(tmp_path, server, **{'train.num_steps': 1, 'eval.wait': 0.2})
  ended = evaluations(c, tmp_path)
  ended.step(Loop(), 0, PARAMS)
  ended.stop()
  assert records.metrics(tmp_path)[0][judging.FAILED] == 1
  judge.may_go.set()
  c.train.num_steps, num_written = 9, len(writes)
  resumed = evaluations(c, tmp_path)
  resumed.step(Loop(), 1, {'w': PARAMS['w'] + 1})
  assert resumed._judging.wait(60) and len(writes) == num_written
  assert records.metrics(tmp_path)[0]['eval/win_rate/sampled'] == 1


def policy(number):
  return {'w': PARAMS['w'] + number}


def test_of_a_step_that_is_passed_again_only_what_is_of_the_policy_of_now_stays(writes, tmp_path):
  write_arena(tmp_path)
  c = config(tmp_path, **{'train.num_steps': 12})
  killed = evaluations(c, tmp_path)
  for step in (0, 2, 4, 8, 11):
    measured(killed, step, policy(step))
  c.eval.every, c.train.num_steps = 3, 8
  resumed, loop = evaluations(c, tmp_path), Loop()
  num_written = len(writes)
  resumed.step(loop, 1, policy(1))
  assert loop.passed == [0]  # a sink has dropped what it had from this step on
  resumed.step(loop, 2, policy(2))
  assert loop.passed == [0, 2] and list(records.read(tmp_path)) == [0, 2, 4, 8, 11]
  resumed.step(loop, 4, policy(40))  # an inexact run comes by with another policy
  assert loop.passed == [0, 2] and list(records.read(tmp_path)) == [0, 2, 8, 11]
  assert len(writes) == num_written and list(resumed._answers.written()) == [0, 2, 8, 11]
  again = evaluations(c, tmp_path)
  again.step(loop, 5, policy(50))
  assert again._judging.wait(60) and list(records.read(tmp_path)) == [0, 2, 8, 11]
  again.step(loop, 7, policy(70))  # the last: those behind it are never reached
  assert list(records.read(tmp_path)) == list(again._answers.written()) == [0, 2, 7]


class Referee:
  """Scores every answer 0.5 once it may."""

  def __init__(self):
    self.may_go = threading.Event()

  def logprobs(self, answers):
    self.may_go.wait(60)
    return [np.zeros(1, np.float32)] * len(answers)

  def scores(self, answers, logps):
    return {'referee': np.full(len(answers), 0.5)}

  def within(self, answers, logps, size):
    return {}

  def measure(self, by_mode, scores):
    return {f'eval/referee/{mode}': float(of['referee'].mean()) for mode, of in scores.items()}


def test_the_referee_scores_in_the_background_on_a_cpu_and_else_in_the_step(
  writes, tmp_path, monkeypatch
):
  write_arena(tmp_path)
  c = config(tmp_path, **{'eval.greedy': 2})
  due = evaluations(c, tmp_path)
  due._referee = Referee()
  due.step(Loop(), 0, PARAMS)
  assert records.read(tmp_path) == {}
  due._referee.may_go.set()
  assert due._judging.wait(60)
  assert records.metrics(tmp_path)[0]['eval/referee/greedy'] == 0.5
  assert sum(request.greedy for request in writes) == 2 and len(writes) == 5
  rows = (tmp_path / 'evaluations' / 'by_prompt.jsonl').read_text().splitlines()
  assert sorted(json.loads(row)['mode'] for row in rows) == ['greedy'] * 2 + ['sampled'] * 3
  for step, backend, devices in ((2, 'gpu', 1), (4, 'cpu', 2)):  # collectives of two programs
    monkeypatch.setattr(evaluator.jax, 'default_backend', lambda backend=backend: backend)
    c.mesh.fsdp = devices
    due._referee = Referee()
    threading.Timer(0.5, due._referee.may_go.set).start()
    due.step(Loop(), step, policy(step))
    assert due._referee.may_go.is_set()


def test_a_run_that_stops_waits_for_no_whole_scoring_and_leaves_no_record(
  writes, tmp_path, monkeypatch
):
  write_arena(tmp_path)
  due, begun, scored = evaluations(config(tmp_path), tmp_path), threading.Event(), []
  due._referee = Referee()
  monkeypatch.setattr(Referee, 'logprobs', lambda *_: begun.set() or due._referee.may_go.wait(60))
  monkeypatch.setattr(Referee, 'scores', lambda *_: scored.append(1))
  due.step(Loop(), 0, PARAMS)
  assert begun.wait(60)
  threading.Timer(0.2, due._referee.may_go.set).start()
  due.stop()
  due._judging.join()
  assert due._referee.may_go.is_set() and scored == [] and records.read(tmp_path) == {}


def test_what_is_judged_again_leaves_the_marks_of_a_later_evaluation(
  writes, judge, server, tmp_path
):
  write_arena(tmp_path)
  for step in (2, 0):  # the evaluation of step 0 is judged by a resumed run
    c = by_server(tmp_path, server, **{'train.num_steps': 9})
    due = evaluations(c, tmp_path)
    due._referee = Referee()
    due._referee.may_go.set()
    if step:
      due._answers.write(policy(0), 7, 0)
      due._left = []
      measured(due, 2, policy(2))
    else:
      due.step(Loop(), 3, policy(3))
      assert due._judging.wait(60)
    due.stop()
  assert list(records.read(tmp_path)) == [0, 2]
  assert by_prompt.step(tmp_path / 'evaluations') == 2


def test_an_error_of_the_thread_is_raised_in_all_processes(writes, tmp_path, monkeypatch):
  write_arena(tmp_path)
  due, seen = evaluations(config(tmp_path), tmp_path), []
  monkeypatch.setattr(evaluator.hosts, 'first', lambda work: seen.append(work) or work())
  due.step(Loop(), 1, PARAMS)
  assert due._judging.ended in seen  # `hosts.first` has the others raise, too


def test_weights_that_evaluations_round_are_said(tmp_path):
  by = [config(tmp_path, **{'rollout.weights': w}) for w in ('int8', 'float')]
  said = [evaluation_report.facts(c, tmp_path) for c in by]
  assert ['rounded to int8' in str(found) for found in said] == [True, False]


def test_checkpoints_by_a_metric_of_evaluations_wait_for_it(writes, tmp_path):
  write_arena(tmp_path)
  c = config(tmp_path, **{'checkpoint.best': 'eval/win_rate/sampled'})
  found = evaluations(c, tmp_path).step(Loop(), 0, PARAMS)
  assert found['eval/win_rate/sampled'] == 1 and set(found) > {evaluator.SHARE}


def test_baselines_stay_where_their_own_games_put_them(writes, judge, server, tmp_path):
  write_arena(tmp_path, weak='w', strong='s ' * 200)
  c = by_server(tmp_path, server)
  found = measured(evaluations(c, tmp_path), 0)
  # Of the four who play, the anchors met thrice: 3.5 wins to 0.5 between them, centred on 1000.
  gap = 400 * np.log10(7)
  assert 1000 - gap / 2 < found['eval/rating/sampled'] < 1000 + gap / 2
  assert found['eval/win_rate/sampled'] == 0.5
  np.testing.assert_allclose(found['eval/rating/sampled'], 1000, atol=1e-6)


def test_a_judge_that_fails_is_masked_and_counted_up_to_a_share(writes, judge, server, tmp_path):
  write_arena(tmp_path)
  judge.fails = {'Ode 1'}
  c = by_server(tmp_path, server, **{'judge.max_failures': 0.5})
  found = measured(evaluations(c, tmp_path), 0)
  assert found[evaluator.FAILURES] == pytest.approx(2 / 12) and found[judging.FAILED] == 0
  assert found['eval/win_rate/sampled'] == 1
  np.testing.assert_allclose(found['eval/rating/sampled'], 1000 + 400 * np.log10(2.5 / 0.5))
  # Beyond it the evaluation has failed; what needs no judge is there, and training goes on.
  c = by_server(tmp_path, server, **{'judge.max_failures': 0.1})
  failed = measured(evaluations(c, tmp_path / 'other'), 0)
  assert failed[judging.FAILED] == 1 and np.isnan(failed['eval/win_rate/sampled'])
  assert failed['eval/words/sampled'] == 10
  fault = records.read(tmp_path / 'other')[0]['fault']
  assert '2 of 12 have failed' in fault and 'max_failures=10%' in fault


@pytest.mark.parametrize(
  'changes, complaint',
  [
    ({'eval.file': 'nowhere.jsonl'}, 'nowhere.jsonl'),
    ({'eval.prompts': -1}, 'eval.prompts=-1'),
    ({'eval.wait': -1.0}, 'eval.wait=-1.0'),
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
  evaluated = records.metrics(tmp_path / 'often')
  assert list(evaluated) == [record['step'] for record in often['figures']]
  assert all(value['eval/rating/sampled'] is not None for value in evaluated.values())
  page = (tmp_path / 'often' / 'report.html').read_text()
  assert 'held-out rating' in page and 'Elo scale, by offline-rules' in page
  assert 'repetition over position' in page
  assert often == never
