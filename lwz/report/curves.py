"""Plots of metrics over steps as inline SVG for a page."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import patches, ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from lwz.report import canvas as canvas_lib
from lwz.report import number, svg

_POINTS = 400  # buckets a long curve is thinned to; each keeps its lowest and its highest value


def smoothed(values: np.ndarray, smooth: float | None) -> np.ndarray:
  """Returns the two-sided exponential mean m_t = (sum_i smooth^|t-i| x_i) / (sum_i smooth^|t-i|).

  `values` float [N]; NaN is skipped, and is NaN in the result. `smooth` in [0, 1); 0 changes
  nothing, None reaches over a thirtieth of the values, at most 30. Two-sided, since the usual
  one-sided mean draws a falling loss later than it fell; the last value is the same in both.

  Raises ValueError for another `smooth`.
  """
  smooth = _strength(np.isfinite(values).sum(), smooth)
  if not 0 <= smooth < 1:
    raise ValueError(f'smooth is {smooth}; it must lie in [0, 1), 0 for none')
  out, finite = np.full(len(values), np.nan), np.isfinite(values)
  x = np.asarray(values, float)[finite]
  ones = np.ones_like(x)
  total = _past(x, smooth) + _past(x[::-1], smooth)[::-1] - x
  weight = _past(ones, smooth) + _past(ones, smooth)[::-1] - ones
  out[finite] = total / weight
  return out


def _past(x: np.ndarray, smooth: float) -> np.ndarray:
  """sum_{i <= t} smooth^(t-i) x_i."""
  sums = itertools.accumulate(x, lambda total, value: smooth * total + value)
  return np.fromiter(sums, float, len(x))


def draw(
  records: Iterable[Mapping[str, Any]],
  keys: Sequence[str],
  *,
  title: str,
  unit: str = '',
  band: tuple[str, str] | None = None,
  bands: Mapping[str, tuple[str, str]] = MappingProxyType({}),
  smooth: float | None = None,
  legend: bool = True,
) -> str:
  """Returns an inline `<svg>`, a curve per key over 'step': raw values faint, their mean strong.

  `records` are flat dicts, as lines of metrics.jsonl; of two with the same step the later counts,
  as after a resumed run. A record without a key is a step at which it was not logged, and the line
  goes on; NaN, an infinity, or a hole much wider than the key's usual spacing is a gap in it.
  `band=(low_key, high_key)` shades what lies between two more keys, such as the asked length, and
  `bands={key: (low_key, high_key)}` the interval of a curve, unless it would dwarf the curves.
  `smooth` is that of `smoothed`, `unit` labels the values. Without a `legend`, which `key` draws,
  curves are many, and raw values are left out. A key has the colour of its place in `keys`, so that
  it is the same in a plot where another one has no values.

  The background is transparent, colours are CSS variables with fallbacks that suit light and dark,
  ids are unique to the content, and equal arguments give equal bytes.

  Raises ValueError for a record without 'step' and for a value that is no number.
  """
  table = _by_step(records)
  curves = [(key, *_series(table, key)) for key in keys]
  curves = [(key, x, y) for key, x, y in curves if np.isfinite(y).any()]
  with canvas_lib.blank(title, unit) as (canvas, axes):
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(_tick))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(_tick))
    axes.margins(x=0.012, y=0.08)
    entries = [
      _curve(axes, keys.index(key), name, x, y, smooth, faint=legend)
      for name, (key, x, y) in zip(_short(curves), curves, strict=True)
    ]
    if band and curves:
      entries += _shade(axes, table, band, smooth)
    _shade_intervals(axes, table, keys, curves, bands)
    if not entries:
      axes.set(xticks=[], yticks=[])
      axes.text(0.5, 0.5, 'no values', transform=axes.transAxes, ha='center', color=svg.TEXT[0])
    if legend:
      canvas_lib.legend(axes, entries)
    canvas_lib.fit(canvas, axes)
    return canvas_lib.inline(canvas, title)


def key(names: Sequence[str], *, title: str) -> str:
  """Returns an inline `<svg>` of the legend of many curves, for plots that have none themselves."""
  with canvas_lib.blank(title, height=0.55 + 0.168 * len(names)) as (canvas, axes):
    axes.axis('off')
    entries = [
      (axes.plot([], [], **_line(i))[0], name)
      for i, name in enumerate(_short([(n,) for n in names]))
    ]
    axes.legend(
      *zip(*entries, strict=True),
      loc='upper left',
      bbox_to_anchor=(0, 1),
      frameon=False,
      fontsize=8,
      labelcolor=svg.TEXT[0],
      borderpad=0,
      handlelength=2,
    )
    axes.set_position((0.004, 0, 0.99, 1 - 0.42 / canvas.get_figheight()))
    return canvas_lib.inline(canvas, title)


def _line(i: int) -> dict[str, Any]:
  """Returns the colour and the dashes of the curve `i`."""
  dash = ('-', (0, (4, 2)), (0, (1, 1.5)))[i // len(svg.SERIES) % 3]
  return {'color': svg.SERIES[i % len(svg.SERIES)][0], 'linestyle': dash}


def _by_step(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  table = {}
  for i, record in enumerate(records):
    if 'step' not in record:
      raise ValueError(f"record {i} has no 'step': every record of a run names its step")
    table[record['step']] = {**table.get(record['step'], {}), **record}
  return [table[step] for step in sorted(table)]


def _series(table: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns steps and values of one key, NaN where the line has a gap."""
  steps, values = [], []
  for record in table:
    if key in record:
      try:
        value = float(np.nan if record[key] is None else record[key])
      except (TypeError, ValueError):
        raise ValueError(
          f'{key!r} at step {record["step"]} is {record[key]!r}; curves are of numbers'
        ) from None
      steps.append(float(record['step']))
      values.append(value if np.isfinite(value) else np.nan)
  x, y = np.array(steps), np.array(values)
  if len(x) > 2:
    width = np.diff(x)
    holes = np.flatnonzero(width > 3 * np.median(width))
    x, y = np.insert(x, holes + 1, x[holes] + width[holes] / 2), np.insert(y, holes + 1, np.nan)
  return x, y


