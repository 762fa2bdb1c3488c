"""Plots of values with their intervals as inline SVG for a page."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import figure
from matplotlib.backends import backend_svg

from lwz.report import number, svg

_STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'lwz', 'font.size': 10}


def draw(rows: Sequence[tuple[str, float, float, float]], *, title: str, unit: str = '') -> str:
  """Returns an inline `<svg>`: a dot with its interval per (name, value, low, high), downwards.

  A value that is NaN has a line without a dot; an end that is NaN, no interval. Colours and ids are
  those of `curves.draw`.
  """
  with matplotlib.style.context(['default', _STYLE]), warnings.catch_warnings():
    warnings.filterwarnings('ignore', message='Glyph .* missing from')
    canvas = figure.Figure(figsize=(4.5, 0.95 + 0.27 * max(1, len(rows))))
    backend_svg.FigureCanvasSVG(canvas)
    axes = canvas.add_axes((0.02, 0.14, 0.96, 0.7))
    for place, (_, value, low, high) in enumerate(rows):
      colour = svg.SERIES[place % len(svg.SERIES)][0]
      if np.isfinite([low, high]).all():
        axes.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.5)
      if np.isfinite(value):
        axes.plot([value], [place], 'o', color=colour, markersize=6, markeredgewidth=0)
    labels = [f'{name}  {number.show(value)}' for name, value, _, _ in rows]
    axes.set_yticks(range(len(rows)), labels)
    for text in axes.get_yticklabels():
      text.set_parse_math(False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis='x', color=svg.GRID[0], alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=svg.TEXT[0], length=0, pad=5)
    for side in axes.spines.values():
      side.set_visible(False)
    heading: dict[str, Any] = {
      'weight': 'bold',
      'color': svg.INK[0],
      'size': 11.5,
      'parse_math': False,
    }
    canvas.text(0.004, 0.985, title, va='top', **heading)
    canvas.text(0.985, 0.02, unit, va='bottom', ha='right', color=svg.TEXT[0], size=8)
    canvas.patch.set_visible(False)
    axes.patch.set_visible(False)
    canvas.draw_without_rendering()
    widest = max((t.get_window_extent().width for t in axes.get_yticklabels()), default=0)
    left = min(0.6, (widest + 9) / canvas.bbox.width)
    height = canvas.bbox.height
    axes.set_position((left, 36 / height, 0.98 - left, 1 - 64 / height))
    file = io.StringIO()
    canvas.savefig(file, format='svg', transparent=True, metadata={'Date': None})
  return svg.inline(file.getvalue(), title)
