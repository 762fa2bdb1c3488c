"""Heat maps of measures over steps and position as inline SVG for a page."""

from collections.abc import Mapping, Sequence

import numpy as np

from lwz.report import canvas as canvas_lib
from lwz.report import number, svg

_COLUMNS, _TICKS = 60, 6  # evaluations that are shown, evenly spaced, and those with a label
_COLOURS = 'viridis'  # seen on white and on black, and by the colour-blind


def of_measures(
  positions: Mapping[int, Mapping[str, Sequence[float | None]]], titles: Mapping[str, str]
) -> list[str]:
  """Returns the heat map of each measure of `titles` that a step has; (step, measure) -> parts."""
  by_name = {name: {k: of[name] for k, of in positions.items() if name in of} for name in titles}
  return [
    draw(found, title=f'{name} over position', unit=titles[name])
    for name, found in by_name.items()
    if found
  ]


def draw(parts_by_step: Mapping[int, Sequence[float | None]], *, title: str, unit: str = '') -> str:
  """Returns an inline `<svg>`: a column per step, its parts upwards from the first, a colour scale.

  Every step has as many parts. A value that is None or NaN leaves its place empty. Of more than 60
  steps so many are shown, evenly spaced, with the first and the last one.
  """
  steps = sorted(parts_by_step)
  chosen = np.unique(np.linspace(0, len(steps) - 1, min(_COLUMNS, len(steps))).round().astype(int))
  steps = [steps[i] for i in chosen]
  values_NS = np.array([parts_by_step[step] for step in steps], float).T
  with canvas_lib.blank(title, unit) as (canvas, axes):
    num = len(values_NS)
    image = axes.imshow(
      values_NS,
      cmap=_COLOURS,
      aspect='auto',
      origin='lower',
      interpolation='nearest',
      extent=(-0.5, len(steps) - 0.5, 0, 100),
    )
    axes.grid(visible=False)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(_TICKS, len(steps))).round().astype(int))
    axes.set_xticks(shown, [f'{steps[i]:,}' for i in shown])
    axes.set_yticks(np.linspace(0, 100, 5 if num > 1 else 2))
    axes.yaxis.set_major_formatter('{x:.0f} %')
    left = canvas_lib.label_width(canvas, axes)
    axes.set_position((left, 0.11, 0.86 - left, 0.7))
    scale = canvas.colorbar(image, cax=canvas.add_axes((0.88, 0.11, 0.02, 0.7)))
    scale.outline.set_visible(False)
    low, high = image.get_clim()
    scale.set_ticks([low, high], labels=[number.show(low), number.show(high)])
    scale.ax.tick_params(colors=svg.TEXT[0], length=0, pad=3, labelsize=9)
    return canvas_lib.inline(canvas, title)
