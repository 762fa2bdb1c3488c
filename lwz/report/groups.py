"""Groups of runs that differ by their seeds alone: means, intervals, paired differences."""

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lwz.report import curves, directions, number, summary

_FEW = 10  # with fewer values the interval is Student's; percentiles of so few are too narrow
_APART = 0.1  # share of its width by which the bootstrap must differ to be the one that is shown

_LONG = 24  # characters of a label beside a plot
_AVERAGE = 'average over'  # begins what several pairs of groups do not share
_ALONG = ('train.num_steps', 'train.decay_steps', 'rl.prompts_per_step')  # what follows another
_NOISE = 1e-9  # of sums of equal numbers

OUTCOME = 'eval/outcome/sampled'  # decides about a claim: it trained nothing
GREEDY = 'eval/outcome/greedy'  # decides where groups sample at different temperatures


class Run(NamedTuple):
  """A run: its config, flat and without seeds, the seeds that pair it, and its metrics.

  `prompts` has, for some metrics, the last evaluation's value of each held-out prompt.
  """

  name: str
  config: Mapping[str, str]
  seeds: tuple[str, ...]
  records: Sequence[Mapping[str, Any]]
  prompts: Mapping[str, Mapping[str, float]] = MappingProxyType({})

  def last(self, metric: str) -> float:
    """Returns the mean over the last 10 records, as `summary.first_last` has it, or NaN."""
    rows = summary.first_last(self.records, [metric])
    return rows[0].last if rows else float('nan')


class Group(NamedTuple):
  """Runs of one config: `values` are those of the keys that tell the groups apart."""

  label: str
  values: Mapping[str, str]
  runs: Sequence[Run]

  @property
  def short(self) -> str:
    """The label, or where that is long, the values without their keys."""
    return self.label if len(self.label) <= _LONG else ', '.join(self.values.values())


class Interval(NamedTuple):
  """A mean with the ends of its 95 % interval, NaN for fewer than 2 values, and the method."""

  mean: float
  low: float
  high: float
  method: str  # 't', 'bootstrap' or ''
  num: int

  def show(self) -> str:
    ends = f' {number.interval(self.low, self.high)}' if self.method else ''
    return number.show(self.mean) + ends


class Comparison(NamedTuple):
  """Two groups that differ by one key, in one metric: is the first the better one?"""

  metric: str
  first: str  # 'rl.advantage=balanced'
  second: str
  where: str  # what both groups share of what tells groups apart
  difference: Interval  # first - second, over pairs
  verdict: str  # 'holds', 'does not hold' or 'cannot tell'
  by: str = 'seed'  # what the two sides of a pair share: 'seed', or the held-out 'prompt'

  def claim(self) -> str:
    side = ('higher', 'higher (better)', 'lower (better)')[directions.of(self.metric)]
    where = f' ({self.where})' if self.where else ''
    return f'{self.metric} is {side} with {self.first} than with {self.second}{where}'

  def sentence(self) -> str:
    pairs = f'{self.difference.num} pair{"s" * (self.difference.num != 1)} by {self.by}'
    method = f', {self.difference.method}' if self.difference.method else ''
    return f'{self.claim()}: {self.verdict}; difference {self.difference.show()}, {pairs}{method}'


def interval(values: Iterable[float]) -> Interval:
  """Returns the mean of independent values with its 95 % interval; those that are NaN are left out.

  It is Student's, which takes the values for normal. From 10 values on it is the bootstrap's
  (percentiles of 10,000 resamples) where an end lies more than a tenth of the width elsewhere.
  """
  x = np.array([value for value in values if np.isfinite(value)])
  if len(x) < 2:
    return Interval(float(x.mean()) if len(x) else float('nan'), np.nan, np.nan, '', len(x))
  from scipy import stats  # here, as it takes a second

  mean = float(x.mean())
  half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
  if len(x) >= _FEW:
    index = np.random.default_rng(0).integers(len(x), size=(10_000, len(x)))
    low, high = (float(end) for end in np.percentile(x[index].mean(axis=1), [2.5, 97.5]))
    if max(abs(low - mean + half), abs(high - mean - half)) > _APART * 2 * half:
      return Interval(mean, low, high, 'bootstrap', len(x))
  return Interval(mean, mean - half, mean + half, 't', len(x))


