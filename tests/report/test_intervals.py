"""Values with their intervals, drawn."""

from lwz.report import intervals

NAN = float('nan')


def test_names_values_and_lines_are_there():
  drawn = intervals.draw([('a $x$', 1.5, 1.0, 2.0), ('b', 3.0, NAN, NAN)], title='T', unit='u')
  assert drawn.startswith('<svg') and 'a $x$  1.500' in drawn and 'b  3.000' in drawn
  assert drawn == intervals.draw(
    [('a $x$', 1.5, 1.0, 2.0), ('b', 3.0, NAN, NAN)], title='T', unit='u'
  )


def test_nothing_to_draw_is_drawn():
  for rows in ([], [('a', NAN, NAN, NAN)], [('写作' * 60, 1.0, 1.0, 1.0)]):
    assert intervals.draw(rows, title='T').startswith('<svg')


def test_a_small_difference_looks_small():
  rows = [('a', 8.61, NAN, NAN), ('b', 8.62, NAN, NAN)]
  narrow, wide = (intervals.draw(rows, title='T', covers=covers) for covers in (None, (1, 10)))
  assert '>10<' in wide and '>2<' in wide and '>10<' not in narrow
