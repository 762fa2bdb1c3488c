"""Ratings from games: Bradley-Terry and sequential Elo, with intervals from a bootstrap.

A game is (left, right, score): the score of `left` is 1 for a win, 0.5 for a tie, 0 for a loss.
Games on one prompt are not independent, so the bootstrap resamples prompts.
"""

import dataclasses

import numpy as np
from scipy import sparse

SCALE = 400 / np.log(10)  # Elo points per unit of log-strength


@dataclasses.dataclass(frozen=True)
class Games:
  """N games between players 0 ... num_players - 1 on prompts 0 ... num_prompts - 1."""

  left: np.ndarray  # int [N]
  right: np.ndarray  # int [N]
  score: np.ndarray  # float [N]
  prompt: np.ndarray  # int [N]
  num_players: int
  num_prompts: int

  def wins(self) -> np.ndarray:
    """How often i beat j on each prompt, a tie being half a win of both: [num_prompts, n, n]."""
    out = np.zeros((self.num_prompts, self.num_players, self.num_players))
    np.add.at(out, (self.prompt, self.left, self.right), self.score)
    np.add.at(out, (self.prompt, self.right, self.left), 1.0 - self.score)
    return out


def bradley_terry(wins: np.ndarray, *, prior: float = 0.0, mean: float = 1000.0) -> np.ndarray:
  """Maximum-likelihood Bradley-Terry ratings R on the Elo scale, centred on `mean`: [..., n].

  P(i beats j) = 1 / (1 + 10^((R_j - R_i) / 400)). `wins[..., i, j]` is how often i beat j, with
  halves; leading dimensions are independent problems. `prior` adds that many ties to each pair with
  games in any problem, so that a player that never lost has a finite rating. Players outside the
  largest group connected by games have the rating NaN.

  Raises ValueError if prior is 0 and ratings are infinite: some group never lost.
  """
  wins = np.asarray(wins, float)
  met = (wins + np.swapaxes(wins, -1, -2)).reshape(-1, *wins.shape[-2:]).sum(0) > 0
  wins = wins + 0.5 * prior * met
  out = np.full(wins.shape[:-1], np.nan)
  _, label = sparse.csgraph.connected_components(met, directed=False)
  group = np.flatnonzero(label == np.bincount(label).argmax())
  if len(group) < 2:
    return out
  wins = wins[..., group[:, None], group[None, :]]
  if prior == 0:
    for problem in wins.reshape(-1, len(group), len(group)):
      count, _ = sparse.csgraph.connected_components(problem > 0, connection='strong')
      if count > 1:
        raise ValueError('some players never lost to the others, or never met them: set a prior')
  out[..., group] = SCALE * _newton(wins) + mean
  return out


def _newton(wins: np.ndarray) -> np.ndarray:
  """Centred log-strengths theta [..., n] at the maximum of the likelihood, by Newton's method.

  gradient_i = sum_j wins_ij - games_ij sigmoid(theta_i - theta_j)
  """
  games = wins + np.swapaxes(wins, -1, -2)
  n = wins.shape[-1]
  theta = np.zeros(wins.shape[:-1])
  for _ in range(200):
    p = 1 / (1 + np.exp(theta[..., None, :] - theta[..., :, None]))
    gradient = (wins - games * p).sum(-1)
    curvature = games * p * (1 - p)
    hessian = curvature.sum(-1)[..., None] * np.eye(n) - curvature
    # The likelihood does not depend on the mean: a constant makes the matrix regular, the mean 0.
    step = np.linalg.solve(hessian + 1e-9 * np.eye(n) + 1 / n, gradient[..., None])[..., 0]
    step = np.clip(step, -1, 1)
    theta = theta + step
    theta -= theta.mean(-1, keepdims=True)
    if np.abs(step).max() < 1e-12:
      break
  return theta


def elo(
  left: np.ndarray,
  right: np.ndarray,
  score: np.ndarray,
  num_players: int,
  *,
  k: float = 4.0,
  initial: float = 1000.0,
) -> np.ndarray:
  """Sequential Elo ratings, game by game: R_left += k (score - E), R_right -= the same. [n]

  E = 1 / (1 + 10^((R_right - R_left) / 400)). The order of games matters.
  """
  ratings = np.full(num_players, float(initial))
  for i, j, s in zip(left, right, score, strict=True):
    change = k * (s - 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400)))
    ratings[i] += change
    ratings[j] -= change
  return ratings


def resample(num_prompts: int, num: int, seed: int) -> np.ndarray:
  """Bootstrap samples, `num_prompts` prompts with replacement each: int [num, num_prompts]."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, num_prompts, (num, num_prompts))


def counts(samples: np.ndarray, num_prompts: int) -> np.ndarray:
  """The count of each prompt in each bootstrap sample: float [num, num_prompts]."""
  rows = np.arange(len(samples))[:, None]
  out = np.zeros((len(samples), num_prompts))
  np.add.at(out, (np.broadcast_to(rows, samples.shape), samples), 1.0)
  return out


def bootstrap_bradley_terry(games: Games, samples: np.ndarray, *, prior: float) -> np.ndarray:
  """Bradley-Terry ratings of every bootstrap sample of `resample`: [num, n]."""
  weights = counts(samples, games.num_prompts)
  # The prior covers pairs with games in any sample, so no sample falls apart into groups.
  wins = np.einsum('bt,tij->bij', weights, games.wins())
  return bradley_terry(wins, prior=prior)


def bootstrap_elo(games: Games, samples: np.ndarray, *, k: float = 4.0) -> np.ndarray:
  """Sequential Elo of every bootstrap sample, prompts in the order of the sample: [num, n]."""
  by_prompt = [np.flatnonzero(games.prompt == t) for t in range(games.num_prompts)]
  most = max((len(found) for found in by_prompt), default=0)
  table = np.full((games.num_prompts, most), -1)
  for row, found in zip(table, by_prompt, strict=True):
    row[: len(found)] = found
  ratings = np.full((len(samples), games.num_players), 1000.0)
  rows = np.arange(len(samples))
  for t in range(samples.shape[1]):
    for m in range(most):
      game = table[samples[:, t], m]
      i, j = games.left[game], games.right[game]
      expected = 1 / (1 + 10 ** ((ratings[rows, j] - ratings[rows, i]) / 400))
      change = np.where(game < 0, 0.0, k * (games.score[game] - expected))
      ratings[rows, i] += change
      ratings[rows, j] -= change
  return ratings


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
  """The percentile interval over the first dimension; NaN if every sample is."""
  ends = [100 * (1 - level) / 2, 100 * (1 + level) / 2]
  samples = np.asarray(samples, float)
  out = np.full((2, *samples.shape[1:]), np.nan)
  some = np.isfinite(samples).any(0)
  out[:, some] = np.nanpercentile(samples[:, some], ends, axis=0)
  return out[0], out[1]
