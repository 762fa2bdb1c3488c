"""Heat maps of measures over steps and position as inline SVG for a page."""

import statistics
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from lwz.report import canvas as canvas_lib
from lwz.report import number, svg

_COLUMNS, _TICKS = 40, 6  # evaluations that are shown, evenly spaced, and those with a label
# Seen on white and on black, and by the colour-blind; with more levels the scale is an image, which
# the policy of a page forbids.
_COLOURS = matplotlib.colormaps['viridis'].resampled(32)


def of_measures(
  positions: Mapping[int, Mapping[str, Sequence[float | None]]], titles: Mapping[str, str]
) -> list[tuple[str, str]]:
  """Returns (title, heat map) of each measure of `titles` that a step has, for a page.

  `positions` has the parts of a measure by step and name.
  """
  by_name = {name: {k: of[name] for k, of in positions.items() if name in of} for name in titles}
  return [
    (titles[name], draw(found, title=f'{name} over position'))
    for name, found in by_name.items()
    if found
  ]


def draw(parts_by_step: Mapping[int, Sequence[float | None]], *, title: str) -> str:
  """Returns an inline `<svg>`: a column per step, its parts upwards from the first, a colour scale.

  Steps with another number of parts than most are left out. A value that is None or NaN leaves its
  place empty. Of more than 40 steps so many are shown, evenly spaced, with the first and the last.
  """
  usual = statistics.mode(map(len, parts_by_step.values()))
  steps = [step for step in sorted(parts_by_step) if len(parts_by_step[step]) == usual]
  steps = _spaced(steps, _COLUMNS)
  values_NS = np.array([parts_by_step[step] for step in steps], float).T
  with canvas_lib.blank(title, '% of the text') as (canvas, axes):
    edges_N = np.linspace(0, 100, len(values_NS) + 1)
    masked = np.ma.masked_invalid(values_NS)
    mesh = axes.pcolormesh(np.arange(len(steps) + 1), edges_N, masked, cmap=_COLOURS)
    axes.grid(visible=False)
    shown = _spaced(range(len(steps)), _TICKS)
    axes.set_xticks([i + 0.5 for i in shown], [f'{steps[i]:,}' for i in shown])
    axes.set_yticks(np.linspace(0, 100, 5))
    left = canvas_lib.label_width(canvas, axes)
    axes.set_position((left, 0.11, 0.83 - left, 0.7))
    scale = canvas.colorbar(mesh, cax=canvas.add_axes((0.85, 0.11, 0.02, 0.7)))
    scale.outline.set_visible(False)
    low, high = mesh.get_clim()
    scale.set_ticks([low, high], labels=[number.show(low), number.show(high)])
    scale.ax.tick_params(colors=svg.TEXT[0], length=0, pad=3, labelsize=9)
    return canvas_lib.inline(canvas, title)


def _spaced(items: Sequence[int], most: int) -> list[int]:
  """Returns at most so many of the items, evenly spaced, with the first and the last one."""
  at = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
  return [items[i] for i in np.unique(at)]
