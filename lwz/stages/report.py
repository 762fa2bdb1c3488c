"""Runs side by side: the same metrics of several runs, and of groups that differ by their seeds.

1. read config and metrics of each run; a sweep stands for its arms      store.run, store.metrics
2. group the runs by what differs, compare groups by seed and prompt     report.groups
3. plot each metric, a curve per run or group                            report.curves
4. write report.html, curves.svg, table.md and, of groups, groups.json   report.page
5. with `report.browser`, write what their browsers of rollouts lack     rl.browser
Of runs of the stage evaluate: a leaderboard, and how their judges agree judge.leaderboard

A group has at least two runs: without any, the runs themselves are plotted. The first sentence of a
sweep's file is its claim; of a single sweep the report says whether it holds.
"""

import collections
import json
import re
from collections.abc import Sequence

from etils import epath

from lwz import jsonl
from lwz.judge import leaderboard
from lwz.report import curves, groups, intervals, page, summary, table
from lwz.rl import browser
from lwz.runtime import keys, setup
from lwz.store import atomic, by_prompt, metrics, status
from lwz.store import record as record_lib
from lwz.store import run as run_lib

_OF_VALID = ('redundancy', 'words/', 'valid_only/')  # absent where no answer is valid
_HELD_OUT = 'eval/'  # absent where nothing is evaluated
_WIDTH, _ACROSS = 324, 3  # of a curve, and how many beside each other
_MANY = 10  # with more curves their legend is a plot of its own
_LONGEST = 32  # characters of a run's name in a legend
_SEEDS = ('seed', 'needs_seed')
_APART = (*_SEEDS, 'name', 'runs_dir', 'experiment', 'needs')  # say nothing about what a run does

READS = (*setup.READS, 'report')


def check(c) -> None:
  if not c.report.runs:
    raise ValueError('report.runs is empty: name runs, as in "(\'grpo_think-tiny\',)"')
  if _are_results(c):
    for name in c.report.runs:
      leaderboard.read(c, name)
    return
  if not c.report.metrics:
    raise ValueError('report.metrics is empty: name metrics, as in "(\'redundancy\',)"')
  names, _ = _names(c)
  records = [metrics.read(epath.Path(c.runs_dir) / name) for name in names]
  known = {key for read in records for record in read for key in record}
  for name in c.report.metrics:
    if name not in known and not name.startswith((*_OF_VALID, _HELD_OUT)):
      new = metrics.current_name(name)
      hint = f'it is called {new}' if new in known else f'choose from {", ".join(sorted(known))}'
      raise ValueError(f'report.metrics: no run of report.runs has {name!r}; {hint}')


def run(c) -> None:
  if _are_results(c):
    leaderboard.write(c, c.report.runs)
    return
  folder, root = setup.run_folder(c), epath.Path(c.runs_dir)
  names, left_out = _names(c)
  runs = [_read(c, name) for name in names]
  known = {key for run in runs for record in run.records for key in record}
  shown = [k for k in c.report.metrics if k in known or not k.startswith(_HELD_OUT)]
  found, along = groups.of(runs)
  notes = [f'left out: {said}' for said in left_out]
  tables = [('runs, first and last', ('run', *shown), _run_rows(runs, shown))]
  if any(len(group.runs) > 1 for group in found):
    drawn = _group_plots(found, shown)
    compared = groups.compare(found, shown)
    tables = [*_group_tables(found, compared, shown), *tables]
    said = groups.conclusion(_claim(c), compared)
    told = [] if said else [one.sentence() for one in compared if one.verdict != 'cannot tell']
    notes = [*([said] if said else []), *notes, *told, *_group_notes(along, compared)]
    _write_groups(folder, found, compared, said)
  else:
    drawn = _run_plots(runs, found, shown)
  for name in names if c.report.browser else ():
    browser.fill(c, root / name)
  page.write(
    folder / 'report.html',
    title=setup.run_name(c),
    subtitle='means of the first and the last 10 steps',
    curves=[('', svg) for svg in drawn],
    tables=tables,
    notes=notes,
    links=[
      (f'rollouts of {n}', f'../{n}/{at}') for n in names for _, at in browser.links(root / n)
    ],
  )
  (folder / 'curves.svg').write_text(_grid(drawn))
  texts = [table.markdown(*one) for one in tables]
  alone = len(texts) == 1  # then without its caption
  (folder / 'table.md').write_text(texts[0].split('\n\n', 1)[1] if alone else '\n'.join(texts))
  print(f'report: {folder / "report.html"}')


