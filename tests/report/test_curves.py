"""A curve shows what was recorded, breaks where it was not, and stands in a page with others."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from lwz.report import curves
from lwz.report import svg as svg_lib

RECORDS = [{'step': i, 'loss': 1 / (i + 1), 'low': 0.1, 'high': 0.4} for i in range(60)]


def pieces(svg: str, series: int = 1) -> list[int]:
  """How many separate pieces each line of a series' colour has inside the axes."""
  paths = re.findall(rf'<path d="([^"]*)" clip-path=[^>]*stroke: var\(--series-{series},', svg)
  return [path.count('M') for path in paths]


def test_the_same_records_give_the_same_bytes():
  draws = {curves.draw(RECORDS, ['loss'], title='Loss', band=('low', 'high')) for _ in range(3)}
  assert len(draws) == 1


def test_it_is_one_well_formed_element_without_outside_references():
  svg = curves.draw(RECORDS, ['loss'], title='<Loss> & "co" $x_1$', unit='nats')
  root = ElementTree.fromstring(svg)
  assert root.tag == 'svg'
  assert root.get('aria-label') == '<Loss> & "co" $x_1$'
  assert '<Loss> & "co" $x_1$' in [text.text for text in root.iter('text')]
  assert 'http' not in svg
  assert '<style' not in svg  # a style element of one plot would reach the whole page


def test_ids_of_two_plots_differ_and_every_reference_is_met():
  one = curves.draw(RECORDS, ['loss'], title='One')
  two = curves.draw(RECORDS, ['loss'], title='Two')
  ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in (one, two)]
  assert ids[0]
  assert not ids[0] & ids[1]
  for svg, own in zip((one, two), ids, strict=True):
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) == own


def test_markup_in_a_title_is_text_even_where_it_looks_like_a_reference():
  title = ' id="a" url(#b) #4c78d6'
  root = ElementTree.fromstring(curves.draw(RECORDS, ['loss'], title=title))
  assert title in [text.text for text in root.iter('text')]


def test_nan_and_a_wide_hole_break_the_line_and_a_sparse_key_does_not():
  whole = curves.draw(RECORDS, ['loss'], title='t')
  assert set(pieces(whole)) == {1}
  broken = [dict(r, loss=math.nan) if r['step'] in (20, 21) else r for r in RECORDS]
  assert set(pieces(curves.draw(broken, ['loss'], title='t'))) == {2}
  hole = [r for r in RECORDS if not 20 <= r['step'] < 40]
  assert set(pieces(curves.draw(hole, ['loss'], title='t'))) == {2}
  sparse = [{'step': i} | ({'score': float(i)} if i % 10 == 0 else {}) for i in range(60)]
  assert set(pieces(curves.draw(sparse, ['score'], title='t'))) == {1}


def test_keys_that_were_never_recorded_are_left_out():
  svg = curves.draw(RECORDS, ['gone', 'loss'], title='t', band=('gone/low', 'gone/high'))
  assert 'gone' not in svg
  assert 'no values' in curves.draw(RECORDS, ['gone'], title='t', band=('low', 'high'))
  assert 'no values' in curves.draw([], ['loss'], title='t')
  assert 'no values' in curves.draw([{'step': 1, 'loss': math.nan}], ['loss'], title='t')


def test_the_legend_tells_the_last_value_under_the_name_that_differs():
  records = [{'step': i, 'reward/length': 0.25, 'reward/format': 0.5} for i in range(9)]
  svg = curves.draw(records, ['reward/length', 'reward/format'], title='t')
  assert re.search(r'>length +0\.250<', svg)
  assert re.search(r'>format +0\.500<', svg)
  assert 'reward/' not in svg


def test_the_band_is_shaded_and_named():
  svg = curves.draw(RECORDS, ['loss'], title='t', band=('low', 'high'))
  assert 'fill: var(--band' in svg
  assert '>low to high<' in svg


