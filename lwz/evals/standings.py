"""Standings of an arena: ratings; win rates by opponent, type and length; position bias."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lwz.evals import arena, ratings

PRIOR = 1.0  # ties added to each pair with games, so that all ratings are finite
NUM_RESAMPLES = 1000
ELO_K = 4.0
# Upper bounds, in words, of LongBench-Write's groups of tasks.
LENGTHS = (500, 2000, 4000)


@dataclasses.dataclass(frozen=True)
class Pairing:
  """Two players on one task, judged in both orders; `score` is that of `one`."""

  idx: int
  one: str
  other: str
  score: float


def pairings(
  matches: Sequence[arena.Match], verdicts: Sequence[str]
) -> tuple[list[Pairing], dict[str, float]]:
  """Outcomes of the pairs that were judged in both orders, and measures of position bias.

  `verdicts[i]` is 'A', 'B', 'C', or '' if the judge failed on match i: then the pair is left out.
  The measures: `pairs` judged, `missing` ones, `first_wins` (share of decisive verdicts for answer
  A, 0.5 without bias) with its 95 % Wilson interval, and `consistent` (share of pairs in which both
  orders agree).
  """
  said = {(m.idx, m.first, m.second): v for m, v in zip(matches, verdicts, strict=True)}
  found, first, decisive, consistent, missing = [], 0, 0, 0, 0
  for (idx, one, other), forward in said.items():
    backward = said.get((idx, other, one), '')
    if (idx, one, other) > (idx, other, one) and (idx, other, one) in said:
      continue  # the same pair in its other order
    if not forward or not backward:
      missing += 1
      continue
    found.append(Pairing(idx, one, other, arena.outcome(forward, backward)))
    consistent += (forward, backward) in (('A', 'B'), ('B', 'A'), ('C', 'C'))
    first += (forward == 'A') + (backward == 'A')
    decisive += (forward != 'C') + (backward != 'C')
  share, low, high = wilson(first, decisive)
  return found, {
    'pairs': len(found),
    'missing': missing,
    'first_wins': share,
    'first_wins_low': low,
    'first_wins_high': high,
    'consistent': consistent / len(found) if found else float('nan'),
  }


def wilson(successes: float, trials: int) -> tuple[float, float, float]:
  """A share and its 95 % Wilson interval; half successes (ties) are rounded for the interval."""
  if not trials:
    return float('nan'), float('nan'), float('nan')
  from scipy import stats  # here, as it takes a second

  ends = stats.binomtest(round(successes), trials).proportion_ci(method='wilson')
  return successes / trials, float(ends.low), float(ends.high)


def rate(found: Sequence[Pairing], players: Sequence[str], seed: int) -> list[dict[str, Any]]:
  """A row per player: Bradley-Terry and sequential Elo ratings with 95 % intervals, best first.

  Intervals come from NUM_RESAMPLES bootstrap samples of prompts; NaN of one prompt. Ratings
  are centred on 1000, and comparable between arenas only if the players are the same.
  """
  order = {name: i for i, name in enumerate(players)}
  tasks = {idx: t for t, idx in enumerate(sorted({p.idx for p in found}))}
  games = ratings.Games(
    left=np.array([order[p.one] for p in found], int),
    right=np.array([order[p.other] for p in found], int),
    score=np.array([p.score for p in found], float),
    prompt=np.array([tasks[p.idx] for p in found], int),
    num_players=len(players),
    num_prompts=len(tasks),
  )
  if not found:
    return [{'player': name, 'games': 0} | _nothing() for name in players]
  samples = ratings.resample(games.num_prompts, NUM_RESAMPLES, seed)
  strength = ratings.bradley_terry(games.wins().sum(0), prior=PRIOR)
  low, high = ratings.interval(ratings.bootstrap_bradley_terry(games, samples, prior=PRIOR))
  elo = ratings.elo(games.left, games.right, games.score, len(players), k=ELO_K)
  elo_low, elo_high = ratings.interval(ratings.bootstrap_elo(games, samples, k=ELO_K))
  if len(tasks) < 2:
    low, high, elo_low, elo_high = np.full((4, len(players)), np.nan)
  played = np.bincount(games.left, minlength=len(players)) + np.bincount(
    games.right, minlength=len(players)
  )
  rows = [
    {
      'player': name,
      'games': int(played[i]),
      'rating': float(strength[i]),
      'low': float(low[i]),
      'high': float(high[i]),
      'elo': float(elo[i]),
      'elo_low': float(elo_low[i]),
      'elo_high': float(elo_high[i]),
    }
    for i, name in enumerate(players)
  ]
  return sorted(rows, key=lambda row: -np.nan_to_num(row['rating'], nan=-np.inf))


def _nothing() -> dict[str, float]:
  names = ('rating', 'low', 'high', 'elo', 'elo_low', 'elo_high')
  return dict.fromkeys(names, float('nan'))


def win_rates(
  found: Sequence[Pairing], systems: Sequence[str], tasks: Mapping[int, arena.Task], seed: int
) -> list[dict[str, Any]]:
  """Rows by (system, by, group): wins, ties, losses, and the win rate, ties as half, with interval.

  `by` is 'all', 'opponent', 'type' or 'length'; the interval comes from a bootstrap over prompts.
  Games between systems count for both sides, and only under 'opponent' and 'all'.
  """
  rows = []
  for system in systems:
    own = [(p, p.score, p.other) for p in found if p.one == system]
    own += [(p, 1 - p.score, p.one) for p in found if p.other == system]
    groups: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for pairing, score, opponent in own:
      keys = [('all', 'all'), ('opponent', opponent)]
      if opponent not in systems:
        task = tasks[pairing.idx]
        keys += [('type', task.kind), ('length', length_group(task.length))]
      for key in keys:
        groups.setdefault(key, []).append((pairing.idx, score))
    order = ('all', 'opponent', 'type', 'length')
    for (by, group), scores in sorted(
      groups.items(), key=lambda kv: (order.index(kv[0][0]), kv[0])
    ):
      rows.append({'system': system, 'by': by, 'group': group} | _record(scores, seed))
  return rows


def length_group(length: int) -> str:
  """'under 500', '500 to 2000', '2000 to 4000', '4000 and more', or 'not stated'."""
  if not length:
    return 'not stated'
  bounds = (0, *LENGTHS)
  place = int(np.searchsorted(LENGTHS, length, side='right'))
  if place == 0:
    return f'under {LENGTHS[0]}'
  return (
    f'{bounds[place]} to {LENGTHS[place]}' if place < len(LENGTHS) else f'{bounds[-1]} and more'
  )


def _record(scores: Sequence[tuple[int, float]], seed: int) -> dict[str, Any]:
  values = np.array([score for _, score in scores])
  rate, low, high = clustered_mean(values, [idx for idx, _ in scores], seed)
  return {
    'wins': int((values == 1).sum()),
    'ties': int((values == 0.5).sum()),
    'losses': int((values == 0).sum()),
    'rate': rate,
    'low': low,
    'high': high,
  }


def clustered_mean(
  values: np.ndarray, clusters: Sequence[Any], seed: int
) -> tuple[float, float, float]:
  """The mean, and its 95 % interval from a bootstrap over clusters (the prompts).

  The mean of no value is NaN, and so is the interval of fewer than two clusters.
  """
  mean = float(np.mean(values)) if len(values) else float('nan')
  names, place = np.unique(np.asarray(clusters), return_inverse=True)
  if len(names) < 2:
    return mean, float('nan'), float('nan')
  sums = np.bincount(place, weights=values, minlength=len(names))
  sizes = np.bincount(place, minlength=len(names)).astype(float)
  samples = ratings.resample(len(names), NUM_RESAMPLES, seed)
  low, high = ratings.interval(sums[samples].sum(1) / sizes[samples].sum(1))
  return mean, float(low), float(high)
