"""A rating among anchors."""

import numpy as np
import pytest

from lwz.evals import anchors, ratings, standings


def test_among_the_ratings_of_an_arena_it_is_the_arenas_own():
  rng = np.random.default_rng(0)
  games = np.triu(rng.integers(2, 9, (5, 5)), 1)
  games = games + games.T
  above = np.triu(rng.integers(0, 2 * games + 1) / 2, 1)
  wins = above + np.tril(games - above.T, -1)
  for prior in (0.5, 2.0):
    strength = ratings.bradley_terry(wins, prior=prior)
    for i in range(5):
      rest = np.arange(5) != i
      found = anchors.against(wins[i, rest], games[i, rest], strength[rest], prior=prior)
      np.testing.assert_allclose(found, strength[i], atol=1e-6)


def test_one_anchor_by_hand():
  # Nine wins of nine and a tie: 10^(d / 400) = 9.5 / 0.5.
  expected = 1000 + 400 * np.log10(9.5 / 0.5)
  found = anchors.against(np.array([[9.0], [0.0]]), np.full((2, 1), 9), np.array([1000.0]), prior=1)
  np.testing.assert_allclose(found, [expected, 2000 - expected])


def test_who_was_not_met_or_has_no_rating_counts_for_nothing():
  known = np.array([900.0, 2000.0, np.nan])
  one = anchors.against(np.array([3.0]), np.array([4]), known[:1], prior=1)
  assert anchors.against(np.array([3.0, 0, 2]), np.array([4, 0, 2]), known, prior=1) == one
  assert np.isnan(anchors.against(np.zeros(3), np.zeros(3), known, prior=1))
  with pytest.raises(ValueError, match='prior=0'):
    anchors.against(np.ones(1), np.ones(1), known[:1], prior=0)


def test_a_player_is_rated_whichever_side_it_stood_on():
  found = [
    standings.Pairing(1, 'me', 'base', 1.0),
    standings.Pairing(2, 'base', 'me', 0.0),
    standings.Pairing(3, 'base', 'me', 0.5),
    standings.Pairing(3, 'base', 'other', 1.0),
  ]
  row = anchors.rate(found, 'me', {'base': 1000.0}, 0)
  assert row['win_rate'] == pytest.approx(2.5 / 3)
  assert row['rating'] == pytest.approx(1000 + 400 * np.log10(3 / 1))
  assert 1000 <= row['low'] <= row['rating'] <= row['high']
  alone = anchors.rate(found[:1], 'me', {'base': 1000.0}, 0)  # one prompt has no interval
  assert alone['rating'] > 1000 and np.isnan([alone['low'], alone['high']]).all()
  assert np.isnan(list(anchors.rate(found[:3], 'other', {'base': 1000.0}, 0).values())).all()
