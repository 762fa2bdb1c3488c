"""Where in a text a score falls: windows, curves over position, the fall from first to last.

A measure is given as an argument: repetition, disorder, a reward model, a language model, a judge.
Everything is counted in `lwz.text.words`, one Han character as one word, so that English and
Chinese are cut alike. The cost is linear in the text and bounded in its windows.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lwz import text as texts
from lwz.evals import numerals, standings

SIZE, MOST = 200, 24  # words of a window; windows of a text
PARTS = 8  # of the curve over position
ENDS = 0.25  # of a text: its windows in this share are its first, and its last, ones
# Of the test for a change, and the windows that it needs: where the last k of n are worse, 1 of
# C(n, k) orders looks like that, no less than 1 in 70 of 8 windows, 1 in 120 of 10 with k = 3.
PERMUTATIONS, LEVEL, LEAST = 999, 0.01, 10

_HEADING = re.compile(
  r'^[ \t]*(?:#{1,6}[ \t]+\S.*|[*_【\[]*(?:chapter|part|section|week|day|floor)[ \t]+'
  rf'(?:{numerals.ENGLISH}|[ivxlc]+)\b.{{0,80}}|'
  r'[*_【\[]*第[ \t]*[\d零〇一二三四五六七八九十百两]+[ \t]*[章节回部篇卷周天层].{0,40}|'
  r'\*\*[^*\n]{1,80}\*\*[:：]?|[一二三四五六七八九十]{1,3}、[^，。；！？\n]{1,30})$',
  re.I | re.M,
)


class Window(NamedTuple):
  """A part of a text: its first character, the one behind it, the words before it, its words."""

  start: int
  end: int
  before: int
  words: int
  text: str


class Measure(NamedTuple):
  """A measure of windows: (text, windows) -> values, NaN where it does not apply.

  One that `asks` is also given the request that the text answers, as a third argument.
  """

  of: Callable[..., Sequence[float]]
  worse: int  # +1 if more is worse, -1 if less is
  title: str
  by: str = 'words'  # windows of so many words, or the text's 'sections'
  least: float = 0.0  # a smaller change is no break
  asks: bool = False
  part: float = 1.0  # of the words of a window that its own windows have, which are more


class Scored(NamedTuple):
  """The values of a text's windows, and the place of each window's middle, from 0 to 1."""

  at_W: np.ndarray
  value_W: np.ndarray


class Point(NamedTuple):
  """A mean over the windows of a part of all texts; the 95 % interval is over texts."""

  at: float  # middle of the part
  mean: float
  low: float
  high: float
  num: int  # windows


class Fall(NamedTuple):
  """How much worse texts end than they begin; positive is worse."""

  value: float
  low: float
  high: float
  texts: int


def windows(text: str, size: int = SIZE, most: int = MOST) -> list[Window]:
  """Returns parts of about `size` words in whole sentences; [] of a text without words.

  A sentence of more than half a window is cut. Of more than `most` windows, `most` are taken,
  evenly spaced, with the first and the last one.
  """
  units = list(_units(text, max(1, size // 2)))
  ends = np.cumsum([0, *(words for _, _, words in units)])
  num = max(1, round(int(ends[-1]) / size))
  middles = (ends[:-1] + ends[1:]) / 2
  place = np.minimum(middles * num / max(int(ends[-1]), 1), num - 1).astype(int)
  found = []
  for k in np.unique(place):
    inside = np.flatnonzero(place == k)
    start, end = units[inside[0]][0], units[inside[-1]][1]
    words = int(ends[inside[-1] + 1] - ends[inside[0]])
    found.append(Window(start, end, int(ends[inside[0]]), words, text[start:end]))
  return _spaced([window for window in found if window.words], most)


def sections(text: str, most: int = MOST) -> list[Window]:
  """Returns the parts between headings (`## A`, `**A**`, `Chapter 2`, `第三章`); [] below two."""
  starts = [match.start() for match in _HEADING.finditer(text)]
  if len(starts) < 2:
    return []
  found, before = [], len(texts.words(text[: starts[0]]))
  for start, end in itertools.pairwise([*starts, len(text)]):
    words = len(texts.words(text[start:end]))
    found.append(Window(start, end, before, words, text[start:end]))
    before += words
  return _spaced(found, most)


def _spaced(found: Sequence[Window], most: int) -> list[Window]:
  chosen = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
  return [found[i] for i in chosen]


def _units(text: str, longest: int):
  """Yields (start, end, words) of the sentences, and of the pieces of long ones."""
  for at, sentence in texts.placed(text):
    places = [match.start() for match in texts.WORD.finditer(sentence)]
    cuts = [0, *places[longest::longest], len(sentence)]
    left = len(places)
    for start, end in itertools.pairwise(cuts):
      yield at + start, at + end, min(left, longest)
      left -= longest


def each(of: Callable[[str], float]) -> Callable[[str, Sequence[Window]], list[float]]:
  """Returns a measure of the text of each window alone."""
  return lambda text, windows: [of(window.text) for window in windows]


def score(
  text: str, measure: Measure, size: int = SIZE, most: int = MOST, request: str = ''
) -> Scored:
  """Returns the values of a measure over the windows of a text that answers the request."""
  found = cut(text, measure, size, most)
  return placed(text, found, measure.of(text, found, *[request] * measure.asks) if found else [])


def cut(text: str, measure: Measure, size: int = SIZE, most: int = MOST) -> list[Window]:
  """Returns the windows of a text that a measure has."""
  if measure.by == 'sections':
    return sections(text, most)
  return windows(text, max(1, round(size * measure.part)), round(most / measure.part))


def placed(text: str, windows: Sequence[Window], values: Sequence[float]) -> Scored:
  """Returns the values of windows of a text, with their places in it."""
  total = max(len(texts.words(text)), 1)
  middles = [(window.before + window.words / 2) / total for window in windows]
  return Scored(np.array(middles, float), np.array(values, float))


def means(scored: Iterable[Scored], parts: int = PARTS) -> list[float]:
  """Returns the mean in each part of the texts, NaN where it has no value: `curve` in brief."""
  sums, counts = np.zeros((2, parts))
  for at_W, value_W in scored:
    kept = np.isfinite(value_W)
    part_W = np.minimum((at_W[kept] * parts).astype(int), parts - 1)
    sums += np.bincount(part_W, value_W[kept], parts)
    counts += np.bincount(part_W, minlength=parts)
  return np.divide(sums, counts, out=np.full(parts, np.nan), where=counts > 0).tolist()


def curve(scored: Mapping[int, Scored], seed: int, parts: int = PARTS) -> list[Point]:
  """Returns the mean in each part of the texts, with its interval from a bootstrap over texts.

  NaN values are left out; a part without values is, too, and one of a single text has no interval.
  """
  points = []
  rows = [
    (min(int(at * parts), parts - 1), value, key)
    for key, of in scored.items()
    for at, value in zip(of.at_W, of.value_W, strict=True)
    if math.isfinite(value)
  ]
  for part in range(parts):
    inside = [(value, key) for k, value, key in rows if k == part]
    if inside:
      points.append(Point((part + 0.5) / parts, *_mean(inside, seed), len(inside)))
  return points


def fall(scored: Mapping[int, Scored], worse: int, seed: int) -> Fall:
  """Returns the mean over texts of how much worse their last windows are than their first ones.

  worse * (mean of the windows in the last ENDS of the text - mean of those in the first), so that
  it is positive where texts become worse; the interval is over texts. Texts with fewer than two
  windows count nothing.
  """
  found = []
  for key, (at_W, value_W) in scored.items():
    at_W, value_W = at_W[np.isfinite(value_W)], value_W[np.isfinite(value_W)]
    if len(value_W) > 1:
      first, last = at_W <= max(ENDS, at_W[0]), at_W >= min(1 - ENDS, at_W[-1])
      found.append((float(worse * (value_W[last].mean() - value_W[first].mean())), key))
  return Fall(*_mean(found, seed), len(found))


def _mean(values: Sequence[tuple[float, int]], seed: int) -> tuple[float, float, float]:
  """Returns the mean of (value, text) and its interval over texts."""
  return standings.clustered_mean(np.array([v for v, _ in values]), [k for _, k in values], seed)


def change(value_W: np.ndarray, worse: int, seed: int = 0, least: float = 0.0) -> int | None:
  """Returns the window at which a text becomes worse, None where it does not.

  The split with the largest standardised difference of means, worse * (after - before) *
  sqrt(k (n - k) / n), if less than LEVEL of PERMUTATIONS orders of the windows have as large a one,
  and the difference is at least `least`. Windows without a value are left out; fewer than LEAST
  tell nothing.
  """
  kept = np.flatnonzero(np.isfinite(value_W))
  if len(kept) < LEAST or np.ptp(value_W[kept]) == 0:
    return None
  values = worse * value_W[kept]
  rng = np.random.default_rng(seed)
  orders = np.array([values, *(rng.permutation(values) for _ in range(PERMUTATIONS))])
  steps_N = _steps(orders)
  if np.mean(steps_N.max(1) >= steps_N[0].max() - 1e-12) > LEVEL:
    return None
  at = int(steps_N[0].argmax()) + 1
  return int(kept[at]) if values[at:].mean() - values[:at].mean() >= least else None


def _steps(orders_NW: np.ndarray) -> np.ndarray:
  """Returns the standardised difference at each split of each order: [N, W - 1]."""
  num = orders_NW.shape[1]
  left_W = np.arange(1, num)
  sums = np.cumsum(orders_NW, axis=1)[:, :-1]
  total = orders_NW.sum(1, keepdims=True)
  difference = (total - sums) / (num - left_W) - sums / left_W
  return difference * np.sqrt(left_W * (num - left_W) / num)
