"""A table as Markdown."""

from lwz.report import table


def test_cells_are_shown_and_escaped():
  text = table.markdown('C', ('a', 'b'), [('x|y\nz', 1234.5), (None, float('nan'))])
  assert text == '**C**\n\n| a | b |\n| --- | --- |\n| x\\|y z | 1,234 |\n| – | – |\n'
