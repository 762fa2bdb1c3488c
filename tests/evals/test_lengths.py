"""LongBench-Write's length score."""

import math

import pytest

from lwz.evals import lengths


@pytest.mark.parametrize(
  'required, produced, score',
  [
    (1000, 1000, 100),
    (1000, 2500, 50),  # 100 (1 - 1.5 / 3)
    (1000, 500, 50),  # 100 (1 - (2 - 1) / 2)
    (1000, 4000, 0),
    (1000, 9000, 0),
    (1000, 333, 0),
    (1000, 0, 0),
    (200, 250, 100 * (1 - 0.25 / 3)),
  ],
)
def test_the_formula(required, produced, score):
  assert lengths.score(required, produced) == pytest.approx(score, abs=0.2)


def test_nothing_can_be_required_of_no_one():
  with pytest.raises(ValueError, match='required=0'):
    lengths.score(0, 10)


def test_metrics_average_over_what_asks_for_a_length():
  found = lengths.metrics({1: 2, 2: 0, 3: 2}, {1: 'a b', 2: 'a b c', 3: ' '})
  assert found == {'S_l': 50.0, 'words': 5 / 3, 'empty': 1}
  assert math.isnan(lengths.metrics({1: 0}, {1: 'a'})['S_l'])


def eval_length(required, produced):
  """LongWriter's eval_length.py in its own terms: the mean of its scores."""
  scores = []
  for x, y in zip(required, produced, strict=True):
    over, under = 1.0 - (y / x - 1) / 3, 1.0 - (x / y - 1) / 2
    scores.append(100 * max(0, over if y > x else under))
  return sum(scores) / len(scores)


def test_by_length_is_eval_length_and_says_how_answers_end():
  asked = {0: 10, 1: 10, 2: 40, 3: 40, 4: 0}
  produced = {0: 10, 1: 25, 2: 12, 3: 60, 4: 5}
  answers = {i: 'word ' * n for i, n in produced.items()}
  whole, ten, forty = lengths.by_length(asked, answers, cut={3}, seed=0)
  assert whole['S_l'] == pytest.approx(
    eval_length([asked[i] for i in range(4)], [produced[i] for i in range(4)])
  )
  assert (whole['group'], whole['answers'], whole['asked']) == ('all', 4, 25)
  assert (ten['group'], ten['words'], ten['runaway'], ten['early'], ten['cap']) == (
    *('10', 17.5),
    *(0.5, 0, 0),
  )
  # 12 of 40 ended early; 60 of 40 was cut at the limit, which is no end of its own.
  assert (forty['early'], forty['cap'], forty['runaway']) == (0.5, 0.5, 0)
  assert ten['low'] <= ten['S_l'] <= ten['high']


@pytest.mark.parametrize(
  'produced, rank', [((5, 50, 500), 1), ((60, 50, 4), -1), ((9, 9, 8), -0.866)]
)
def test_the_rank_correlation_says_whether_the_asked_length_is_followed(produced, rank):
  """And not whether it is met: of five words for ten, fifty for a hundred it is 1."""
  answers = {i: 'word ' * n for i, n in enumerate(produced)}
  rows = lengths.by_length({0: 10, 1: 100, 2: 1000}, answers, cut=(), seed=0)
  assert rows[0]['rank'] == pytest.approx(rank, abs=1e-3)
  assert all(math.isnan(row['rank']) for row in rows[1:])  # one asked length each


def test_answers_of_one_length_follow_none():
  answers = dict.fromkeys(range(3), 'two words')
  assert math.isnan(lengths.by_length({0: 10, 1: 20, 2: 30}, answers, (), seed=0)[0]['rank'])


def test_many_asked_lengths_are_grouped_as_in_longbench_write():
  asked = {i: 100 + 40 * i for i in range(20)}
  rows = lengths.by_length(asked, dict.fromkeys(asked, 'a'), cut=(), seed=0)
  assert [row['group'] for row in rows] == ['all', 'under 500', '500 to 2000']
  (nothing,) = lengths.by_length({0: 0}, {0: 'a'}, cut=(), seed=0)
  assert nothing['answers'] == 0 and math.isnan(nothing['S_l'])
