"""The rating of one player against anchors: players with known, fixed ratings.

Ratings of a policy at different training steps are comparable, since all use the same anchors; in a
joint arena, each new player would change the ratings of the others.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lwz.evals import ratings, standings


def against(
  wins: np.ndarray, games: np.ndarray, anchors: np.ndarray, *, prior: float
) -> np.ndarray:
  """The Bradley-Terry rating R (Elo scale) of a player that beat anchor j `wins[..., j]` times.

      sum_j wins_j + prior / 2 - (games_j + prior) / (1 + 10^((anchor_j - R) / 400)) = 0

  over the anchors with games in any problem. `prior` ties with each keep R finite. Leading
  dimensions are independent problems. R is NaN without games; anchors whose rating is NaN are
  ignored.

  Raises ValueError unless prior > 0.
  """
  if prior <= 0:
    raise ValueError(f'prior={prior} must be above 0: who never lost has no finite rating')
  wins, games = np.asarray(wins, float), np.asarray(games, float)
  met = (games.reshape(-1, games.shape[-1]).sum(0) > 0) & np.isfinite(anchors)
  if not met.any():
    return np.full(games.shape[:-1], np.nan)
  wins = wins[..., met].sum(-1) + prior / 2 * met.sum()
  games, anchors = games[..., met] + prior, np.asarray(anchors, float)[met]
  # Outside these bounds, the win rate against the last anchor is beyond that of the prior alone.
  span = 400 * np.log10(2 * games.sum(-1) / prior)
  low, high = anchors.min() - span, anchors.max() + span
  for _ in range(60):
    middle = (low + high) / 2
    chance = 1 / (1 + 10 ** ((anchors - middle[..., None]) / 400))
    above = (games * chance).sum(-1) > wins
    low, high = np.where(above, low, middle), np.where(above, middle, high)
  return (low + high) / 2


def rate(
  found: Sequence[standings.Pairing], player: str, anchors: Mapping[str, float], seed: int
) -> dict[str, float]:
  """A player's `rating` against the anchors, its 95 % interval `low` to `high`, and `win_rate`.

  The interval comes from a bootstrap over prompts; a tie is half a win. All are NaN without games,
  and so is the interval of a single prompt.
  """
  own = [(p.idx, p.other, p.score) for p in found if p.one == player]
  own += [(p.idx, p.one, 1 - p.score) for p in found if p.other == player]
  own = [(idx, other, score) for idx, other, score in own if other in anchors]
  if not own:
    return dict.fromkeys(('rating', 'low', 'high', 'win_rate'), float('nan'))
  place = {idx: t for t, idx in enumerate(sorted({idx for idx, _, _ in own}))}
  column = {name: j for j, name in enumerate(anchors)}
  wins, games = np.zeros((2, len(place), len(anchors)))
  for idx, other, score in own:
    wins[place[idx], column[other]] += score
    games[place[idx], column[other]] += 1
  known = np.array(list(anchors.values()), float)
  samples = ratings.resample(len(place), standings.NUM_RESAMPLES, seed)
  weights = ratings.counts(samples, len(place))
  prior = standings.PRIOR
  low, high = ratings.interval(against(weights @ wins, weights @ games, known, prior=prior))
  if len(place) < 2:
    low, high = np.full(2, np.nan)
  return {
    'rating': float(against(wins.sum(0), games.sum(0), known, prior=prior)),
    'low': float(low),
    'high': float(high),
    'win_rate': float(np.mean([score for _, _, score in own])),
  }
