"""Means of the first and the last records, and how numbers are shown."""

import math

import pytest

from lwz.report import number, summary


def test_means_of_the_first_and_the_last_window():
  records = [{'step': i, 'loss': float(i)} for i in range(40)]
  (row,) = summary.first_last(records, ['loss'])
  assert row == ('loss', 4.5, 34.5, 30.0)


def test_nan_none_and_missing_values_do_not_count():
  values = [1.0, math.nan, 3.0, None, 5.0, 7.0, math.inf]
  records = [{'step': i, 'x': v} for i, v in enumerate(values)] + [{'step': 9}]
  (row,) = summary.first_last(records, ['x'])
  assert (row.first, row.last, row.change) == (2.0, 6.0, 4.0)


def test_windows_of_a_short_run_do_not_overlap():
  records = [{'step': i, 'x': float(i)} for i in range(5)]
  assert summary.first_last(records, ['x']) == [('x', 0.5, 3.5, 3.0)]
  assert summary.first_last(records[:1], ['x']) == [('x', 0.0, 0.0, 0.0)]


def test_a_key_without_values_has_no_row_and_order_is_that_of_keys():
  records = [{'step': 0, 'b': 1, 'a': 2}]
  assert [row.name for row in summary.first_last(records, ['b', 'gone', 'a'])] == ['b', 'a']


@pytest.mark.parametrize(
  ('value', 'shown'),
  [
    (1234567, '1,234,567'), (0.08125, '0.0813'), (2e-6, '2.00e-06'), (math.nan, '–'), (None, '–'),
    (0.5, '0.500'), (-12.345, '-12.35'), (0.0, '0'), ('8 chips', '8 chips'), (18412.3, '18,412'),
  ],
)  # fmt: skip
def test_numbers_are_shown_short(value, shown):
  assert number.show(value) == shown


def test_durations():
  seconds = (8.2, 245, 12000, 187200, math.nan)
  assert [number.duration(s) for s in seconds] == ['8s', '4m 05s', '3h 20m', '2d 04h', '–']