def _are_results(c) -> bool:
  """Whether `report.runs` are evaluations; raises ValueError if only some are."""
  found = [name for name in c.report.runs if leaderboard.is_result(epath.Path(c.runs_dir) / name)]
  if found and (others := [name for name in c.report.runs if name not in found]):
    raise ValueError(
      f'report.runs: {found[0]} is an evaluation, and {others[0]} is none: name one kind'
    )
  return bool(found)


def _names(c) -> tuple[list[str], list[str]]:
  """Returns the runs of `report.runs`, a sweep's arms in its place, and what is left out, and why.

  Arms that are not complete are left out, as their last steps are not those of the others.
  """
  names, left_out = [], []
  for name in c.report.runs:
    path = epath.Path(c.runs_dir) / name / 'sweep.json'
    if not path.exists():
      names.append(name)
      continue
    remedy = 'run the sweep again'
    arms = [arm['name'] for arm in jsonl.document(path, {'arms': list}, remedy=remedy)['arms']]
    for arm in arms:
      state = status.read(epath.Path(c.runs_dir) / arm).state
      if state == 'complete':
        names.append(arm)
      else:
        left_out.append(f'{arm} ({"not begun" if state == "empty" else state})')
    if not set(arms) & set(names):
      raise ValueError(f'{path}: no arm of the sweep is complete; run it first')
  return list(dict.fromkeys(names)), left_out


def _claim(c) -> str:
  """Returns the claim of the sweep, if it is a single one that is compared."""
  path = epath.Path(c.runs_dir) / c.report.runs[0] / 'sweep.json'
  if len(c.report.runs) > 1 or not path.exists():
    return ''
  return json.loads(path.read_text()).get('claim') or c.report.runs[0]


def _read(c, name: str) -> groups.Run:
  folder = epath.Path(c.runs_dir) / name
  # A key that the run's version did not have says what it says by default.
  default = run_lib.flatten(c.to_dict())
  default = {key: x for key, x in default.items() if not key.startswith('reward.weights.')}
  flat = default | keys.upgrade(run_lib.flatten(run_lib.Run(folder).config))
  stage = json.loads(flat.get('stage', '""'))
  config = {
    key: value
    for key, value in flat.items()
    if key == 'train.num_steps' or (stage not in keys.of(key).may_change and key not in _APART)
  }
  seeds = tuple(flat.get(key, '0') for key in _SEEDS)
  return groups.Run(name, config, seeds, metrics.read(folder), by_prompt.read(folder))


def _run_rows(runs: Sequence[groups.Run], shown: Sequence[str]) -> list[list[str]]:
  """Returns 'first → last' of each metric of each run, '-' where it has none."""
  found = []
  for one in runs:
    rows = {row.name: row for row in summary.first_last(one.records, shown)}
    values = [f'{rows[k].first:.3f} → {rows[k].last:.3f}' if k in rows else '-' for k in shown]
    found.append([one.name, *values])
  return found


def _run_plots(
  runs: Sequence[groups.Run], found: Sequence[groups.Group], shown: Sequence[str]
) -> list[str]:
  """Returns a plot of each metric with a curve per run; long names give way to what differs."""
  labels = {group.runs[0].name: group.label for group in found}
  names = {one.name: one.name if len(one.name) <= _LONGEST else labels[one.name] for one in runs}
  drawn = []
  for key in shown:
    records = [
      {'step': r['step'], names[one.name]: r.get(key)} for one in runs for r in one.records
    ]
    few = len(runs) <= _MANY
    drawn.append(curves.draw(records, list(names.values()), title=key, legend=few))
  return drawn if len(runs) <= _MANY else [*drawn, curves.key(list(names.values()), title='runs')]


