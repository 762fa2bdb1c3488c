"""Leaderboard: results of the stage evaluate under the same conditions, and agreement of judges.

results['leaderboard'] = section(c, prompts, results, down)  # of each run, when it is made
write(c, ('mine', 'yours'))  # one page about several runs
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from scipy import stats

from lwz import jsonl
from lwz.evals import judge_agreement
from lwz.judge import benchmarks, journal
from lwz.judge import judge as judge_lib
from lwz.report import intervals, number, page, table
from lwz.runtime import setup
from lwz.store import atomic
from lwz.store import run as run_lib

_SIDES = {'A': 1.0, 'B': -1.0, 'C': 0.0}  # a verdict on two answers as a number
_NONE = 'none'
_LONGEST = 28  # characters of a system's name in the plot


class _Result(NamedTuple):
  """A run: its conditions, the scores of its systems, and the judge's numbers."""

  run: str
  conditions: dict[str, str]
  unit: str
  lower_is_better: bool
  rows: list[dict[str, Any]]
  judged: dict[tuple, float]  # (index, answers, criterion) -> number


def section(
  c, prompts: Mapping[int, str], results: Mapping[str, Any], down: bool
) -> dict[str, Any]:
  """Returns what a leaderboard needs of an evaluation; `down` if a lower score is better."""
  facts, judge = results['facts'], results['facts']['judge'].partition('@http')[0]
  source = facts.get('prompt of the critic') or facts.get('prompt of the judge') or 'of lwz'
  said = facts.get('sampling of the critic') or ', '.join(
    f'{key} {value}' for key, value in judge_lib.sampling(c).items()
  )
  rivals = c.eval.benchmark == 'arena' and c.eval.rivals
  conditions = {
    'benchmark': c.eval.benchmark,
    'version': facts.get('version', '-'),
    'queries': f'{len(prompts)} of digest {journal.key(sorted(prompts.items()))[:8]}',
    'judge': judge,
    "judge's prompt": source if judge != _NONE else '-',
    'sampling of the judge': said if judge != _NONE else '-',
    'sampling of the systems': facts['sampling'],
    'opponents': ', '.join(sorted(results['answers'])) if rivals else '-',
  }
  rows = [
    {
      **{'system': system, 'value': value, 'low': low, 'high': high},
      **{'S_l': results['by_length'][system][0]['S_l'] if system in results['by_length'] else None},
      **results['answers'].get(system, {}),
    }
    for system, value, low, high in results['plot']
  ]
  return {
    'conditions': conditions,
    'unit': results['unit'],
    'lower_is_better': down,
    'rows': rows,
  }


def is_result(folder: epath.PathLike) -> bool:
  """Whether a folder is a run of the stage evaluate."""
  path = epath.Path(folder) / 'config.json'
  return path.exists() and run_lib.Run(epath.Path(folder)).config['stage'] == 'evaluate'


def read(c, name: str) -> _Result:
  """Returns a run's result. Raises ValueError if it has none, or one without conditions."""
  path = epath.Path(c.runs_dir) / name / 'results.json'
  if not path.exists():
    raise ValueError(f'report.runs: {name} has no results.json; finish the evaluation first')
  remedy = 'delete DONE in its folder and run it again: no request is sent twice'
  kept = jsonl.document(path, {'leaderboard': dict}, remedy=remedy)['leaderboard']
  fields = {'conditions': dict, 'unit': str, 'lower_is_better': bool, 'rows': list}
  wrong = [f'leaderboard.{key} is missing' for key in fields if key not in kept]
  if wrong := wrong + jsonl.faults(kept, fields):
    raise ValueError(f'{path}: {"; ".join(wrong)}; {remedy}')
  conditions = {str(key): str(value) for key, value in kept['conditions'].items()}
  rows = [row for row in kept['rows'] if isinstance(row, dict) and 'system' in row]
  judged = _judged(path.parent / benchmarks.JUDGEMENTS)
  return _Result(name, conditions, kept['unit'], kept['lower_is_better'], rows, judged)


def _judged(path: epath.Path) -> dict[tuple, float]:
  found: dict[tuple, float] = {}
  for row in jsonl.read(path, skip='all')[0] if path.exists() else ():
    given = [row.get('score'), _SIDES.get(row.get('verdict'))]
    given += [sum(of.values()) / len(of) for of in (row.get('scores'),) if isinstance(of, dict)]
    value = next((x for x in given if isinstance(x, int | float)), None)
    if value is not None and isinstance(row.get('answers'), list):
      index = row.get('idx', row.get('index'))
      found[(index, *map(str, row['answers']), row.get('criterion'))] = float(value)
  return found


