"""The canvas of a plot: title, unit and grid, and its conversion to inline SVG."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import matplotlib.style
from matplotlib import figure
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends import backend_svg

from lwz.report import svg

_STYLE = {
  'svg.fonttype': 'none',  # text stays text: crisp, selectable, in the page's own font
  'svg.hashsalt': 'lwz',
  'text.parse_math': False,  # a '$' is one
  'font.size': 10,
}
_WIDTH, _HEIGHT = 4.5, 2.75  # inches, of 72 units each


@contextlib.contextmanager
def blank(
  title: str, unit: str = '', *, grid: Literal['x', 'y'] = 'y', height: float = _HEIGHT
) -> Iterator[tuple[figure.Figure, Axes]]:
  """A canvas and its axes, without a box; the plot is drawn, and `inline` called, inside."""
  # Glyphs that matplotlib's own font lacks are drawn by the browser's.
  with matplotlib.style.context(['default', _STYLE]), warnings.catch_warnings():
    warnings.filterwarnings('ignore', message='Glyph .* missing from')
    canvas = figure.Figure(figsize=(_WIDTH, height))
    backend_svg.FigureCanvasSVG(canvas)
    axes = canvas.add_axes((0.1, 0.11, 0.88, 0.7))
    canvas.text(0.004, 0.985, title, va='top', weight='bold', color=svg.INK[0], size=11.5)
    canvas.text(0.985, 0.975, unit, va='top', ha='right', color=svg.TEXT[0], size=9.5)
    canvas.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.spines[['top', 'left', 'right']].set_visible(False)
    axes.spines['bottom'].set(color=svg.AXIS[0], linewidth=0.8)
    axes.grid(axis=grid, color=svg.GRID[0], alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=svg.TEXT[0], length=0, pad=5)
    yield canvas, axes


def legend(axes: Axes, entries: Sequence[tuple[Artist, str]]) -> None:
  """Rows above the axes, at the right, as few as the width allows."""
  for columns in range(len(entries), 0, -1):
    drawn = axes.legend(
      *zip(*entries, strict=True),
      ncols=columns,
      loc='lower right',
      bbox_to_anchor=(1.015, 0.985),
      frameon=False,
      handlelength=1.1,
      handletextpad=0.5,
      columnspacing=1.3,
      borderpad=0.1,
      fontsize=9.5,
      labelcolor=svg.TEXT[0],
    )
    if drawn.get_window_extent().width <= axes.bbox.width:
      break


def label_width(canvas: figure.Figure, axes: Axes) -> float:
  """The share of the width that the labels of the ticks at the left take."""
  widths = [text.get_window_extent().width for text in axes.get_yticklabels()]
  return (max(widths, default=0) + 9) / canvas.bbox.width


def fit(canvas: figure.Figure, axes: Axes, *, right: float = 0.98) -> None:
  """Leaves room for the labels of the ticks at the left; the plot grows by the legend's height.

  The axes keep their height, however many entries the legend has.
  """
  left, height = label_width(canvas, axes), canvas.bbox.height
  drawn = axes.get_legend()
  extra = max(0, drawn.get_window_extent().height - 12) if drawn else 0
  canvas.set_size_inches(_WIDTH, _HEIGHT * (1 + extra / height))
  share = height / (height + extra)
  axes.set_position((left, 0.11 * share, right - left, 0.7 * share))
  for text in canvas.texts:
    text.set_y(1 - (1 - text.get_position()[1]) * share)


def inline(canvas: figure.Figure, title: str) -> str:
  """Returns the plot as an `<svg>` element for a page."""
  file = io.StringIO()
  canvas.savefig(file, format='svg', transparent=True, metadata={'Date': None})
  return svg.inline(file.getvalue(), title)
