"""The inside of long answers: measures by position, for every benchmark, without a judge."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lwz import text as texts
from lwz.evals import answers, cohesion, plan, position
from lwz.report import curves, number
from lwz.reward import padding, redundancy
from lwz.reward.hacking import grammar


def _repetition(text: str, windows) -> list[float]:
  """Returns the share of each window's words that repeat or paraphrase anything before them."""
  at_K, redundant_K, counted_K = redundancy.profile(text).T
  values = []
  for window in windows:
    inside_K = (at_K >= window.start) & (at_K < window.end)
    drones = padding.drones(window.text)
    counted = int(counted_K[inside_K].sum()) + drones
    redundant = int(redundant_K[inside_K].sum()) + drones
    values.append(redundant / counted if counted else math.nan)
  return values


def _distinct(text: str) -> float:
  """Returns distinct-3: the share of runs of three words that are new in the text."""
  runs = texts.shingles(texts.hash_words(texts.words(text.lower())), 3)
  return len(np.unique(runs)) / len(runs) if len(runs) else math.nan


MEASURES: dict[str, position.Measure] = {
  'repetition': position.Measure(_repetition, 1, 'share of words said before', least=0.1),
  'distinct': position.Measure(
    position.each(_distinct), -1, 'distinct runs of three words', least=0.05
  ),
  'disorder': position.Measure(
    position.each(grammar.disorder), 1, 'words out of place: 0 in prose, 1 if shuffled', least=0.2
  ),
  'cohesion': position.Measure(
    cohesion.of, -1, 'deviations more in order than shuffled sentences', least=0.5, part=0.5
  ),
  'section': position.Measure(
    lambda text, windows: [window.words for window in windows], -1, 'words of a section', 'sections'
  ),
}

PLAN = position.Measure(lambda text, windows: [], -1, 'points of the plan that are followed')


class Inside(NamedTuple):
  """Sections of results.json, a table, and plots as (caption, SVG)."""

  results: dict[str, Any]
  table: tuple[str, tuple[str, ...], list[tuple]]
  plots: list[tuple[str, str]]


def report(
  answered: Mapping[str, answers.Answers],
  seed: int,
  size: int,
  measures: Mapping[str, position.Measure] = MEASURES,
  prompts: Mapping[int, str] | None = None,
) -> Inside:
  """Returns each measure of each system's answers over position, its fall, and where texts break.

  `size` is the words of a window, at least those over `position.LEAST` of the answer that three
  quarters exceed, up to `position.SIZE`: answers of a file may be far longer than a run's. A text
  has at most `position.MOST` windows. `prompts` has the request of each answer, by its index. Where
  there are thoughts, `plan` says which of their points the answer covers in order, over the points.
  A measure that no answer has is left out. `breaks` is the share of answers that become worse at
  one place for more than chance, see `position.change`, of the `long` ones, those with enough
  windows for it; `at` is the median of these places.
  """
  words = [len(texts.words(t)) for given in answered.values() for t in given.texts.values()]
  size = max(size, min(position.SIZE, int(np.quantile(words or [0], 0.25)) // position.LEAST))
  results: dict[str, Any] = {}
  rows: list[tuple] = []
  plots = []
  for name, measure in {**measures, 'plan': PLAN}.items():
    found = {}
    for system, given in answered.items():
      if said := _curve(scored(given, measure, size, prompts), measure, seed):
        found[system] = said
    for system, said in found.items():
      means = [point['mean'] for point in said['curve']]
      fall, at = said['fall'], 100 * said['breaks']
      between = number.interval(fall['low'], fall['high'])
      row = (means[0], means[-1], fall['value'], between, fall['texts'])
      rows.append((system, name, *row, at, said['long'], said['at']))
    if found:
      results[name] = found
      plots.append((measure.title, _plot(f'{name} over position', found)))
  header = (
    'system',
    'measure',
    'first part',
    'last part',
    'fall',
    '95 %',
    'texts',
    'breaks %',
    'of long texts',
    'breaks at',
  )
  title = f'over position, by windows of {size} words; a positive fall is worse'
  return Inside(results, (title, header, rows), plots)


def scored(
  given: answers.Answers, measure: position.Measure, size: int, prompts: Mapping[int, str] | None
) -> dict[int, position.Scored]:
  """Returns the values of each answer's windows, or of the points of its plan if it is `PLAN`."""
  if measure is PLAN:
    return _plans(given)
  asked = prompts or {}
  return {
    i: position.score(text, measure, size, request=asked.get(i, ''))
    for i, text in given.texts.items()
  }


def _plans(given: answers.Answers) -> dict[int, position.Scored]:
  """Returns 1 for each point of each plan that its answer covers in order, 0 for the others."""
  found = {}
  for i, text in given.texts.items():
    kept = [float(p.ordered) for p in plan.places(given.thoughts.get(i, ''), text)]
    found[i] = position.Scored((np.arange(len(kept)) + 0.5) / max(len(kept), 1), np.array(kept))
  return found


def _curve(
  scored: Mapping[int, position.Scored], measure: position.Measure, seed: int
) -> dict[str, Any]:
  """Returns the curve, the fall and the breaks of one system's answers; {} if none has a value."""
  points = position.curve(scored, seed)
  if not points:
    return {}
  long = [of for of in scored.values() if np.isfinite(of.value_W).sum() >= position.LEAST]
  places = [position.change(of.value_W, measure.worse, seed, measure.least) for of in long]
  breaks = [of.at_W[place] for of, place in zip(long, places, strict=True) if place is not None]
  return {
    'curve': [point._asdict() for point in points],
    'fall': position.fall(scored, measure.worse, seed)._asdict(),
    'breaks': len(breaks) / len(long) if long else math.nan,
    'long': len(long),
    'at': float(np.median(breaks)) if breaks else math.nan,
  }


def _plot(title: str, found: Mapping[str, dict[str, Any]]) -> str:
  """Returns the curves of all systems with their intervals, over the share of the text."""
  steps: dict[float, dict[str, float]] = {}
  for system, said in found.items():
    for point in said['curve']:
      step = steps.setdefault(point['at'], {'step': 100 * point['at']})
      ends = {f'{system} {end}': point[end] for end in ('low', 'high')}
      step |= {system: point['mean'], **ends}
  return curves.draw(
    [steps[at] for at in sorted(steps)],
    list(found),
    title=title,
    unit='% of the text',
    bands={system: (f'{system} low', f'{system} high') for system in found},
    smooth=0.0,
  )
