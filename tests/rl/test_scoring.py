"""Answers are judged as they end, and their scores do not depend on that."""

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


def letters(ids):
  """The text of ids that are code points."""
  return ''.join(map(chr, ids))


def config(*, group_size=2, max_failures=0.5):
  return ml_collections.ConfigDict(
    {
      'rl': {'group_size': group_size},
      'data': {'style': 'think'},
      'reward': {'max_failures': max_failures},
    }
  )


def scoring_of(rewards, chosen=PROMPTS, **changes):
  rewards = {
    name: reward if isinstance(reward, components.Reward) else components.per_answer(reward)
    for name, reward in rewards.items()
  }
  return scoring.Scoring(config(**changes), letters, rewards, chosen)


def replies(texts=TEXTS):
  found = []
  for index, text in enumerate(texts):
    finished = text is not TEXTS[3]  # which was cut at the cap, and has no stop token
    ids = np.array([*map(ord, text), *[STOP] * finished], np.int32)
    found.append(scheduler.Trajectory(index, ids, np.zeros(len(ids), np.float32), finished))
  return found


def count(samples):
  return np.array([float(len(s.parsed.answer.split())) for s in samples])


def novelty(samples):
  """The share of an answer's words that no sibling has."""
  words = [set(sample.parsed.answer.split()) for sample in samples]
  return np.array(
    [
      len(own.difference(*words[:i], *words[i + 1 :])) / max(len(own), 1)
      for i, own in enumerate(words)
    ]
  )


def write(judge, order, texts=TEXTS):
  for index in order:
    judge.add(replies(texts)[index])
  return judge.samples(local.rollout(replies(texts), 64, STOP))


def test_a_run_that_waits_for_a_judge_hears_that_it_is_to_stop(monkeypatch):
  monkeypatch.setattr(scoring, '_TICK', 0.01)
  judged = threading.Event()

  def slow(samples):
    judged.wait(60)
    return count(samples)

  def stop():
    raise InterruptedError

  with scoring_of({'slow': slow}) as judge, pytest.raises(InterruptedError):
    judge.scores(write(judge, range(4)), meanwhile=stop)
  judged.set()
  with scoring_of({'slow': slow}) as judge:
    scores = judge.scores(write(judge, range(4)))
  np.testing.assert_array_equal(scores.values[:, :, 0], [[3, 1], [0, 5]])


def test_our_devices_judge_beside_what_is_not_judged_yet():
  judged = threading.Event()

  def slow(samples):
    assert judged.wait(10), 'the devices wait for a reward that needs none'
    return count(samples)

  def on_device(samples):
    judged.set()
    return count(samples)

  rewards = {'length': slow, 'writing': components.on_device(on_device)}
  with scoring_of(rewards) as judge:
    scores = judge.scores(write(judge, range(len(TEXTS))))
  np.testing.assert_array_equal(scores.values[..., 0], scores.values[..., 1])


@pytest.mark.parametrize('order', [[], [3, 1], [2, 0, 3, 1]])
def test_scores_do_not_depend_on_what_was_begun(order):
  with scoring_of({'length': count, 'writing': count}) as judge:
    samples = write(judge, order)
    scores = judge.scores(samples)
  assert [s.text for s in samples] == TEXTS
  assert [s.prompt.id for s in samples] == ['a', 'a', 'b', 'b']
  expected = components.scores({'length': count(samples), 'writing': count(samples)}, 2)
  np.testing.assert_array_equal(scores.values, expected.values)
  assert scores.valid.all()


def test_a_server_is_asked_before_the_last_answer_is_written():
  asked = threading.Event()

  def server(samples):
    asked.set()
    return count(samples)

  with scoring_of({'writing': server}) as judge:
    judge.add(replies()[1])
    assert asked.wait(10)


GROUPS = [
  f'<think>x</think><answer>{answer}</answer>'
  for answer in ('a b c', 'a b c d e', 'f g', 'c b a', 'x y', 'x z', 'w', '')
]
NOVELTY = [0, 0.4, 1, 0, 0.5, 0.5, 1, 0]