def write(c, runs: Sequence[str]) -> None:
  """Writes report.html and table.md: the results of the commonest conditions, others apart."""
  folder, results = setup.run_folder(c), [read(c, name) for name in runs]
  groups: dict[tuple, list[_Result]] = {}
  for result in results:
    groups.setdefault(tuple(sorted(result.conditions.items())), []).append(result)
  shown = max(groups.values(), key=len)
  sign = 1 if shown[0].lower_is_better else -1
  rows = [(row, result.run) for result in shown for row in result.rows]
  rows.sort(key=lambda of: (sign * _value(of[0]), of[0]['system']))
  tables = [_standings(rows)]
  apart = [one for result in results if result not in shown for one in _apart(result, shown[0])]
  if apart:
    columns = ('run', 'what differs', 'system', 'score', '95 %')
    tables.append(('other conditions: not comparable', columns, apart))
  notes = ['Intervals of systems that overlap do not tell which is better.']
  if agreed := _agreements(c, results):
    notes.append(
      "Of two judges, rho is Spearman's, with its 95 % interval over queries, alpha Krippendorff's "
      "of interval data, the order of systems Kendall's tau of their scores."
    )
    names = ('first judge', 'second judge', *judge_agreement.Agreement._fields, 'order of systems')
    tables.append(('two judges on the same answers', names, agreed))
  plot = [
    (_short(row['system']), _value(row), _number(row.get('low')), _number(row.get('high')))
    for row, _ in rows
  ]
  texts = '\n'.join(table.markdown(*one) for one in tables)
  page.write(
    folder / 'report.html',
    title=setup.run_name(c),
    subtitle='results under the same conditions',
    facts=shown[0].conditions,
    plots=[('', intervals.draw(plot, title='leaderboard', unit=shown[0].unit))],
    tables=tables,
    notes=notes,
  )
  atomic.write_text(folder / 'table.md', texts)
  print(f'{texts}\nreport: {folder / "report.html"}')


def _standings(rows: Sequence[tuple[dict[str, Any], str]]) -> tuple[str, tuple, list[tuple]]:
  counts = ('answers', 'cut at the limit', 'empty', 'none')
  header = ('', 'system', 'S_l', 'score', '95 %', *counts, 'run')
  return (
    'leaderboard',
    header,
    [
      (place, row['system'], row.get('S_l'), row.get('value'), _interval(row), *tail, run)
      for place, (row, run) in enumerate(rows, start=1)
      for tail in [[row.get(key) for key in counts]]
    ],
  )


def _apart(result: _Result, shown: _Result) -> list[tuple]:
  names = dict.fromkeys([*shown.conditions, *result.conditions])
  differs = '; '.join(
    f'{name}: {result.conditions.get(name)}, not {shown.conditions.get(name)}'
    for name in names
    if result.conditions.get(name) != shown.conditions.get(name)
  )
  return [
    (result.run, differs, row['system'], row.get('value'), _interval(row)) for row in result.rows
  ]


def _agreements(c, results: Sequence[_Result]) -> list[tuple]:
  """Returns a row for any two runs whose judges differ and have judged the same answers."""
  found = []
  for first, second in itertools.combinations(results, 2):
    both = [key for key in first.judged if key in second.judged]
    if both and first.conditions['judge'] != second.conditions['judge']:
      one, two = ([of.judged[key] for key in both] for of in (first, second))
      agreed = judge_agreement.of(one, two, [key[0] for key in both], c.seed)
      judges = (of.conditions['judge'] for of in (first, second))
      found.append((*judges, *agreed, _order(first, second)))
  return found


def _order(first: _Result, second: _Result) -> float:
  """Returns Kendall's tau of the scores of the systems that both have; NaN of fewer than three."""
  scores = [{row['system']: _value(row) for row in of.rows} for of in (first, second)]
  names = [name for name in scores[0] if name in scores[1]]
  if len(names) < 3:
    return math.nan
  return float(stats.kendalltau(*([of[name] for name in names] for of in scores)).statistic)


def _short(name: str) -> str:
  return name if len(name) <= _LONGEST else f'{name[: _LONGEST - 1]}…'


def _interval(row: Mapping[str, Any]) -> str:
  return number.interval(row.get('low'), row.get('high'))


def _number(value: Any) -> float:
  return float(value) if isinstance(value, int | float) else math.nan


def _value(row: Mapping[str, Any]) -> float:
  return _number(row.get('value'))
