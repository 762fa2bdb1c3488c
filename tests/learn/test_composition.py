"""Compositions: equations by hand, and that a masked sample changes nothing for its siblings."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.learn import advantage, composition

ALL = np.ones((1, 4), bool)
LAST = {'constraint_R': np.array([False, False, True]), 'satisfied': 0.5}  # the third of three
FORMS = {
  'sum': composition.weighted_sum,
  'product': composition.product,
  'veto': functools.partial(composition.veto, **LAST),
  'violators': functools.partial(composition.violators, **LAST),
}


def random(P=5, G=6, seed=0):
  return np.random.default_rng(seed).random((P, G, 3)).astype(np.float32)


def test_a_sum_and_a_product_by_hand():
  scores = jnp.array([[[0.5, 1.0, 0.25], [0.0, 1.0, 1.0]]])
  weights, valid = jnp.array([1.0, 3.0, 2.0]), ALL[:, :2]
  assert composition.weighted_sum(scores, weights, valid).tolist() == [[4.0, 5.0]]
  assert composition.product(scores, weights, valid).tolist() == [[0.5 * 0.25**2, 0.0]]
  left_out = composition.product(scores, jnp.array([0.0, 3.0, 2.0]), valid)
  assert left_out.tolist() == [[0.25**2, 1.0]]  # 0 ** 0 is 1: what has no weight is no gate
  below = composition.product(scores - 2.0, weights, valid)  # overlong may go below 0
  assert below.tolist() == [[0.0, 0.0]]


def test_the_sum_compared_is_the_mean_reward_of_the_papers_ablation():
  scores, weights, valid = random(), jnp.array([0.5, 0.25, 0.25]), np.ones((5, 6), bool)
  composed = composition.weighted_sum(scores, weights, valid)
  found = advantage.mean_reward(composed[:, :, None], jnp.ones(1), valid)
  expected = advantage.mean_reward(scores, weights, valid)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_veto_leaves_the_quality_of_the_others_or_nothing():
  scores = jnp.array([[[0.2, 0.8, 0.5], [0.2, 0.8, 0.49], [1.0, 1.0, 0.0], [-0.5, -0.5, 1.0]]])
  found = composition.veto(scores, jnp.array([1.0, 3.0, 9.0]), ALL, **LAST)
  np.testing.assert_allclose(found, [[0.65, 0.0, 0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize('seed', range(5))
def test_no_violator_has_an_advantage_above_zero_and_the_best_lies_the_margin_below(seed):
  scores, weights = random(200, 6, seed), jnp.array([1.0, 2.0, 1.0])
  valid = np.random.default_rng(seed).random((200, 6)) < 0.8
  found = np.asarray(composition.violators(scores, weights, valid, **LAST))
  broken = valid & (scores[:, :, 2] < 0.5)
  quality = (scores[:, :, 0] + 2 * scores[:, :, 1]) / 3
  centred = np.asarray(advantage.centred(found, valid))
  for p in range(200):
    here, bad = valid[p], broken[p]
    if not bad.any():
      np.testing.assert_allclose(found[p][here], quality[p][here], rtol=1e-5)
    elif bad.sum() == here.sum():
      assert (centred[p] == 0).all()  # none of them is what it should be
    else:
      fine = here & ~bad
      np.testing.assert_allclose(found[p][fine], quality[p][fine], rtol=1e-5)
      ahead = max(quality[p][bad].max() - quality[p][here].mean(), 0.0)
      assert centred[p][bad].max() <= -composition.MARGIN + 1e-5
      if ahead:
        assert centred[p][bad].max() == pytest.approx(-composition.MARGIN, abs=1e-5)
      less = quality[p][bad] - found[p][bad]
      np.testing.assert_allclose(less, less[0], atol=1e-5)  # all by the same


@pytest.mark.parametrize('name', FORMS)
def test_what_is_masked_is_nobodys_sibling(name):
  scores, weights, valid = random(), jnp.array([1.0, 2.0, 1.0]), np.ones((5, 6), bool)
  valid[:, 2] = False
  kept = np.delete(np.arange(6), 2)
  alone = FORMS[name](scores[:, kept], weights, valid[:, kept])
  for other in (0.0, 1.0, np.nan):
    scores[:, 2] = other
    found = np.asarray(FORMS[name](scores, weights, valid))
    np.testing.assert_allclose(found[:, kept], alone, atol=1e-6)
    assert (found[:, 2] == 0).all()


@pytest.mark.parametrize('name', FORMS)
def test_groups_are_composed_alone(name):
  scores, weights, valid = random(), jnp.array([1.0, 2.0, 1.0]), np.ones((5, 6), bool)
  whole = FORMS[name](scores, weights, valid)
  parts = [FORMS[name](scores[p : p + 1], weights, valid[p : p + 1]) for p in range(5)]
  np.testing.assert_array_equal(whole, np.concatenate(parts))
