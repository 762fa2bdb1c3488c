"""What is judged ahead has the values that it would have had, and costs the writing no time."""

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


@pytest.mark.parametrize('num_begun', [0, 3, 5])
def test_values_are_those_of_the_components(num_begun):
  judging = background.Ahead(COMPONENTS)
  for begun in SAMPLES[:num_begun][::-1]:
    judging.begin(begun)
  for name, component in COMPONENTS.items():
    np.testing.assert_array_equal(judging.values(name, SAMPLES), component(SAMPLES))


def test_judging_goes_on_while_others_are_written():
  judged = threading.Event()

  def component(samples):
    judged.set()
    return np.zeros(len(samples))

  judging = background.Ahead({'writing': component})
  judging.begin(SAMPLES[0])
  assert judged.wait(SECONDS)  # nobody has asked for a value yet
  judging.end()


def test_what_waits_is_judged_at_once_and_equal_samples_once():
  calls, go_on, busy = [], threading.Event(), threading.Event()

  def component(samples):
    calls.append(list(samples))
    busy.set()
    assert go_on.wait(SECONDS)
    return np.arange(len(samples)) + 10.0 * len(calls)

  judging = background.Ahead({'writing': component})
  judging.begin(SAMPLES[0])
  assert busy.wait(SECONDS)
  for begun in (SAMPLES[1], SAMPLES[2], SAMPLES[1], SAMPLES[0]):
    judging.begin(begun)
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

  judging = background.Ahead({'slow': slow, 'fast': fast})
  judging.begin(SAMPLES[0])
  assert judged.wait(SECONDS)
  go_on.set()
  assert judging.values('slow', SAMPLES[:1]) == [0]


def test_a_failed_judgement_stays_one():
  judging = background.Ahead({'writing': lambda samples: np.full(len(samples), np.nan)})
  judging.begin(SAMPLES[0])
  assert np.isnan(judging.values('writing', SAMPLES[:1])).all()


def test_an_error_is_raised_with_the_values_and_by_what_is_begun_after_it():
  failed = threading.Event()

  def component(samples):
    failed.set()
    raise ValueError('a reward server gave a score outside [0, 1]')

  judging = background.Ahead({'writing': component})
  judging.begin(SAMPLES[0])
  assert failed.wait(SECONDS)
  with pytest.raises(ValueError, match='reward server'):
    judging.values('writing', SAMPLES)
  with pytest.raises(ValueError, match='reward server'):
    judging.begin(SAMPLES[1])


def test_ending_waits_for_no_judge_and_forgets_what_waits():
  calls, busy, go_on, done = [], threading.Event(), threading.Event(), threading.Event()

  def component(samples):
    calls.append(len(samples))
    busy.set()
    go_on.wait(SECONDS)
    done.set()
    return np.zeros(len(samples))

  judging = background.Ahead({'writing': component})
  judging.begin(SAMPLES[0])
  assert busy.wait(SECONDS)
  for begun in SAMPLES[1:]:
    judging.begin(begun)
  judging.end()
  assert not done.is_set()
  go_on.set()
  [thread] = [t for t in threading.enumerate() if t.name == 'judge writing']
  thread.join(SECONDS)
  assert calls == [1]
