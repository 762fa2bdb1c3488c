"""What each component says of a sample, in which order, and what a failed judge does."""

import functools

import numpy as np
import pytest

from lwz import types
from lwz.reward import components as components_lib
from lwz.reward import format as format_lib

PROMPT = types.Prompt('p0', 'Write ten words.', 8, 12)


def sample(answer, *, prompt=PROMPT, think='A plan.', closed=True):
  text = f'<think>{think}</think><answer>{answer}' + '</answer>' * closed
  return components_lib.Sample(prompt, text, format_lib.parse(text, 'think'))


def words(num):
  """So many different words, none of which repeats or resembles an earlier one."""
  letters = 'abcdefghijklmnopqrstuvwxyz'
  return ' '.join(letters[i] * 3 + letters[i // 2] for i in range(num)) + '.'


BROKEN = sample(words(10), closed=False)


def test_length_is_equation_3_of_the_answer_alone():
  samples = [sample(words(n), think=words(20)) for n in (4, 8, 10, 12, 16, 20, 24)]
  assert all(s.parsed.valid for s in samples)
  rewards = components_lib.length(samples, max_words=20)
  np.testing.assert_allclose(rewards, [0.5, 1, 1, 1, 0.5, 0, 0])


def test_length_reads_the_range_of_each_request():
  short, long = types.Prompt('a', 'Write.', 5, 5), types.Prompt('b', 'Write.', 20, 20)
  samples = [sample(words(10), prompt=short), sample(words(10), prompt=long)]
  np.testing.assert_allclose(components_lib.length(samples, max_words=25), [0.75, 0.5])


def test_format_is_what_is_not_redundant():
  loop = 'The rain fell on the roof of the old mill. '
  samples = [sample(words(10)), sample(loop * 4)]
  np.testing.assert_allclose(components_lib.format(samples), [1.0, 0.25])
  expected = [format_lib.format_reward(s.text, 'think') for s in samples]
  np.testing.assert_allclose(components_lib.format(samples), expected)


def test_writing_is_the_scorer_of_request_and_answer():
  asked = []

  def scorer(pairs):
    asked.extend(pairs)
    return np.array([0.2, 0.9])

  samples = [sample('One answer.'), BROKEN, sample('Another.', think='A secret.')]
  rewards = components_lib.writing(samples, scorer=scorer, floor=0.05)
  np.testing.assert_allclose(rewards, [0.2, 0.05, 0.9])
  assert asked == [('Write ten words.', 'One answer.'), ('Write ten words.', 'Another.')]


def test_the_scorer_is_not_asked_where_nothing_is_valid():
  def scorer(pairs):
    raise AssertionError(f'asked for {pairs}')

  rewards = components_lib.writing([BROKEN, BROKEN], scorer=scorer, floor=0.1)
  np.testing.assert_allclose(rewards, [0.1, 0.1])


def test_a_broken_structure_gets_the_floor_of_every_component():
  assert BROKEN.parsed.fault == 'unclosed_answer' and BROKEN.parsed.answer == words(10)
  both = [BROKEN, sample(words(10))]
  np.testing.assert_allclose(components_lib.length(both, max_words=20), [0, 1])
  np.testing.assert_allclose(components_lib.format(both), [0, 1])
  writing = components_lib.writing(both, scorer=lambda pairs: np.array([0.7]), floor=0.0)
  np.testing.assert_allclose(writing, [0, 0.7])


def test_values_stand_in_the_order_of_prompts_samples_and_components():
  P, G = 2, 3
  prompts = [types.Prompt(str(p), 'Write.', 5, 20) for p in range(P)]
  samples = [sample(f'{p} {g}', prompt=prompts[p]) for p in range(P) for g in range(G)]
  components = {
    'second': lambda s: np.array([float(x.prompt.id) for x in s]),
    'first': lambda s: np.array([float(x.parsed.answer[-1]) for x in s]),
  }
  rewards = {name: components_lib.per_answer(fn) for name, fn in components.items()}
  scores = components_lib.judge(samples, rewards, P)
  assert scores.values.shape == (P, G, 2) and scores.values.dtype == np.float32
  assert scores.valid.shape == (P, G) and scores.valid.all()
  for p in range(P):
    for g in range(G):
      assert tuple(scores.values[p, g]) == (p, g)


@pytest.mark.parametrize('failure', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('failed', ['one', 'two'])
def test_a_sample_that_any_judge_failed_on_is_invalid_and_no_other_is(failed, failure):
  values = {'one': np.array([0.1, 0.2, 0.3, 0.0]), 'two': np.array([0.5, 0.6, 0.7, 0.0])}
  values[failed][1] = failure
  scores = components_lib.scores(values, 2)
  np.testing.assert_array_equal(scores.valid, [[True, False], [True, True]])
  # A zero that was judged is a zero; what failed is not told apart from it by its value.
  expected = [[[0.1, 0.5], [0, 0]], [[0.3, 0.7], [0, 0]]]
  np.testing.assert_allclose(scores.values, expected, rtol=1e-6)


def test_a_scorer_that_fails_makes_its_sample_invalid_never_a_zero():
  samples = [sample(words(10)), sample(words(9)), BROKEN, sample(words(8))]
  components = {
    'length': functools.partial(components_lib.length, max_words=20),
    'writing': functools.partial(
      components_lib.writing, scorer=lambda pairs: np.array([0.4, np.nan, 0.6]), floor=0.0
    ),
    'format': components_lib.format,
  }
  rewards = {name: components_lib.per_answer(fn) for name, fn in components.items()}
  scores = components_lib.judge(samples, rewards, 1)
  np.testing.assert_array_equal(scores.valid, [[True, False, True, True]])
  expected = [[1, 0.4, 1], [0, 0, 0], [0, 0, 0], [1, 0.6, 1]]
  np.testing.assert_allclose(scores.values[0], expected, rtol=1e-6)


@pytest.mark.parametrize('values', [[0.5], [0.1, 0.2, 0.3]])
def test_a_reward_of_a_group_gives_one_number_per_sample(values):
  reward = components_lib.per_group(lambda group: np.array(values))
  with pytest.raises(ValueError, match='reshape'):
    reward.values([sample('One.'), sample('Two.')], 2)