def _strength(count: int, smooth: float | None) -> float:
  """Returns `smooth`, or one that reaches over a thirtieth of the points, at most 30."""
  return max(0.0, 1 - 2 / (min(count / 30, 30) + 1)) if smooth is None else smooth


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Keeps the lowest and the highest value of each of _POINTS buckets, and a gap if it has one."""
  if len(x) <= 2 * _POINTS:
    return x, y
  kept = {0, len(x) - 1}
  for bucket in np.array_split(np.arange(len(x)), _POINTS):
    finite = bucket[np.isfinite(y[bucket])]
    kept |= set(bucket[np.isnan(y[bucket])][:1])
    if len(finite):
      kept |= {finite[np.argmin(y[finite])], finite[np.argmax(y[finite])]}
  index = np.array(sorted(kept))
  return x[index], y[index]


def _curve(
  axes: Axes, i: int, name: str, x: np.ndarray, y: np.ndarray, smooth: float | None, *, faint: bool
) -> tuple[Artist, str]:
  """Draws one series; returns its strong line, and its name with the value of the line's end."""
  colour = _line(i)['color']
  mean = smoothed(y, smooth)
  finite = np.isfinite(y)
  if faint and not np.array_equal(mean[finite], y[finite]):
    # A line of its own, not the strong one made translucent: overlaps would add up.
    axes.plot(*_thin(x, y), color=colour, alpha=0.3, linewidth=0.9, solid_joinstyle='round')
  (strong,) = axes.plot(*_thin(x, mean), **_line(i), linewidth=1.9, solid_capstyle='round')
  # A value between two gaps has no line to be seen by.
  before, after = np.r_[False, finite[:-1]], np.r_[finite[1:], False]
  alone = finite & ~before & ~after if finite.sum() > 24 else finite
  axes.plot(x[alone], y[alone], 'o', color=colour, markersize=3, markeredgewidth=0)
  last = np.flatnonzero(finite)[-1]
  axes.plot(x[last], mean[last], 'o', color=colour, markersize=5, markeredgewidth=0, clip_on=False)
  # What the mean of zeros still holds of values long ago is none.
  is_zero = y[last] == 0 and abs(mean[last]) < 1e-6 * np.abs(y[finite]).max()
  end = 0.0 if is_zero else mean[last]
  return strong, f'{name}  {number.show(end)}'


def _shade(
  axes: Axes, table: Sequence[Mapping[str, Any]], band: tuple[str, str], smooth: float | None
) -> list[tuple[Artist, str]]:
  """Shades between the two keys of `band`, each smoothed as a curve would be."""
  (x, low), (other, high) = (_series(table, key) for key in band)
  x, at_low, at_high = np.intersect1d(x, other, return_indices=True)
  low, high = low[at_low], high[at_high]
  if not np.isfinite(low + high).any():
    return []
  strength = _strength(len(x), smooth)
  low, high = smoothed(low, strength), smoothed(high, strength)
  keep = np.linspace(0, len(x) - 1, min(len(x), _POINTS)).astype(int)
  axes.fill_between(x[keep], low[keep], high[keep], color=svg.BAND[0], alpha=0.22, linewidth=0)
  first, second = (key.rpartition('/')[2] for key in band)
  patch = patches.Patch(facecolor=svg.BAND[0], alpha=0.3, linewidth=0)
  return [(patch, f'{first} to {second}')]


def _shade_intervals(
  axes: Axes,
  table: Sequence[Mapping[str, Any]],
  keys: Sequence[str],
  curves: Sequence[tuple[str, np.ndarray, np.ndarray]],
  bands: Mapping[str, tuple[str, str]],
) -> None:
  """Shades each curve's interval in its colour, at most as far out as the curves range."""
  if not bands or not curves:
    return
  values = np.concatenate([y for _, _, y in curves])
  low, high = np.nanmin(values), np.nanmax(values)
  reach = (high - low) or abs(high) or 1.0
  for name, _, _ in curves:
    if name in bands:
      (x, lower), (_, upper) = (_series(table, key) for key in bands[name])
      ends = (np.clip(y, low - reach, high + reach) for y in (lower, upper))
      axes.fill_between(x, *ends, color=_line(keys.index(name))['color'], alpha=0.16, linewidth=0)


def _short(curves: Sequence[tuple]) -> list[str]:
  """Drops a shared prefix of names: 'reward/length', 'reward/format' -> 'length', 'format'."""
  names = [key for key, *_ in curves]
  prefixes = {name.rpartition('/')[0] for name in names}
  shared = len(names) > 1 and len(prefixes) == 1
  return [name.rpartition('/')[2] for name in names] if shared else names


def _tick(value: float, _: int | None = None) -> str:
  """A tick's label, short enough for the margin: '0.25', '1,500', '20k', '3M', '2e-6'."""
  for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e4, 'k')):
    if abs(value) >= size:
      return f'{value / (1e3 if letter == "k" else size):g}{letter}'
  if 0 < abs(value) < 1e-3:
    return re.sub(r'e([+-])0*', r'e\1', f'{value:.3g}')
  return f'{value:,.6g}'.replace('-', '−')
