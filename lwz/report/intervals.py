"""Plots of values with their intervals as inline SVG for a page."""

from collections.abc import Sequence

import numpy as np

from lwz.report import canvas as canvas_lib
from lwz.report import number, svg


def draw(
  rows: Sequence[tuple[str, float, float, float]],
  *,
  title: str,
  unit: str = '',
  covers: tuple[float, float] | None = None,
) -> str:
  """Returns an inline `<svg>`: a dot with its interval per (name, value, low, high), downwards.

  The axis shows at least the range `covers`, so that small differences look small. A value that is
  NaN has a line without a dot; an end that is NaN, no interval. Colours and ids are those of
  `curves.draw`.
  """
  height = 0.95 + 0.27 * max(1, len(rows))
  with canvas_lib.blank(title, grid='x', height=height) as (canvas, axes):
    for place, (_, value, low, high) in enumerate(rows):
      colour = svg.SERIES[place % len(svg.SERIES)][0]
      if np.isfinite([low, high]).all():
        axes.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.5)
      if np.isfinite(value):
        axes.plot([value], [place], 'o', color=colour, markersize=6, markeredgewidth=0)
    labels = [f'{name}  {number.show(value)}' for name, value, _, _ in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if covers:
      left, right = axes.get_xlim()
      axes.set_xlim(min(left, covers[0]), max(right, covers[1]))
    axes.spines['bottom'].set_visible(False)
    canvas.text(0.985, 0.02, unit, va='bottom', ha='right', color=svg.TEXT[0], size=8)
    left = min(0.6, canvas_lib.label_width(canvas, axes))
    axes.locator_params(axis='x', nbins=6 if left < 0.4 else 3)
    size = canvas.bbox.height
    axes.set_position((left, 36 / size, 0.955 - left, 1 - 64 / size))
    return canvas_lib.inline(canvas, title)
