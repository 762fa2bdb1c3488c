"""Scores without origin or unit become rewards between 0 and 1, in the same order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwz.reward import writing

SCALE = writing.Scale(mean=3.0, std=2.0)


def test_by_hand():
  # Standard scores 0, log 3 and -log 3.
  scores = 3 + 2 * np.array([0, np.log(3), -np.log(3)])
  np.testing.assert_allclose(writing.squash(scores, SCALE), [1 / 2, 3 / 4, 1 / 4], rtol=1e-12)


@given(st.floats(-60, 60), st.floats(-60, 60))
def test_a_better_score_is_never_a_lower_reward(a, b):
  low, high = writing.squash(np.array(sorted([a, b])), SCALE)
  assert 0 < low <= high < 1


def test_scores_that_differ_by_a_hundredth_of_the_spread_are_told_apart():
  rewards = writing.squash(3 + 2 * np.arange(-10, 10, 0.01), SCALE)
  assert np.all(np.diff(rewards) > 0)
  assert np.all(np.diff(rewards.astype(np.float32)) > 0)


@given(st.floats(-30, 30))
def test_it_is_symmetric_about_the_mean(distance):
  low, high = writing.squash(3.0 + np.array([-distance, distance]), SCALE)
  assert low + high == pytest.approx(1, abs=1e-12)


def test_neither_origin_nor_unit_of_the_scores_matters():
  scores = np.linspace(-5, 9, 8)
  moved = writing.squash(10 * scores + 7, writing.Scale(mean=37.0, std=20.0))
  np.testing.assert_allclose(moved, writing.squash(scores, SCALE), rtol=1e-12)


def test_no_score_overflows():
  # Warnings are errors here.
  scores = np.array([-1e308, -1e5, -1500.0, 1500.0, 1e5, 1e308])
  rewards = writing.squash(scores, SCALE)
  np.testing.assert_allclose(rewards, [0, 0, 0, 1, 1, 1], atol=1e-300)
  assert np.all(np.diff(rewards) >= 0)
  in_float32 = writing.squash(np.array([-3e38, 3e38], np.float32), SCALE)
  np.testing.assert_array_equal(in_float32, [0, 1])


def test_a_score_that_failed_stays_failed():
  rewards = writing.squash(np.array([np.nan, 3.0]), SCALE)
  np.testing.assert_array_equal(rewards, [np.nan, 0.5])


@pytest.mark.parametrize('std', [0.0, -1.0, float('nan')])
def test_scores_without_spread_have_no_unit(std):
  with pytest.raises(ValueError, match='std='):
    writing.Scale(mean=0.0, std=std)


# --- several reward models, and one elsewhere

PAIRS = [('Write.', 'One.'), ('Write.', 'Two.'), ('Sing.', 'Three.')]


def test_the_lower_bound_by_hand():
  rewards = np.array([[0.6, 0.9, 0.1], [0.6, 0.3, 0.9]])
  spread = np.array([0, 0.3, 0.4]) * np.sqrt(2)
  np.testing.assert_allclose(writing.lower_bound(rewards, 0.5), [0.6, 0.6, 0.5] - 0.5 * spread)
  np.testing.assert_allclose(writing.lower_bound(rewards, 0.0), [0.6, 0.6, 0.5])
  np.testing.assert_allclose(writing.lower_bound(rewards[:1], 9.0), rewards[0])
  np.testing.assert_allclose(writing.lower_bound(rewards, 9.0), [0.6, 0, 0])


def test_where_models_disagree_the_reward_is_lower():
  same = writing.lower_bound(np.array([[0.5], [0.5], [0.5]]), 1.0)
  apart = writing.lower_bound(np.array([[0.1], [0.5], [0.9]]), 1.0)
  assert apart < same


def test_an_ensemble_asks_every_model_and_fails_where_one_does():
  members = [lambda pairs: np.array([0.4, np.nan, 0.8]), lambda pairs: np.array([0.4, 0.5, 0.6])]
  rewards = writing.ensemble(members, 0.0)(PAIRS)
  np.testing.assert_allclose(rewards, [0.4, np.nan, 0.7])


def test_a_server_is_asked_in_batches_and_a_call_that_fails_masks_its_pairs():
  asked = []

  def post(payload, read):
    asked.append(payload)
    if payload['pairs'][0]['answer'] == 'Three.':
      raise TimeoutError
    return read({'scores': [0.25, None]})

  rewards = writing.remote(post, faults=(TimeoutError,), batch=2)(PAIRS)
  np.testing.assert_array_equal(rewards, [0.25, np.nan, np.nan])
  assert asked[0] == {
    'pairs': [{'prompt': 'Write.', 'answer': 'One.'}, {'prompt': 'Write.', 'answer': 'Two.'}]
  }
  assert len(asked) == 2


def test_a_servers_raw_scores_are_squashed():
  answer = {'scores': [3, 5.0, -99]}
  score = writing.remote(lambda payload, read: read(answer), faults=(), scale=SCALE)
  np.testing.assert_allclose(score(PAIRS), writing.squash(np.array([3, 5, -99]), SCALE))


@pytest.mark.parametrize(
  ('answer', 'said'),
  [
    ({'scores': [0.1]}, 'asked for 3 scores'),
    ({'scores': [0.1, 0.2, True]}, 'asked for 3 scores'),
    ({'scores': [0.1, 0.2, 10**400]}, 'asked for 3 scores'),
    ({'scores': ['0.1', 0.2, 0.3]}, 'asked for 3 scores'),
    ([0.1, 0.2, 0.3], 'asked for 3 scores'),
    ({'scores': [0.1, 0.2, 1.3]}, r'reward\.mean'),
  ],
)
def test_a_server_that_answers_something_else_is_named(answer, said):
  with pytest.raises(ValueError, match=said):
    writing.remote(lambda payload, read: read(answer), faults=())(PAIRS)
