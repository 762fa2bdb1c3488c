"""A draw's answers are judged as they end, and their scores do not depend on that."""

import threading

import ml_collections
import numpy as np
import pytest

from lwz import hosts, types
from lwz.reward import components
from lwz.rl import scoring
from lwz.rollout import local, scheduler

STOP = 0
PROMPTS = [types.Prompt('a', 'Write.', 2, 4), types.Prompt('b', 'Write more.', 3, 6)]
TEXTS = [
  '<think>x</think><answer>one two three</answer>',
  '<think>x</think><answer>one</answer>',
  'no structure',
  '<think>y</think><answer>a b c d e</answer>',
]


class Letters:
  """A tokenizer whose ids are code points."""

  def decode(self, ids):
    return ''.join(map(chr, ids))


def config(rewards, *, model='http://localhost:1/score', exact=False, max_failures=0.5):
  return ml_collections.ConfigDict(
    {
      'rl': {'group_size': 2},
      'data': {'style': 'think'},
      'rollout': {'exact': exact},
      'reward': {
        'weights': dict.fromkeys(rewards, 1.0),
        'model': model,
        'ensemble': (),
        'max_failures': max_failures,
      },
    }
  )


def scoring_of(rewards, **changes):
  return scoring.Scoring(config(rewards, **changes), Letters(), rewards, PROMPTS)


def replies():
  found = []
  for index, text in enumerate(TEXTS):
    finished = index != 3  # the last was cut at the cap, and has no stop token
    ids = np.array([*map(ord, text), *[STOP] * finished], np.int32)
    found.append(scheduler.Reply(index, ids, np.zeros(len(ids), np.float32), finished))
  return found


def count(samples):
  return np.array([float(len(s.parsed.answer.split())) for s in samples])


def write(judge, order):
  for index in order:
    judge.begin(replies()[index])
  return judge.samples(local.rollout(replies(), 64, STOP))


@pytest.mark.parametrize('order', [[], [3, 1], [2, 0, 3, 1]])
def test_scores_do_not_depend_on_what_was_begun(order):
  with scoring_of({'length': count, 'writing': count}) as judge:
    samples = write(judge, order)
    scores = judge.scores(samples)
  assert [s.text for s in samples] == TEXTS
  assert [s.prompt.id for s in samples] == ['a', 'a', 'b', 'b']
  expected = components.judge(samples, {'length': count, 'writing': count}, 2)
  np.testing.assert_array_equal(scores.values, expected.values)
  assert scores.valid.all()


def test_a_server_is_asked_before_the_last_answer_is_written():
  asked = threading.Event()

  def server(samples):
    asked.set()
    return count(samples)

  with scoring_of({'writing': server}) as judge:
    judge.begin(replies()[1])
    assert asked.wait(10)


@pytest.mark.parametrize('changes', [{'model': 'reward_model'}, {'exact': True}], ids=str)
def test_our_own_model_and_the_server_of_an_exact_run_are_asked_once_and_at_the_end(changes):
  calls = []

  def model(samples):
    calls.append(len(samples))
    return count(samples)

  with scoring_of({'length': count, 'writing': model}, **changes) as judge:
    samples = write(judge, range(4))
    assert calls == []
    judge.scores(samples)
  assert calls == [4]


@pytest.mark.parametrize('exact', [False, True])
def test_one_of_two_processes_judges_every_other_answer(exact, monkeypatch):
  monkeypatch.setattr('jax.process_count', lambda: 2)
  monkeypatch.setattr('jax.process_index', lambda: 1)
  theirs = np.array([3.0, 0.0])  # of answers 0 and 2
  monkeypatch.setattr(hosts, 'all_gather', lambda own: np.stack([theirs, own]))
  asked = []

  def server(samples):
    asked.extend(sample.text for sample in samples)
    return count(samples)

  with scoring_of({'writing': server}, exact=exact) as judge:
    scores = judge.scores(write(judge, range(4)))
  assert asked == [TEXTS[1], TEXTS[3]]
  assert scores.values.reshape(-1).tolist() == [3, 1, 0, 5]


def test_too_many_failures_stop_the_run():
  def judge_of(share):
    with scoring_of({'writing': failing}, max_failures=share) as judge:
      return judge.scores(write(judge, range(4)))

  def failing(samples):
    return np.array([np.nan if s.prompt.id == 'a' else 1.0 for s in samples])

  assert judge_of(0.5).valid.tolist() == [[False, False], [True, True]]
  with pytest.raises(RuntimeError, match=r'50% of the samples.*max_failures=40%'):
    judge_of(0.4)
