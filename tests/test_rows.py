"""Every token of every sequence lies in exactly one place, and can be found again."""

import numpy as np
import pytest

from lwz import rows


def random_sequences(seed, num=30, longest=17):
  rng = np.random.default_rng(seed)
  return [rng.integers(1, 100, rng.integers(1, longest + 1)) for _ in range(num)]


def test_the_longest_first_each_where_it_fits_first():
  assert rows.first_fit_decreasing([2, 4, 3, 3], 6) == [[1, 0], [2, 3]]
  assert rows.first_fit_decreasing([1, 1, 1], 2) == [[0, 1], [2]]
  assert rows.first_fit_decreasing([], 6) == []


@pytest.mark.parametrize('seed', range(5))
def test_packing_is_a_partition_and_no_two_rows_could_be_one(seed):
  lengths = [len(s) for s in random_sequences(seed)]
  packed = rows.first_fit_decreasing(lengths, 20)
  assert sorted(i for row in packed for i in row) == list(range(len(lengths)))
  loads = sorted(sum(lengths[i] for i in row) for row in packed)
  assert loads[-1] <= 20 < loads[0] + loads[1]


@pytest.mark.parametrize('seed', range(5))
def test_whole_rows_packed_again_need_no_more_rows(seed):
  lengths = [len(s) for s in random_sequences(seed)]
  packed = rows.first_fit_decreasing(lengths, 20)
  for start in range(0, len(packed), 3):
    part = packed[start : start + 3]
    again = rows.first_fit_decreasing([lengths[i] for row in part for i in row], 20)
    assert len(again) == len(part)


def test_a_sequence_longer_than_a_row_is_named():
  with pytest.raises(ValueError, match='sequence 1 has 7 tokens, a row only 6: raise the row'):
    rows.first_fit_decreasing([2, 7], 6)


def test_the_example():
  laid = rows.lay([[5, 6, 7], [8, 9]], row_length=6, num_rows=1)
  assert laid.ids.tolist() == [[5, 6, 7, 8, 9, 0]]
  assert laid.segments.tolist() == [[1, 1, 1, 2, 2, 0]]
  assert laid.positions.tolist() == [[0, 1, 2, 0, 1, 0]]
  assert (laid.row.tolist(), laid.offset.tolist()) == ([0, 0], [0, 3])


@pytest.mark.parametrize('seed', range(5))
def test_every_sequence_is_found_where_row_and_offset_say(seed):
  sequences = random_sequences(seed)
  laid = rows.lay(sequences, row_length=20, num_rows=30)
  covered = np.zeros(laid.ids.shape, int)
  for b, ids in enumerate(sequences):
    here = (laid.row[b], slice(laid.offset[b], laid.offset[b] + len(ids)))
    np.testing.assert_array_equal(laid.ids[here], ids)
    np.testing.assert_array_equal(laid.positions[here], np.arange(len(ids)))
    number = laid.segments[here][0]
    np.testing.assert_array_equal(laid.segments[laid.row[b]] == number, covered_by(here, 20))
    covered[here] += 1
  np.testing.assert_array_equal(covered, laid.segments > 0)
  assert not laid.ids[covered == 0].any() and not laid.positions[covered == 0].any()
  for array in (laid.ids, laid.segments, laid.positions, laid.row, laid.offset):
    assert array.dtype == np.int32


def covered_by(here, num_tokens):
  return np.isin(np.arange(num_tokens), np.arange(here[1].start, here[1].stop))


def test_empty_rows_stand_at_the_end_and_are_not_used():
  laid = rows.lay([[5, 6, 7], [8, 9]], row_length=4, num_rows=4)
  assert (laid.segments > 0).any(axis=1).tolist() == [True, True, False, False]
  assert rows.num_used(laid) == 2
  assert rows.num_used(rows.lay([], row_length=4, num_rows=2)) == 0


def test_too_few_rows_are_refused():
  with pytest.raises(ValueError, match='2 rows of 4 tokens are needed, 1 given'):
    rows.lay([[5, 6, 7], [8, 9]], row_length=4, num_rows=1)


def test_an_id_of_zero_is_a_token_like_any_other():
  laid = rows.lay([[0, 0]], row_length=3, num_rows=1)
  assert laid.segments.tolist() == [[1, 1, 0]] and rows.num_used(laid) == 1


def test_length_mask():
  expected = [[False, False], [True, False], [True, True], [True, True]]
  assert rows.length_mask(np.array([0, 1, 2, 3]), 2).tolist() == expected


def test_bucket_is_the_next_multiple():
  assert [rows.bucket(n, 4) for n in (0, 1, 4, 5)] == [0, 4, 4, 8]
