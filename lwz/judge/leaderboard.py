"""Leaderboard: results of the stage evaluate under the same conditions, and agreement of judges.

results['leaderboard'] = section(c, loaded, results, down)  # of each run, when it is made
write(c, ('mine', 'yours'))  # one page about several runs
"""

import itertools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from scipy import stats

from lwz import jsonl
from lwz.evals import judge_agreement
from lwz.judge import benchmarks, journal, systems
from lwz.judge import judge as judge_lib
from lwz.report import intervals, number, page, table
from lwz.runtime import setup
from lwz.store import atomic
from lwz.store import run as run_lib

_SIDES = {'A': 1.0, 'B': -1.0, 'C': 0.0}  # a verdict on two answers as a number
_NONE = 'none'
TRAINED = 'trained by this judge'  # a fact of an evaluation, and a mark of the systems' rows
_LONGEST = 28  # characters of a system's name in the plot


class _Result(NamedTuple):
  """A run: its conditions, the scores of its systems, and the judge's numbers."""

  run: str
  conditions: dict[str, str]
  unit: str
  lower_is_better: bool
  rows: list[dict[str, Any]]
  judged: dict[tuple, float]  # (index, answers, criterion) -> number


def section(c, loaded: benchmarks.Loaded, results: Mapping[str, Any], down: bool) -> dict[str, Any]:
  """Returns what a leaderboard needs of an evaluation; `down` if a lower score is better.

  An arena's ratings are centred on its players, who are then a condition; without rivals its scores
  are the win rates against the baselines, which do not depend on the other systems.
  """
  facts, judge = results['facts'], results['facts']['judge'].partition('@http')[0]
  source = facts.get('prompt of the critic') or facts.get('prompt of the judge') or 'of lwz'
  said = facts.get('sampling of the critic') or ', '.join(
    f'{key} {value}' for key, value in judge_lib.sampling(c).items()
  )
  shown, unit, opponents = results['plot'], results['unit'], '-'
  if 'win_rates' in results and not c.eval.rivals:
    unit = '% of games against the baselines'
    shown = [
      (row['system'], *(100 * row[key] for key in ('rate', 'low', 'high')))
      for row in results['win_rates']
      if row['by'] == 'all'
    ]
  elif 'standings' in results:
    opponents = ', '.join(sorted(row['player'] for row in results['standings']))
  # All that the judge and the scores depend on, without where it lies and what was left out of it.
  content = getattr(loaded.content, 'queries', loaded.content)
  digest = journal.key(
    repr((content, *map(sorted, (loaded.prompts.items(), loaded.asked.items()))))
  )
  sampled = {'of the file' if systems.is_file(s) else facts['sampling'] for s in c.eval.systems}
  conditions = {
    'benchmark': c.eval.benchmark,
    'version': facts.get('version', '-'),
    'queries': f'{len(loaded.prompts)} of digest {digest[:8]}',
    'judge': judge,
    "judge's prompt": source if judge != _NONE else '-',
    'sampling of the judge': said if judge != _NONE else '-',
    'sampling of the systems': '; '.join(sorted(sampled)),
    'opponents': opponents,
  }
  rows = [
    {
      **{'system': system, 'value': value, 'low': low, 'high': high},
      **({TRAINED: True} if system in results.get('trained', ()) else {}),
      **{'S_l': results['by_length'][system][0]['S_l'] if system in results['by_length'] else None},
      **results['answers'].get(system, {}),
    }
    for system, value, low, high in shown
  ]
  return {
    'conditions': conditions,
    'unit': unit,
    'lower_is_better': down,
    'rows': rows,
  }


