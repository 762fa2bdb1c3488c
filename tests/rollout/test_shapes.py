"""Few shapes, and none too far from what is wanted."""

import itertools

import pytest

from lwz.rollout import queue, shapes


@pytest.mark.parametrize('num, expected', [(1, (1,)), (8, (1, 2, 4, 8)), (6, (1, 2, 4, 6))])
def test_buckets_double_up_to_the_largest(num, expected):
  assert shapes.buckets(num, smallest=1, per_octave=1) == expected


def test_finer_buckets_have_a_size_half_way_and_every_one_of_the_coarse():
  assert shapes.buckets(32, smallest=1) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
  for num in range(1, 70):
    coarse = shapes.buckets(num, smallest=1, per_octave=1)
    assert set(coarse) <= set(shapes.buckets(num, smallest=1))


@pytest.mark.parametrize('longest', [1, 64, 65, 300, 16_384])
def test_buckets_rise_to_the_longest_by_at_most_half(longest):
  found = shapes.buckets(longest)
  assert list(found) == sorted(set(found)) and found[-1] == longest
  assert all(b <= 1.5 * a for a, b in itertools.pairwise(found))
  assert len(found) <= 18


def test_the_longest_first_and_groups_together():
  assert queue.longest_first([1.0, 5.0, 5.0, 2.0, 5.0]) == [1, 2, 4, 3, 0]
