"""Histograms, and the page of a funnel."""

import re

import pytest

from lwz.report import funnel, histogram


def bars(svg):
  """Where each bar ends, below and above, in points from the top."""
  corners = r'd="M [\d.]+ ([\d.]+)\nL [\d.]+ [\d.]+\nL [\d.]+ ([\d.]+)\nL [\d.]+ [\d.]+\nz'
  found = [(float(low), float(high)) for low, high in re.findall(corners, svg)]
  return [(low, high) for low, high in found if low - high > 12]  # smaller: legend


def heights(svg):
  """Heights of the bars, in units of the smallest."""
  tall = [low - high for low, high in bars(svg)]
  return [round(height / min(tall)) for height in tall]


def test_values_fall_into_their_bins():
  svg = histogram.draw({'en': [-5, 0, 1, 10, 15, 99]}, edges=[0, 10, 20, 30], title='t')
  assert heights(svg) == [3, 2, 1]
  assert 'en  6' in svg and 'aria-label="t"' in svg


def test_groups_are_stacked_and_empty_ones_plotted():
  groups = {'a': [1], 'b': [1, 1], 'c': [], 'd': [0]}
  svg = histogram.draw(groups, edges=[0, 2, 4], title='t', unit='words')
  assert heights(svg) == [1, 2, 1]
  (_, first), (low, high), (last, _) = bars(svg)
  assert (first, high) == (low, last)
  assert histogram.draw({}, edges=[0, 1], title='none') == histogram.draw(
    {}, edges=[0, 1], title='none'
  )


@pytest.mark.parametrize('edges', [[1], [0, 2, 2]])
def test_edges_grow(edges):
  with pytest.raises(ValueError, match='edges must be two or more and increase'):
    histogram.draw({}, edges=edges, title='t')


STEPS = (('rules', ('code', 'maths')), ('judge', ('short',)))


def test_steps_end_at_what_is_left():
  assert funnel.steps(10, {'code': 3, 'maths': 1, 'short': 2}, STEPS) == [
    ('rows', 0, 10, 1.0),
    ('rules', 4, 6, 0.6),
    ('judge', 2, 4, 0.4),
  ]


@pytest.mark.parametrize('num', [0, 3])
def test_the_page_says_it_all_and_escapes(tmp_path, num):
  kept = {'lower': [500] * num, 'upper': [900] * num, 'words': [9] * num}
  kept |= {'language': ['zh'] * num, 'source': ['set'] * num, 'changed': ['none'] * num}
  example = {'source': 'set', 'file': 'f', 'row': 7, 'detail': '', 'text': '<script>写</script>'}
  funnel.write(
    tmp_path / 'r.html',
    title='prompts',
    judge='offline-rules',
    table=funnel.steps(5, {'code': 5 - num}, STEPS),
    rejects={'code': 5 - num},
    examples={'code': [example]},
    reasons={'code': 'asks for a program', 'maths': 'never seen'},
    kept=kept,
    longest=12_000,
  )
  page = (tmp_path / 'r.html').read_text()
  assert f'5 rows to {num} prompts, judged by offline-rules' in page
  assert '&lt;script&gt;写' in page and 'set, f:7' in page and 'never seen' not in page
  assert page.count('<svg') == 2