def is_result(folder: epath.PathLike) -> bool:
  """Whether a folder is a run of the stage evaluate."""
  path = epath.Path(folder) / 'config.json'
  config = run_lib.Run(epath.Path(folder)).config if path.exists() else {}
  return 'stage' in config and config['stage'] == 'evaluate'


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
  rows = [row for row in kept['rows'] if isinstance(row, dict)]
  if 'judge' not in conditions or not all(isinstance(row.get('system'), str) for row in rows):
    raise ValueError(
      f"{path}: leaderboard has no judge, or a row without a system's name; {remedy}"
    )
  marks = path.parent / benchmarks.JUDGEMENTS
  lines = jsonl.scan(jsonl.lines(marks)) if marks.exists() else ()
  judged = dict(filter(None, jsonl.parsed(marks, lines, _judgement)))
  return _Result(name, conditions, kept['unit'], kept['lower_is_better'], rows, judged)


def _judgement(row: dict[str, Any]) -> tuple[tuple, float] | None:
  """Returns what was judged and its number; None where the judge failed, or no answer is named."""
  scores = jsonl.field(row, 'scores', dict, {})
  given = [jsonl.field(scores, name, numbers.Real) for name in scores]
  given.append(jsonl.field(row, 'score', numbers.Real, math.nan))
  given.append(_SIDES.get(jsonl.field(row, 'verdict', str, ''), math.nan))
  values = [float(x) for x in given if not math.isnan(x)]  # a judge gives one of the three kinds
  answers = jsonl.field(row, 'answers', list, [])
  if not values or not answers:
    return None
  index = jsonl.field(row, 'idx' if 'idx' in row else 'index', int)
  key = (index, *map(str, answers), jsonl.field(row, 'criterion', str, ''))
  return key, sum(values) / len(values)


def write(c, runs: Sequence[str]) -> None:
  """Writes report.html and table.md: the results of the commonest conditions, others apart."""
  folder, results = setup.run_folder(c), [read(c, name) for name in runs]
  groups: dict[tuple, list[_Result]] = {}
  for result in results:
    groups.setdefault(tuple(sorted(result.conditions.items())), []).append(result)
  shown = max(groups.values(), key=len)
  sign = 1 if shown[0].lower_is_better else -1
  rows = [(row, result.run) for result in shown for row in result.rows]
  rows.sort(key=lambda of: of[0]['system'])  # of equal scores, and of those without, by name
  rows.sort(key=lambda of: math.inf if math.isnan(v := _value(of[0])) else sign * v)
  tables = [_standings(rows)]
  apart = [one for result in results if result not in shown for one in _apart(result, shown[0])]
  if apart:
    columns = ('run', 'what differs', 'system', 'score', '95 %')
    tables.append(('other conditions: not comparable', columns, apart))
  notes = ['Intervals of systems that overlap do not tell which is better.']
  if agreed := _agreements(c, results):
    notes.append(
      "Of two judges, rho is Spearman's, with its 95 % interval over queries, alpha Krippendorff's "
      'of interval data, same the share of equal marks, difference the mean of the second minus '
      "the first, the order of systems Kendall's tau of their scores."
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
      (place, _marked(row), row.get('S_l'), row.get('value'), _interval(row), *tail, run)
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
    (result.run, differs, _marked(row), row.get('value'), _interval(row)) for row in result.rows
  ]


def _agreements(c, results: Sequence[_Result]) -> list[tuple]:
  """Returns a row for any two runs whose judges differ and have judged the same answers."""
  found = []
  by_judge = sorted(results, key=lambda of: of.conditions['judge'])
  for first, second in itertools.combinations(by_judge, 2):
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


def _marked(row: Mapping[str, Any]) -> str:
  return f'{row["system"]}, {TRAINED}' if row.get(TRAINED) else row['system']


def _short(name: str) -> str:
  return name if len(name) <= _LONGEST else f'{name[: _LONGEST - 1]}…'


def _interval(row: Mapping[str, Any]) -> str:
  return number.interval(row.get('low'), row.get('high'))


def _number(value: Any) -> float:
  return float(value) if isinstance(value, int | float) else math.nan


def _value(row: Mapping[str, Any]) -> float:
  return _number(row.get('value'))