def of(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
  """Returns the groups, in the order of their first runs, and the keys that differ along.

  A group is named by the fewest keys that tell all groups apart; the other keys that differ between
  runs, such as a step count and the decay that follows it, are returned.
  """
  every = sorted(set().union(*(run.config for run in runs)))
  differing = [key for key in every if len({run.config.get(key) for run in runs}) > 1]
  kept = list(differing)
  for key in sorted(differing, key=lambda key: key not in _ALONG):  # these are dropped first
    fewer = [other for other in kept if other != key]
    if _num_parts(runs, fewer) == _num_parts(runs, kept):
      kept = fewer
  found: dict[tuple, list[Run]] = {}
  for run in runs:
    found.setdefault(tuple(run.config.get(key, '') for key in kept), []).append(run)
  groups = []
  for values, members in found.items():
    named = {key: _plain(value) for key, value in zip(kept, values, strict=True)}
    label = ', '.join(f'{_short(key, kept)}={value}' for key, value in named.items())
    groups.append(Group(label or members[0].name, named, members))
  return groups, [key for key in differing if key not in kept]


def compare(groups: Sequence[Group], metrics: Sequence[str]) -> list[Comparison]:
  """Returns comparisons of each metric, between groups that differ by one key.

  They are paired by seed, and once more by prompt where runs have values of single prompts: the
  first interval is over runs begun anew, the second over other prompts to these very runs.

  The first value of a key, in the order of the runs, is compared with every other one: it is the
  one that is claimed to be better. Where several pairs of groups differ in the same way, their
  average comes first: a difference for each seed that all of them have. Where keys go together, so
  that not all of their combinations are there, the first group is compared with each that differs
  from it by several.
  """
  keys = list(groups[0].values) if groups else []
  found = []
  for key in keys:
    first, *others = dict.fromkeys(group.values[key] for group in groups)
    rest = [other for other in keys if other != key]
    for value in others:
      pairs = {}
      for one, other in itertools.product(groups, groups):
        apart = (one.values[key], other.values[key]) == (first, value)
        if apart and all(one.values[k] == other.values[k] for k in rest):
          where = ', '.join(f'{_short(k, keys)}={one.values[k]}' for k in rest)
          pairs[where] = one, other
      average = f'{_AVERAGE} {", ".join(_short(k, keys) for k in rest)}'
      names = [f'{_short(key, keys)}={side}' for side in (first, value)]
      found += _compared(pairs, metrics, names, average)
  if len(groups) < math.prod(len({group.values[key] for group in groups}) for key in keys):
    for other in groups[1:]:
      if sum(groups[0].values[key] != other.values[key] for key in keys) > 1:
        found += _compared({'': (groups[0], other)}, metrics, [groups[0].label, other.label], '')
  return found


def _compared(
  pairs: Mapping[str, tuple[Group, Group]],
  metrics: Sequence[str],
  names: Sequence[str],
  average: str,
) -> list[Comparison]:
  """Returns the comparisons of pairs of groups that differ in the same way."""
  found = []
  for metric, by in itertools.product(metrics, ('seed', 'prompt')):
    differences = _by_seed if by == 'seed' else _by_prompt
    each = {where: differences(*pair, metric) for where, pair in pairs.items()}
    if len(each) > 1:
      shared = set.intersection(*map(set, each.values()))
      pooled = {s: sum(one[s] for one in each.values()) / len(each) for s in sorted(shared)}
      each = {average: pooled, **each}
    for where, values in each.items():
      if (at := interval(values.values())).num:
        verdict = _verdict(at, directions.of(metric))
        found.append(Comparison(metric, names[0], names[1], where, at, verdict, by))
  return found


def curve(group: Group, metric: str) -> list[dict[str, float]]:
  """Returns, for `curves.draw`, the mean over runs of a smoothed metric by step, and its interval.

  The mean stands under the group's label, the ends under 'LABEL low' and 'LABEL high'. Steps that
  some of the runs lack are left out.
  """
  smooth = []
  for run in group.runs:
    rows = {r['step']: r[metric] for r in run.records if isinstance(r.get(metric), int | float)}
    values = curves.smoothed(np.array([rows[step] for step in sorted(rows)], float), None)
    smooth.append(dict(zip(sorted(rows), values, strict=True)))
  found = []
  for step in sorted(set.intersection(*(set(rows) for rows in smooth)) if smooth else ()):
    at = interval(rows[step] for rows in smooth)
    ends = {f'{group.label} low': at.low, f'{group.label} high': at.high} if at.method else {}
    found.append({'step': step, group.label: at.mean, **ends})
  return found


def _by_seed(first: Group, second: Group, metric: str) -> dict[Any, float]:
  """Returns first - second of each pair of runs, by their seeds."""
  return {one.seeds: one.last(metric) - other.last(metric) for one, other in _pairs(first, second)}


def _by_prompt(first: Group, second: Group, metric: str) -> dict[Any, float]:
  """Returns first - second of each prompt, the mean over the pairs of runs that both answer it."""
  found: dict[str, list[float]] = {}
  for one, other in _pairs(first, second):
    here, there = (run.prompts.get(metric, {}) for run in (one, other))
    for prompt in sorted(here.keys() & there.keys()):
      found.setdefault(prompt, []).append(here[prompt] - there[prompt])
  return {prompt: float(np.mean(values)) for prompt, values in found.items()}


def _pairs(first: Group, second: Group) -> list[tuple[Run, Run]]:
  others = {run.seeds: run for run in second.runs}
  return [(run, others[run.seeds]) for run in first.runs if run.seeds in others]


def conclusion(claim: str, compared: Sequence[Comparison]) -> str:
  """Returns whether a claim holds: a sentence with the differences of the outcome, '' without any.

  It holds if every comparison by seed does, and does not if one does not: the first value of a key
  is the one that is claimed to be better.
  """
  heats = any('temperature=' in one.first for one in compared)
  own = [o for o in compared if o.metric == (GREEDY if heats else OUTCOME) and _is_whole(o)]
  verdicts = [one.verdict for one in own if one.by == 'seed']
  if not verdicts:
    return ''
  verdict = 'holds' if {*verdicts} == {'holds'} else 'cannot tell'
  verdict = 'does not hold' if 'does not hold' in verdicts else verdict
  parts: dict[str, list[str]] = {}
  for one in own:
    shown = f'{one.difference.show()} ({one.difference.num} by {one.by})'
    parts.setdefault(f'{one.first} minus {one.second}', []).append(shown)
  said = '; '.join(f'{pair} {", ".join(shown)}' for pair, shown in parts.items())
  return f'{claim}: {verdict} at this size. Outcome{" of greedy answers" * heats}: {said}.'


def _is_whole(one: Comparison) -> bool:
  return not one.where or one.where.startswith(_AVERAGE)


def _verdict(difference: Interval, direction: int) -> str:
  low, high = difference.low, difference.high
  if abs(difference.mean) < _NOISE:
    return 'cannot tell'
  if direction < 0:
    low, high = -high, -low
  return 'holds' if low > 0 else 'does not hold' if high < 0 else 'cannot tell'


def _num_parts(runs: Sequence[Run], keys: Sequence[str]) -> int:
  return len({tuple(run.config.get(key) for key in keys) for run in runs})


def _short(key: str, keys: Sequence[str]) -> str:
  """Returns the last part of a key where no other one ends alike."""
  last = key.rpartition('.')[2]
  return last if [k.rpartition('.')[2] for k in keys].count(last) == 1 else key


def _plain(text: str) -> str:
  """Returns a JSON value as a reader has it: a text without its quotes."""
  value = json.loads(text) if text else ''
  return value if isinstance(value, str) else text
