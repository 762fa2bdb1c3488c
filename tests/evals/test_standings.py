"""From verdicts to standings."""

import math

import numpy as np
import pytest

from lwz.evals import arena, standings

TASKS = {
  1: arena.Task(1, 'q', 'Essay', 400, {'base': 'x'}),
  2: arena.Task(2, 'q', 'Essay', 3000, {'base': 'x'}),
  3: arena.Task(3, 'q', 'Poem', 0, {'base': 'x'}),
}


def judged(table):
  """(idx, one, other): (verdict of this order, verdict of the other)."""
  matches, verdicts = [], []
  for (idx, one, other), (forward, backward) in table.items():
    matches += [arena.Match(idx, one, other), arena.Match(idx, other, one)]
    verdicts += [forward, backward]
  return standings.pairings(matches, verdicts)


TABLE = {
  (1, 's', 'base'): ('A', 'B'),  # a win
  (2, 's', 'base'): ('A', 'A'),  # the first answer, whoever wrote it: a tie
  (3, 's', 'base'): ('C', 'A'),  # a tie, since the orders differ
  (1, 't', 'base'): ('B', 'A'),  # a loss
  (2, 't', 'base'): ('', 'A'),  # the judge failed
  (1, 's', 't'): ('A', 'B'),
}


def test_outcomes_and_the_bias_of_position():
  found, bias = judged(TABLE)
  scores = {(p.idx, p.one, p.other): p.score for p in found}
  for (idx, one, other), score in {
    (1, 's', 'base'): 1.0,
    (2, 's', 'base'): 0.5,
    (3, 's', 'base'): 0.5,
    (1, 't', 'base'): 0.0,
    (1, 's', 't'): 1.0,
  }.items():
    assert scores.get((idx, one, other), 1 - scores.get((idx, other, one), math.nan)) == score
  assert (bias['pairs'], bias['missing']) == (5, 1)
  assert bias['first_wins'] == pytest.approx(6 / 9)  # of the decisive verdicts, went to answer A
  assert bias['first_wins_low'] < 6 / 9 < bias['first_wins_high']
  assert bias['consistent'] == pytest.approx(3 / 5)


def test_win_rates_by_group():
  found, _ = judged(TABLE)
  rows = standings.win_rates(found, ['s', 't'], TASKS, seed=0)
  rate = {(r['system'], r['by'], r['group']): r['rate'] for r in rows}
  assert rate['s', 'all', 'all'] == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
  assert rate['s', 'opponent', 'base'] == pytest.approx(2 / 3)
  assert rate['t', 'opponent', 's'] == 0
  assert rate['s', 'type', 'Essay'] == pytest.approx(0.75)  # against baselines alone
  assert rate['s', 'length', 'under 500'] == 1
  assert rate['s', 'length', '2000 to 4000'] == 0.5
  assert rate['s', 'length', 'not stated'] == 0.5
  row = next(r for r in rows if r['by'] == 'all' and r['system'] == 's')
  assert (row['wins'], row['ties'], row['losses']) == (2, 2, 0)
  assert row['low'] <= row['rate'] <= row['high']
  alone = next(r for r in rows if r['group'] == 'under 500')  # of one prompt, with no interval
  assert alone['rate'] == 1 and math.isnan(alone['low']) and math.isnan(alone['high'])


def test_ratings_order_the_players_and_hold_their_intervals():
  found, _ = judged(TABLE)
  rows = standings.rate(found, ['s', 't', 'base', 'absent'], seed=0)
  assert [r['player'] for r in rows] == ['s', 'base', 't', 'absent']
  assert all(r['low'] <= r['rating'] <= r['high'] for r in rows[:3])
  assert np.mean([r['rating'] for r in rows[:3]]) == pytest.approx(1000)
  assert math.isnan(rows[3]['rating']) and rows[3]['games'] == 0
  for row in standings.rate([p for p in found if p.idx == 1], ['s', 't', 'base'], seed=0):
    assert row['games'] and math.isnan(row['low']) and math.isnan(row['elo_high'])


def test_an_arena_without_games():
  rows = standings.rate([], ['s'], seed=0)
  assert math.isnan(rows[0]['rating'])
  assert standings.win_rates([], ['s'], TASKS, seed=0) == []
  assert math.isnan(judged({})[1]['first_wins'])


def test_intervals_shrink_with_prompts_not_with_games():
  def width(num_prompts, copies):
    scores = np.tile([1.0, 0.0], num_prompts // 2)
    values = np.repeat(scores, copies)
    clusters = np.repeat(np.arange(num_prompts), copies)
    _, low, high = standings.clustered_mean(values, clusters, seed=0)
    return high - low

  assert width(40, 5) == pytest.approx(width(40, 1))
  assert width(400, 1) < 0.5 * width(40, 1)
