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
