"""Histograms as inline SVG for a page."""

import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib.style
import numpy as np
from matplotlib import figure, ticker
from matplotlib.backends import backend_svg

from lwz.report import svg

_STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'lwz', 'font.size': 10}
_TICKS = 7  # labelled edges, at most


def draw(
  groups: Mapping[str, Sequence[float]],
  *,
  edges: Sequence[float] | np.ndarray,
  title: str,
  unit: str = '',
) -> str:
  """Returns one inline `<svg>`: a bar per bin, each group stacked on the ones before it.

  `edges` of the bins increase; all bars are equally wide, whatever their bins. A value on an edge
  counts above it; values below the first edge are counted in the first bin, those from the last one
  on in the last. The legend has each group's count. Colours and ids are those of `curves.draw`.

  Raises ValueError for fewer than two edges, or edges that do not increase.
  """
  if len(edges) < 2 or not np.all(np.diff(edges) > 0):
    raise ValueError(f'edges must be two or more and increase; not {list(edges)}')
  with matplotlib.style.context(['default', _STYLE]), warnings.catch_warnings():
    warnings.filterwarnings('ignore', message='Glyph .* missing from')
    canvas = figure.Figure(figsize=(4.5, 2.75))
    backend_svg.FigureCanvasSVG(canvas)
    axes = canvas.add_axes((0.1, 0.13, 0.88, 0.66))
    num = len(edges) - 1
    base = np.zeros(num)
    for i, (name, values) in enumerate(groups.items()):
      place = np.clip(np.searchsorted(edges, values, side='right') - 1, 0, num - 1)
      counts = np.bincount(place.astype(int), minlength=num)
      colour = svg.SERIES[i % len(svg.SERIES)][0]
      left = np.arange(num) + 0.5
      axes.bar(left, counts, 0.86, base, color=colour, label=f'{name}  {len(values):,}')
      base += counts
    step = -(-num // _TICKS)
    axes.set_xticks(range(0, num + 1, step), [f'{edge:,g}' for edge in edges[::step]])
    axes.set_xlim(0, num)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter('{x:,.0f}')
    axes.grid(axis='y', color=svg.GRID[0], alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=svg.TEXT[0], length=0, pad=5)
    for side in ('top', 'left', 'right'):
      axes.spines[side].set_visible(False)
    axes.spines['bottom'].set(color=svg.AXIS[0], linewidth=0.8)
    _label(canvas, axes, title, unit, legend=len(groups) > 0)
    file = io.StringIO()
    canvas.savefig(file, format='svg', transparent=True, metadata={'Date': None})
  return svg.inline(file.getvalue(), title)


def _label(canvas: figure.Figure, axes, title: str, unit: str, *, legend: bool) -> None:
  """Title, unit and legend, and room at the left for the labels of the ticks."""
  canvas.text(
    0.004, 0.985, title, va='top', weight='bold', color=svg.INK[0], size=11.5, parse_math=False
  )
  canvas.text(0.985, 0.975, unit, va='top', ha='right', color=svg.TEXT[0], size=9.5)
  if legend:
    drawn = axes.legend(
      ncols=4,
      loc='lower right',
      bbox_to_anchor=(1.015, 0.985),
      frameon=False,
      handlelength=0.8,
      fontsize=9.5,
      labelcolor=svg.TEXT[0],
    )
    for text in drawn.get_texts():
      text.set_parse_math(False)
  canvas.patch.set_visible(False)
  axes.patch.set_visible(False)
  canvas.draw_without_rendering()
  widest = max((t.get_window_extent().width for t in axes.get_yticklabels()), default=0)
  left = (widest + 9) / canvas.bbox.width
  # The last edge's label stands half beyond the bars.
  axes.set_position((left, 0.13, 0.94 - left, 0.66))
