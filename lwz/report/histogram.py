"""Histograms as inline SVG for a page."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker

from lwz.report import canvas as canvas_lib
from lwz.report import svg

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
  with canvas_lib.blank(title, unit) as (canvas, axes):
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
    canvas_lib.legend(axes, list(zip(*axes.get_legend_handles_labels(), strict=True)))
    canvas_lib.fit(canvas, axes, right=0.94)  # the last edge's label stands half beyond the bars
    return canvas_lib.inline(canvas, title)
