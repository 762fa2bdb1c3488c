"""Rewards in the background have the values that they have without it, and block nobody."""

import functools
import threading

import numpy as np
import pytest

from lwz import types
from lwz.reward import background, components
from lwz.reward import format as format_lib

PROMPT = types.Prompt('p0', 'Write ten words.', 8, 12)
SECONDS = 10  # what a test waits before it gives up


def sample(answer):
  text = f'<think>A plan.</think><answer>{answer}</answer>'
  return components.Sample(PROMPT, text, format_lib.parse(text, 'think'))


SAMPLES = [sample('One more word. ' * num) for num in range(1, 6)]
COMPONENTS = {
  'length': functools.partial(components.length, max_words=40),
  'format': components.format,
}


def started(fns):
  rewards = {name: components.per_answer(fn) for name, fn in fns.items()}
  return background.BackgroundRewards(rewards, group_size=1)


@pytest.mark.parametrize('num_begun', [0, 3, 5])
def test_values_are_those_of_the_components(num_begun):
  judging = started(COMPONENTS)
  for index in range(num_begun)[::-1]:
    judging.add(index, SAMPLES[index])
  for name, component in COMPONENTS.items():
    np.testing.assert_array_equal(judging.values(name, SAMPLES), component(SAMPLES))


def test_judging_goes_on_while_others_are_written():
  judged = threading.Event()

  def component(samples):
    judged.set()
    return np.zeros(len(samples))

  judging = started({'writing': component})
  judging.add(0, SAMPLES[0])
  assert judged.wait(SECONDS)  # nobody has asked for a value yet
  judging.stop()


def test_what_waits_is_judged_at_once_and_equal_samples_once():
  calls, go_on, busy = [], threading.Event(), threading.Event()

  def component(samples):
    calls.append(list(samples))
    busy.set()
    assert go_on.wait(SECONDS)
    return np.arange(len(samples)) + 10.0 * len(calls)

  judging = started({'writing': component})
  judging.add(0, SAMPLES[0])
  assert busy.wait(SECONDS)
  for index, i in enumerate((1, 2, 1, 0), start=1):
    judging.add(index, SAMPLES[i])
  go_on.set()
  asked = [SAMPLES[i] for i in (2, 0, 1, 1)]
  np.testing.assert_array_equal(judging.values('writing', asked), [21, 10, 20, 20])
  assert calls == [SAMPLES[:1], SAMPLES[1:3]]


def test_a_slow_component_keeps_no_other_waiting():
  judged, go_on = threading.Event(), threading.Event()

  def slow(samples):
    assert go_on.wait(SECONDS)
    return np.zeros(len(samples))

  def fast(samples):
    judged.set()
    return np.ones(len(samples))

  judging = started({'slow': slow, 'fast': fast})
  judging.add(0, SAMPLES[0])
  assert judged.wait(SECONDS)
  go_on.set()
  assert judging.values('slow', SAMPLES[:1]) == [0]


def test_a_failed_judgement_stays_one():
  judging = started({'writing': lambda samples: np.full(len(samples), np.nan)})
  judging.add(0, SAMPLES[0])
  assert np.isnan(judging.values('writing', SAMPLES[:1])).all()


def test_an_error_is_raised_with_the_values_and_by_what_is_begun_after_it():
  failed = threading.Event()

  def component(samples):
    failed.set()
    raise ValueError('a reward server gave a score outside [0, 1]')

  judging = started({'writing': component})
  judging.add(0, SAMPLES[0])
  assert failed.wait(SECONDS)
  with pytest.raises(ValueError, match='reward server'):
    judging.values('writing', SAMPLES)
  with pytest.raises(ValueError, match='reward server'):
    judging.add(1, SAMPLES[1])


def test_ending_waits_for_no_judge_and_forgets_what_waits():
  calls, busy, go_on, done = [], threading.Event(), threading.Event(), threading.Event()

  def component(samples):
    calls.append(len(samples))
    busy.set()
    go_on.wait(SECONDS)
    done.set()
    return np.zeros(len(samples))

  judging = started({'writing': component})
  judging.add(0, SAMPLES[0])
  assert busy.wait(SECONDS)
  for index in range(1, 5):
    judging.add(index, SAMPLES[index])
  judging.stop()
  assert not done.is_set()
  go_on.set()
  [thread] = [t for t in threading.enumerate() if t.name == 'judge writing']
  thread.join(SECONDS)
  assert calls == [1]


def test_a_group_is_judged_when_it_is_complete():
  calls, judged = [], threading.Event()

  def fn(group):
    calls.append(group)
    judged.set()
    return np.arange(2.0)

  judging = background.BackgroundRewards({'novelty': components.per_group(fn)}, group_size=2)
  for index in (0, 3):
    judging.add(index, SAMPLES[index])
  assert not judged.wait(0.1)
  judging.add(2, SAMPLES[2])
  assert judged.wait(SECONDS)
  np.testing.assert_array_equal(judging.values('novelty', SAMPLES[:4]), [0, 1, 0, 1])
  assert calls == [tuple(SAMPLES[2:4]), tuple(SAMPLES[:2])]