@pytest.mark.parametrize('order', [[], range(8), [7, 0, 5, 2, 4, 3, 6, 1], [3, 2, 1, 0, 6]])
def test_siblings_are_compared_whole_in_whatever_order_they_arrive(order):
  sizes = []

  def fn(group):
    sizes.append(len(group))
    return novelty(group)

  rewards = {'novelty': components.per_group(fn)}
  with scoring_of(rewards, group_size=4) as judge:
    samples = write(judge, order, GROUPS)
    scores = judge.scores(samples)
  np.testing.assert_allclose(scores.values.reshape(-1), NOVELTY)
  np.testing.assert_array_equal(scores.values, components.judge(samples, rewards, 2).values)
  assert set(sizes) == {4}


@pytest.mark.parametrize('order', [[], [7, 0, 5, 2, 4, 3, 6, 1]])
def test_one_of_two_processes_judges_every_other_group(order, two_processes):
  two_processes.append(np.array([NOVELTY[:4]]))
  groups = []

  def fn(group):
    groups.append([sample.text for sample in group])
    return novelty(group)

  with scoring_of({'novelty': components.per_group(fn)}, group_size=4) as judge:
    scores = judge.scores(write(judge, order, GROUPS))
  assert groups == [GROUPS[4:]]
  np.testing.assert_allclose(scores.values.reshape(-1), NOVELTY)


def test_rewards_on_our_devices_are_called_by_each_process_with_all_samples(two_processes):
  calls = []

  def model(samples):
    calls.append(len(samples))
    return count(samples)

  rewards = {name: components.on_device(model) for name in ('writing', 'second')}
  with scoring_of(rewards) as judge:
    samples = write(judge, range(4))
    assert calls == []
    scores = judge.scores(samples)
  assert calls == [4, 4]
  assert scores.values.reshape(-1, 2).tolist() == [[3, 3], [1, 1], [0, 0], [5, 5]]


def test_a_deferred_reward_is_computed_once_and_at_the_end():
  calls = []

  def server(samples):
    calls.append(len(samples))
    return count(samples)

  with scoring_of({'writing': components.per_answer(server, deferred=True)}) as judge:
    samples = write(judge, range(4))
    assert calls == []
    judge.scores(samples)
  assert calls == [4]


@pytest.fixture
def two_processes(monkeypatch):
  """Process 1 of two, which end together; process 0's values are put into the returned list."""
  theirs = []
  monkeypatch.setattr('jax.process_count', lambda: 2)
  monkeypatch.setattr('jax.process_index', lambda: 1)

  def all_gather(own):
    return np.stack([own if own.dtype == bool else theirs.pop(0), own])

  monkeypatch.setattr(hosts, 'all_gather', all_gather)
  return theirs


@pytest.mark.parametrize('deferred', [False, True])
def test_one_of_two_processes_judges_every_other_answer(deferred, two_processes):
  two_processes.append(np.array([[3.0], [0.0]]))  # of answers 0 and 2
  asked = []

  def server(samples):
    asked.extend(sample.text for sample in samples)
    return count(samples)

  with scoring_of({'writing': components.per_answer(server, deferred=deferred)}) as judge:
    scores = judge.scores(write(judge, range(4)))
  assert asked == [TEXTS[1], TEXTS[3]]
  assert scores.values.reshape(-1).tolist() == [3, 1, 0, 5]


def test_too_many_failures_stop_the_run():
  def judge_of(share):
    with scoring_of({'writing': failing}, max_failures=share) as judge:
      scores = judge.scores(write(judge, range(4)))
    scoring.check(config(max_failures=share), scores)
    return scores

  def failing(samples):
    return np.array([np.nan if s.prompt.id == 'a' else 1.0 for s in samples])

  assert judge_of(0.5).valid.tolist() == [[False, False], [True, True]]
  with pytest.raises(RuntimeError, match=r'50% of the samples.*max_failures=40%'):
    judge_of(0.4)
