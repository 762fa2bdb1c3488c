"""Heat maps: what they show, and that nothing makes them large."""

import re

import pytest

from lwz.report import heatmap


def test_columns_are_steps_and_empty_places_stay_empty():
  found = heatmap.draw({0: [0.0, 0.5], 40: [0.25, None]}, title='a <b>')
  assert found.startswith('<svg') and 'aria-label="a &lt;b&gt;"' in found
  texts = re.findall(r'<text[^>]*>([^<]*)</text>', found)
  assert {'0', '40', '100', '0.500', '% of the text'} <= set(texts)
  assert found != heatmap.draw({0: [0.0, 0.5], 40: [0.25, 0.3]}, title='a <b>')


def test_many_evaluations_are_thinned_and_the_ends_stay():
  found = heatmap.draw({step: [step / 5_000] * 8 for step in range(5_000)}, title='x')
  assert len(found) < 100_000 and '>0<' in found and '>4,999<' in found
  assert '<image' not in found  # a page has none: it asks for nothing, and its policy forbids it


def test_steps_with_another_number_of_parts_are_left_out():
  found = heatmap.draw({0: [0.5] * 4, 20: [0.1] * 8, 40: [0.2] * 8}, title='x')
  assert found == heatmap.draw({20: [0.1] * 8, 40: [0.2] * 8}, title='x')


@pytest.mark.parametrize('parts', [[None] * 8, [0.5] * 8])
def test_one_step_without_spread_or_values_has_a_map(parts):
  assert '<svg' in heatmap.draw({3: parts}, title='x')


def test_only_measures_that_a_step_has():
  titles = {'a': 'share', 'b': 'nats'}
  [(caption, found)] = heatmap.of_measures({0: {'a': [1.0]}, 5: {}}, titles)
  assert caption == 'share' and 'aria-label="a over position"' in found
  assert heatmap.of_measures({}, titles) == []
