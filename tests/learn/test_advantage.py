"""Advantages by hand, and what they do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwz.learn import advantage


def normalised(rewards, eps=1e-4):
  """The equation for one group, in float64."""
  rewards = np.asarray(rewards, np.float64)
  return (rewards - rewards.mean()) / (rewards.std(ddof=1) + eps)


def scores(seed=0, P=3, G=4, R=3):
  return np.random.default_rng(seed).random((P, G, R)).astype(np.float32)


def test_group_relative_by_hand():
  # Means 0.5 and 2; sample standard deviations sqrt(1/2) and 1 (not 0.5 and sqrt(2/3)).
  two = advantage.group_relative(jnp.array([[0.0, 1.0]]), eps=0.0)
  np.testing.assert_allclose(two, [[-np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)
  three = advantage.group_relative(jnp.array([[1.0, 2.0, 3.0]]), eps=0.0)
  np.testing.assert_allclose(three, [[-1, 0, 1]], atol=1e-6)
  default = advantage.group_relative(jnp.array([[0.0, 1.0]]))
  np.testing.assert_allclose(default[0, 1], 0.5 / (np.sqrt(0.5) + 1e-4), rtol=1e-6)
  large = advantage.group_relative(jnp.array([[1.0, 2.0, 3.0]]), eps=1.0)
  np.testing.assert_allclose(large, [[-0.5, 0, 0.5]], atol=1e-6)


def test_group_relative_is_the_equation_in_each_group_alone():
  reward_PG = scores()[:, :, 0] * np.array([[1], [1e-3], [100]], np.float32)
  expected = np.stack([normalised(group) for group in reward_PG])
  for function in (advantage.group_relative, jax.jit(advantage.group_relative)):
    np.testing.assert_allclose(function(reward_PG), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
  st.lists(st.integers(0, 64), min_size=4, max_size=4),
  st.integers(-4, 4),
  st.sampled_from([0.25, 1.0, 8.0]),
)
def test_neither_origin_nor_unit_of_the_rewards_matters(rewards, shift, scale):
  # Multiples of 1/64: sums and scales by powers of two are exact, only eps tells the unit.
  reward_PG = np.array([rewards], np.float32) / 64
  one = np.asarray(advantage.group_relative(reward_PG))
  np.testing.assert_array_equal(advantage.group_relative(reward_PG + shift), one)
  other = advantage.group_relative(reward_PG * scale + shift)
  np.testing.assert_allclose(other, one, rtol=0.05)
  exact = advantage.group_relative(reward_PG * scale, eps=1e-4 * scale)
  np.testing.assert_allclose(exact, one, rtol=1e-5)


def test_advantages_of_a_group_sum_to_zero():
  for seed in range(5):
    advantage_PG = advantage.group_relative(scores(seed)[:, :, 0])
    np.testing.assert_allclose(np.sum(advantage_PG, axis=1), 0, atol=1e-5)


@pytest.mark.parametrize('G', [1, 2, 3, 7, 32])
@pytest.mark.parametrize('value', [0.0, 0.1, 1 / 3, 1.0, -7.7, 1e6])
def test_a_group_without_spread_gets_exactly_zero(value, G):
  reward_PG = np.full((2, G), value, np.float32)
  for function in (advantage.group_relative, jax.jit(advantage.group_relative)):
    np.testing.assert_array_equal(function(reward_PG), np.zeros((2, G)))
    np.testing.assert_array_equal(function(reward_PG, eps=0.0), np.zeros((2, G)))
  assert not np.any(advantage.spread(reward_PG))


def test_spread_is_of_valid_rewards_only():
  reward_PG = jnp.array([[1.0, 1.0, 2.0], [1.0, 3.0, jnp.nan], [1.0, jnp.nan, jnp.nan]])
  valid_PG = jnp.array([[True, True, False], [True, True, False], [True, False, False]])
  np.testing.assert_array_equal(advantage.spread(reward_PG, valid_PG), [False, True, False])
  none = advantage.spread(reward_PG, jnp.zeros((3, 3), bool))
  np.testing.assert_array_equal(none, [False] * 3)


@pytest.mark.parametrize('junk', [np.nan, np.inf, -np.inf, 1e30, 0.0])
def test_an_invalid_sample_counts_nowhere_and_learns_nothing(junk):
  reward_PG = scores(1, P=3, G=5)[:, :, 0]
  valid_PG = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
  reward_PG[~valid_PG] = junk
  actual = np.asarray(advantage.group_relative(reward_PG, valid_PG))
  np.testing.assert_allclose(actual[0, [0, 1, 3]], normalised(reward_PG[0, [0, 1, 3]]), rtol=1e-5)
  np.testing.assert_array_equal(actual[~valid_PG], 0)
  np.testing.assert_array_equal(actual[1:], 0)  # a lone survivor has no siblings


@pytest.mark.parametrize('function', [advantage.balanced, advantage.mean_reward])
def test_an_invalid_sample_counts_in_no_component(function):
  scores_PGR = scores(2, G=5)
  valid_PG = np.ones((3, 5), bool)
  valid_PG[:, 2] = False
  clean = function(np.delete(scores_PGR, 2, axis=1))
  for junk in (np.nan, np.inf, 0.0):
    for r in range(3):
      dirty = scores_PGR.copy()
      dirty[:, 2, r] = junk
      actual = np.asarray(function(dirty, None, valid_PG))
      np.testing.assert_allclose(np.delete(actual, 2, axis=1), clean, rtol=1e-5, atol=1e-6)
      np.testing.assert_array_equal(actual[:, 2], 0)


def test_balanced_is_the_mean_of_the_normalised_components():
  scores_PGR = scores()
  parts = [advantage.group_relative(scores_PGR[:, :, r]) for r in range(3)]
  expected = (parts[0] + parts[1] + parts[2]) / 3
  np.testing.assert_allclose(advantage.balanced(scores_PGR), expected, rtol=1e-5, atol=1e-6)


def test_mean_reward_is_the_normalised_mean():
  scores_PGR = scores()
  expected = advantage.group_relative(scores_PGR.mean(axis=-1))
  np.testing.assert_allclose(advantage.mean_reward(scores_PGR), expected, rtol=1e-4, atol=1e-6)


def test_balanced_and_mean_reward_by_hand():
  # One component speaks from 0 to 1, the other, in disagreement, from 0 to 0.01.
  scores_PGR = jnp.array([[[0.0, 0.01], [1.0, 0.0]]])
  np.testing.assert_allclose(advantage.balanced(scores_PGR)[0], [0, 0], atol=0.01)
  mean = advantage.mean_reward(scores_PGR)[0]
  np.testing.assert_allclose(mean, [-np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-3)


def test_one_component_alone_is_group_relative():
  scores_PGR = scores(R=1)
  expected = advantage.group_relative(scores_PGR[:, :, 0])
  for function in (advantage.balanced, advantage.mean_reward):
    np.testing.assert_array_equal(function(scores_PGR), expected)


def test_no_component_outweighs_another_by_its_scale():
  scores_PGR = scores()
  rescaled = scores_PGR * np.array([1, 20, 1], np.float32)
  before, after = advantage.balanced(scores_PGR), advantage.balanced(rescaled)
  np.testing.assert_allclose(after, before, atol=1e-3)
  before, after = advantage.mean_reward(scores_PGR), advantage.mean_reward(rescaled)
  assert np.max(np.abs(after - before)) > 0.3


def test_a_component_without_spread_is_silent_but_still_counted():
  scores_PGR = scores()
  scores_PGR[:, :, 2] = 0.1
  parts = [advantage.group_relative(scores_PGR[:, :, r]) for r in range(2)]
  expected = (parts[0] + parts[1]) / 3
  np.testing.assert_allclose(advantage.balanced(scores_PGR), expected, rtol=1e-5, atol=1e-6)


def test_weights_by_hand():
  scores_PGR = scores()
  parts = [advantage.group_relative(scores_PGR[:, :, r]) for r in range(3)]
  expected = (2 * parts[0] + parts[1]) / 3
  for weights_R in (np.array([2, 1, 0]), jnp.array([1.0, 0.5, 0.0]), np.array([0.2, 0.1, 0.0])):
    actual = advantage.balanced(scores_PGR, weights_R)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
  expected = advantage.group_relative((2 * scores_PGR[:, :, 0] + scores_PGR[:, :, 1]) / 3)
  actual = advantage.mean_reward(scores_PGR, np.array([2, 1, 0]))
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('function', [advantage.balanced, advantage.mean_reward])
def test_equal_weights_are_no_weights(function):
  expected = function(scores())
  np.testing.assert_allclose(function(scores(), jnp.full(3, 0.7)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('function', [advantage.balanced, advantage.mean_reward])
def test_siblings_may_stand_in_any_order_and_groups_do_not_meet(function):
  scores_PGR, order = scores(), np.array([2, 0, 3, 1])
  one = np.asarray(function(scores_PGR))
  np.testing.assert_allclose(function(scores_PGR[:, order]), one[:, order], rtol=1e-4, atol=1e-6)
  other = scores_PGR.copy()
  other[1:] = 0.0
  np.testing.assert_array_equal(function(other)[0], one[0])


def test_rewards_and_masks_may_be_of_any_kind():
  reward_PG = np.array([[0, 1, 1, 0], [1, 1, 1, 0]])
  valid_PG = np.array([[1, 1, 1, 0], [1, 1, 1, 0]])
  expected = advantage.group_relative(
    jnp.asarray(reward_PG, jnp.float32), jnp.asarray(valid_PG, bool)
  )
  for cast in (np.asarray, jnp.asarray):
    for dtype in (np.int32, np.float32, jnp.bfloat16):
      for mask in (bool, np.int32, np.float32):
        args = cast(reward_PG.astype(dtype)), cast(valid_PG.astype(mask))
        actual = advantage.group_relative(*args)
        assert actual.dtype == jnp.float32
        np.testing.assert_array_equal(actual, expected)
  stacked = np.stack([reward_PG, reward_PG], axis=-1).astype(np.float64)
  for function in (advantage.balanced, advantage.mean_reward):
    np.testing.assert_allclose(function(stacked, np.array([1, 1]), valid_PG), expected, rtol=1e-6)


def test_centred_and_leave_one_out_by_hand():
  reward_PG = jnp.array([[0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
  np.testing.assert_allclose(advantage.centred(reward_PG), [[-1, -1, 2], [0, 0, 0]])
  # Of the others: the first sample's siblings have the mean 1.5, the last one's the mean 0.
  np.testing.assert_allclose(advantage.leave_one_out(reward_PG), [[-1.5, -1.5, 3], [0, 0, 0]])


RELATIVES = [advantage.group_relative, advantage.centred, advantage.leave_one_out]


@pytest.mark.parametrize('relative', RELATIVES)
def test_every_comparison_leaves_invalid_samples_out(relative):
  reward_PG = scores(1, P=3, G=5)[:, :, 0]
  valid_PG = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
  reward_PG[~valid_PG] = np.nan
  actual = np.asarray(relative(reward_PG, valid_PG))
  alone = relative(reward_PG[:1, [0, 1, 3]])
  np.testing.assert_allclose(actual[:1, [0, 1, 3]], alone, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(actual[~valid_PG], 0)
  np.testing.assert_array_equal(actual[1:], 0)


def test_mean_reward_compares_as_it_is_told():
  scores_PGR = scores()
  for relative in RELATIVES:
    actual = advantage.mean_reward(scores_PGR, relative=relative)
    np.testing.assert_allclose(actual, relative(scores_PGR.mean(-1)), rtol=1e-4, atol=1e-6)


def gdpo(scores_PGR, weights_R):
  """normalize_then_sum as TRL has it, in float64."""
  scores_PGR = np.asarray(scores_PGR, np.float64)
  std = scores_PGR.std(axis=1, ddof=1, keepdims=True)
  parts = (scores_PGR - scores_PGR.mean(axis=1, keepdims=True)) / (std + 1e-4)
  total = (parts * weights_R).sum(-1)
  return (total - total.mean()) / (total.std(ddof=1) + 1e-4)


def test_batch_balanced_is_the_equation():
  scores_PGR = scores(P=4, G=6)
  for weights in (np.ones(3), np.array([2.0, 1.0, 0.5])):
    actual = advantage.batch_balanced(scores_PGR, weights)
    np.testing.assert_allclose(actual, gdpo(scores_PGR, weights), rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(
    advantage.batch_balanced(scores_PGR), advantage.batch_balanced(scores_PGR, np.ones(3))
  )


def test_batch_balanced_has_unit_spread_however_many_rewards_agree():
  scores_PGR = scores(P=4, G=6, R=1)
  one = np.asarray(advantage.batch_balanced(scores_PGR))
  three = np.asarray(advantage.batch_balanced(np.repeat(scores_PGR, 3, axis=-1)))
  np.testing.assert_allclose(one.std(ddof=1), 1, rtol=1e-3)
  np.testing.assert_allclose(three, one, rtol=1e-3)


def test_batch_balanced_leaves_out_invalid_samples_and_silent_groups():
  scores_PGR, valid_PG = scores(P=4, G=6), np.ones((4, 6), bool)
  scores_PGR[3] = 0.7
  valid_PG[0, 2], scores_PGR[0, 2] = False, np.nan
  actual = np.asarray(advantage.batch_balanced(scores_PGR, None, valid_PG))
  np.testing.assert_array_equal(actual[3], 0)
  assert actual[0, 2] == 0 and np.all(np.isfinite(actual))
  same = advantage.batch_balanced(np.delete(scores_PGR[:3], 2, axis=1))
  kept = advantage.batch_balanced(scores_PGR[:3], None, valid_PG[:3] & (np.arange(6) != 2))
  np.testing.assert_allclose(np.delete(np.asarray(kept), 2, axis=1), same, rtol=1e-4, atol=1e-6)


def test_a_reward_of_weight_zero_leaves_a_silent_group_silent():
  scores_PGR = scores(P=3, G=4)
  scores_PGR[2, :, :2] = 0.7  # they differ in the last reward alone
  actual = np.asarray(advantage.batch_balanced(scores_PGR, np.array([1.0, 1.0, 0.0])))
  np.testing.assert_array_equal(actual[2], 0)
  assert np.all(actual[:2] != 0)


def test_groups_with_spread_are_chosen_first_and_the_missing_are_counted():
  assert advantage.choose_groups([False, True, True, False], 3) == [1, 2, 0]
  assert advantage.choose_groups([True, True, True], 2) == [0, 1]
  assert advantage.choose_groups(np.array([False, False]), 2) == [0, 1]
  with pytest.raises(ValueError, match='1 groups were sampled, 2 are to be chosen'):
    advantage.choose_groups([True], 2)


def test_measures_by_hand():
  scores_PGR = np.zeros((4, 2, 2), np.float32)
  scores_PGR[0] = [[0, 0], [1, 1]]
  scores_PGR[1] = [[0, 5], [1, 5]]
  found = advantage.measure(scores_PGR, ['length', 'format'])
  assert found['zero_variance/all'] == 0.5
  assert found['zero_variance/length'] == 0.5 and found['zero_variance/format'] == 0.75
  np.testing.assert_allclose(found['advantage/length'], 0.7071 / 2, rtol=1e-3)
  np.testing.assert_allclose(found['advantage/format'], 0.7071 / 4, rtol=1e-3)