def test_of_two_records_of_a_step_the_later_counts():
  again = [{'step': 3, 'loss': 5.0}, {'step': 2, 'loss': 9.0}, {'step': 3, 'loss': 7.0}]
  once = [{'step': 2, 'loss': 9.0}, {'step': 3, 'loss': 7.0}]
  draws = [curves.draw(records, ['loss'], title='t') for records in (again, once)]
  assert draws[0] == draws[1]


def test_a_long_run_stays_small_and_keeps_its_spike():
  x, y = np.arange(100_000.0), np.zeros(100_000)
  y[77_777] = 5.0
  thin_x, thin_y = curves._thin(x, y)
  assert len(thin_x) <= 802
  y[50_000:50_400] = np.nan
  assert np.isnan(curves._thin(x, y)[1]).any()
  assert thin_y[np.searchsorted(thin_x, 77_777)] == 5.0
  noise = np.random.default_rng(0).normal(size=20_000)
  records = [{'step': i, 'x': v} for i, v in enumerate(noise)]
  assert len(curves.draw(records, ['x'], title='t')) < 100_000


def test_smoothing_is_its_equation():
  x = np.array([3.0, 1.0, np.nan, 4.0, 1.0, 5.0])
  seen = x[[0, 1, 3, 4, 5]]
  weights = 0.7 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
  expected = weights @ seen / weights.sum(1)
  got = curves.smoothed(x, 0.7)
  np.testing.assert_allclose(got[[0, 1, 3, 4, 5]], expected, rtol=1e-12)
  assert np.isnan(got[2])
  np.testing.assert_array_equal(curves.smoothed(x, 0.0), x)
  with pytest.raises(ValueError, match='smooth is 1'):
    curves.smoothed(x, 1.0)


def test_what_cannot_be_drawn_is_named():
  with pytest.raises(ValueError, match="record 1 has no 'step'"):
    curves.draw([{'step': 0}, {'loss': 1.0}], ['loss'], title='t')
  with pytest.raises(ValueError, match="'loss' at step 4 is 'high'"):
    curves.draw([{'step': 4, 'loss': 'high'}], ['loss'], title='t')


def test_glyphs_beyond_the_plotting_font_are_left_to_the_browser():
  assert '>长度<' in curves.draw(RECORDS, ['loss'], title='长度')


def heights_of_ticks(svg):
  """(value, y) of the labels at the left of the axes, by rising value."""
  found = re.findall(r'text-anchor: end[^>]*x="[^"]*" y="([^"]*)"[^>]*>([^<]*)<', svg)
  return sorted((float(text.replace('−', '-')), float(y)) for y, text in found)


@pytest.mark.parametrize('num', [1, 6, 12, 24, 50])
def test_the_axes_keep_their_height_and_their_direction_however_many_curves_there_are(num):
  names = [f'grpo_think-tiny-s{i}' for i in range(num)]
  records = [{'step': t} | {n: t * (i + 1) / num for i, n in enumerate(names)} for t in range(9)]
  svg = curves.draw(records, names, title='reward')
  ticks = heights_of_ticks(svg)
  assert len(ticks) >= 4
  ys = [y for _, y in ticks]
  assert ys == sorted(ys, reverse=True), 'larger values stand higher'
  assert ys[0] - ys[-1] > 90
  *_, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
  assert min(ys) >= 0 and max(ys) < height
  assert all(f'>{name}  ' in svg for name in names)


def test_a_metric_that_ends_at_zero_is_said_to_be_zero():
  records = [{'step': t, 'share': 1.0 if t < 5 else 0.0} for t in range(400)]
  assert '>share  0<' in curves.draw(records, ['share'], title='t')


def test_a_key_has_the_same_colour_where_another_one_has_no_values():
  records = [
    {'step': i, 'a': 1.0, 'b': 2.0 + i, 'b low': 1.0 + i, 'b high': 3.0 + i} for i in (0, 1)
  ]
  bands = {'b': ('b low', 'b high')}
  both = curves.draw(records, ['a', 'b'], title='two', bands=bands)
  alone = curves.draw([r | {'a': None} for r in records], ['a', 'b'], title='two', bands=bands)
  first, second = (svg_lib.SERIES[i][0] for i in (0, 1))
  assert first in both and second in both
  assert first not in alone and second in alone
