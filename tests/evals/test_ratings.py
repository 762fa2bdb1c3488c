"""Bradley-Terry and Elo: the likelihood's equation, an independent library, and the bootstrap."""

import numpy as np
import pytest

from lwz.evals import ratings

STRENGTHS = np.array([0.0, 0.5, 1.2, -0.8, 0.1])


def tournament(num=400, seed=0, ties=0.3):
  """Games among five players of known log-strengths, a share of them ties; prompts of 8 games."""
  rng = np.random.default_rng(seed)
  left = rng.integers(0, 5, num)
  right = (left + rng.integers(1, 5, num)) % 5
  p = 1 / (1 + np.exp(STRENGTHS[right] - STRENGTHS[left]))
  score = np.where(rng.random(num) < ties, 0.5, (rng.random(num) < p).astype(float))
  return ratings.Games(left, right, score, np.arange(num) // 8, 5, -(-num // 8))


def test_the_fit_is_where_expected_wins_are_wins():
  wins = tournament().wins().sum(0)
  rating = ratings.bradley_terry(wins)
  p = 1 / (1 + 10 ** ((rating[None, :] - rating[:, None]) / 400))
  expected = ((wins + wins.T) * p).sum(1)
  np.testing.assert_allclose(expected, wins.sum(1), atol=1e-8)
  assert rating.mean() == pytest.approx(1000)


def test_two_players_have_the_closed_form():
  # 3 wins of 4 are odds of 3: 400 log10(3) points.
  rating = ratings.bradley_terry(np.array([[0, 3.0], [1.0, 0]]))
  assert rating[0] - rating[1] == pytest.approx(400 * np.log10(3), abs=1e-9)


def test_strengths_are_found_again():
  rating = ratings.bradley_terry(tournament(20_000, ties=0.0).wins().sum(0))
  np.testing.assert_allclose(
    (rating - rating.mean()) / ratings.SCALE, STRENGTHS - STRENGTHS.mean(), atol=0.15
  )


def test_a_prior_is_ties_that_were_played():
  games = tournament(40)
  wins = games.wins().sum(0)
  met = (wins + wins.T) > 0
  np.testing.assert_allclose(
    ratings.bradley_terry(wins, prior=2.0), ratings.bradley_terry(wins + met), atol=1e-8
  )


def test_who_never_lost_needs_a_prior_and_who_never_played_has_no_rating():
  wins = np.zeros((4, 4))
  wins[0, 1] = wins[0, 2] = wins[1, 2] = 5.0
  with pytest.raises(ValueError, match='set a prior'):
    ratings.bradley_terry(wins)
  rating = ratings.bradley_terry(wins, prior=1.0)
  assert rating[0] > rating[1] > rating[2] and np.isnan(rating[3])
  assert np.isnan(ratings.bradley_terry(np.zeros((3, 3)))).all()


def test_elo_is_its_recurrence():
  # 1000 against 1000, k = 32: a win moves 16; then 1016 against 984 expects 0.5459.
  rating = ratings.elo(np.array([0, 0]), np.array([1, 1]), np.array([1.0, 0.5]), 2, k=32)
  expected = 1 / (1 + 10 ** ((984 - 1016) / 400))
  assert rating[0] == pytest.approx(1016 + 32 * (0.5 - expected))
  assert rating.sum() == pytest.approx(2000)


def test_a_resample_of_everything_is_the_fit_itself():
  games = tournament(396)  # the last prompt has fewer games
  samples = np.arange(games.num_prompts)[None]
  np.testing.assert_allclose(
    ratings.bootstrap_bradley_terry(games, samples, prior=1.0)[0],
    ratings.bradley_terry(games.wins().sum(0), prior=1.0),
    atol=1e-8,
  )
  np.testing.assert_allclose(
    ratings.bootstrap_elo(games, samples)[0],
    ratings.elo(games.left, games.right, games.score, 5),
    atol=1e-9,
  )


def test_prompts_are_resampled_not_games():
  """Copying each prompt's games ten times adds no information: intervals keep their width."""
  games = tournament(160)
  copied = ratings.Games(
    *(np.repeat(x, 10) for x in (games.left, games.right, games.score, games.prompt)), 5, 20
  )
  samples = ratings.resample(20, 300, seed=1)
  widths = []
  for played, prior in ((games, 1.0), (copied, 10.0)):
    low, high = ratings.interval(ratings.bootstrap_bradley_terry(played, samples, prior=prior))
    widths.append(high - low)
  np.testing.assert_allclose(*widths, rtol=1e-6)


def test_intervals_cover():
  """95 % intervals of a fair player's rating hold the truth in about 95 of 100 arenas."""
  covered = 0
  for seed in range(100):
    rng = np.random.default_rng(seed)
    score = (rng.random(60) < 0.5).astype(float)
    pair = np.zeros(60, int), np.ones(60, int)
    games = ratings.Games(*pair, score, np.arange(60), 2, 60)
    samples = ratings.resample(60, 200, seed)
    low, high = ratings.interval(ratings.bootstrap_bradley_terry(games, samples, prior=1.0))
    covered += low[0] <= 1000 <= high[0]
  assert 88 <= covered <= 100


def test_an_independent_library_agrees():
  evalica = pytest.importorskip('evalica')
  games = tournament()
  names = [str(i) for i in range(5)]
  winners = [
    {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}[s] for s in games.score
  ]
  xs, ys = [names[i] for i in games.left], [names[i] for i in games.right]
  fitted = evalica.bradley_terry(xs, ys, winners, tolerance=1e-14, limit=100_000).scores
  theirs = 400 * np.log10(fitted[names].to_numpy())
  ours = ratings.bradley_terry(games.wins().sum(0))
  np.testing.assert_allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-6)
  theirs = evalica.elo(xs, ys, winners, initial=1000, k=4).scores[names].to_numpy()
  ours = ratings.elo(games.left, games.right, games.score, 5, k=4)
  np.testing.assert_allclose(ours, theirs, atol=1e-6)