def _group_plots(found: Sequence[groups.Group], shown: Sequence[str]) -> list[str]:
  """Returns, for each metric, the groups' means with their intervals over steps, and at the end."""
  labels = [group.label for group in found]
  drawn = []
  for key in shown:
    records = [record for group in found for record in groups.curve(group, key)]
    bands = {label: (f'{label} low', f'{label} high') for label in labels}
    few = len(found) <= _MANY
    drawn.append(curves.draw(records, labels, title=key, bands=bands, smooth=0, legend=few))
  if len(found) > _MANY:
    drawn.append(curves.key(labels, title='groups'))
  for key in shown:
    ends = [(g.short, groups.interval(one.last(key) for one in g.runs)) for g in found]
    rows = [(label, at.mean, at.low, at.high) for label, at in ends]
    drawn.append(intervals.draw(rows, title=f'{key}, last 10 steps'))
  return drawn


def _group_tables(found, compared, shown: Sequence[str]) -> list[tuple]:
  rows = [
    (g.label, len(g.runs), *(groups.interval(r.last(k) for r in g.runs).show() for k in shown))
    for g in found
  ]
  lines = [
    (one.claim(), one.verdict, d.show(), f'{d.num} by {one.by}', d.method)
    for one, d in ((one, one.difference) for one in compared)
  ]
  header = ('claim', 'verdict', 'difference, 95 % interval', 'pairs', 'method')
  caption = 'groups: means of the last 10 steps with 95 % intervals over runs'
  tables = [(caption, ('group', 'runs', *shown), rows)]
  return [*tables, ('paired differences', header, lines)] if lines else tables


def _group_notes(along: Sequence[str], compared: Sequence[groups.Comparison]) -> list[str]:
  notes = []
  if compared:
    counts = collections.Counter(one.verdict for one in compared)
    notes.append(
      f'Of {len(compared)} paired differences, in a table below, {counts["holds"]} hold, '
      f'{counts["does not hold"]} are the other way round, {counts["cannot tell"]} cannot tell; at '
      f'95 %, about {len(compared) / 20:.1f} would exclude zero by chance where nothing differs.'
    )
    notes.append(
      'Intervals and bands are of 95 % over runs: by t, and by the bootstrap where 10 runs or more '
      'show that the two differ. Pairs by seed speak of runs begun anew, pairs by prompt of other '
      'prompts to these very runs.'
    )
  if along:
    notes.append(f'These keys differ along with those that name the groups: {", ".join(along)}.')
  return notes


def _write_groups(folder: epath.Path, found, compared, conclusion: str) -> None:
  record = {
    'conclusion': conclusion,
    'groups': [
      {'label': g.label, 'values': g.values, 'runs': [one.name for one in g.runs]} for g in found
    ],
    'comparisons': [
      {**one._asdict(), 'difference': one.difference._asdict(), 'sentence': one.sentence()}
      for one in compared
    ],
  }
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(record_lib.plain(record), indent=2, ensure_ascii=False)
  atomic.write_text(folder / 'groups.json', text + '\n')


def _grid(drawn: Sequence[str]) -> str:
  """Returns one SVG file of several curves, each row as high as its highest plot."""
  boxes = [re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg) for svg in drawn]
  heights = [_WIDTH * float(box[2]) / float(box[1]) for box in boxes if box]
  rows = [max(heights[i : i + _ACROSS]) for i in range(0, len(heights), _ACROSS)]
  cells = [
    svg.replace(
      '<svg ',
      f'<svg x="{i % _ACROSS * _WIDTH}" y="{sum(rows[: i // _ACROSS]):g}" '
      + f'width="{_WIDTH}" height="{heights[i]:g}" ',
      1,
    )
    for i, svg in enumerate(drawn)
  ]
  size = f'{_WIDTH * _ACROSS} {sum(rows):g}'
  return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">{"".join(cells)}</svg>\n'
