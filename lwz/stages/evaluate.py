"""Evaluation: systems answer the prompts of a benchmark, and a judge compares or marks the answers.

1. read the benchmark, or make a small one from held-out titles   evals.arena, evals.writingbench
2. get each system's answer to each prompt                        judge.answers
3. ask the judge about the answers, both orders or each criterion judge.judge
4. rate, or aggregate                                             evals.standings, evals.marks
5. write results.json, table.md, report.html, people.html         report

Answers and verdicts are kept in answers.jsonl and verdicts.jsonl as they arrive, so that an
interrupted run sends no request twice.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from lwz.data import heldout_tasks
from lwz.data.funnel import stated_length
from lwz.evals import arena, lengths, marks, offline, standings, writingbench
from lwz.judge import answers, journal
from lwz.judge import judge as judge_lib
from lwz.judge import systems as systems_lib
from lwz.report import intervals, number, page, people
from lwz.report import table as table_lib
from lwz.runtime import setup, validation
from lwz.store import atomic, record

BENCHMARKS = ('arena', 'writingbench')


READS = (
  *(*setup.READS, *setup.DOCUMENTS, 'data.tested', 'data.lower', 'data.upper'),
  *('eval.benchmark', 'eval.file', 'eval.systems', 'eval.prompts', 'eval.rivals', 'eval.people'),
  *('eval.key_env', 'rollout.temperature', 'rollout.top_p', 'rollout.top_k'),
  *('rollout.max_tokens', 'rollout.min_tokens', *judge_lib.READS),
)


def check(c) -> None:
  if c.eval.benchmark not in BENCHMARKS:
    raise ValueError(f'eval.benchmark: there is no {c.eval.benchmark!r}; choose from {BENCHMARKS}')
  if not c.eval.systems:
    raise ValueError('eval.systems is empty: name runs, models or endpoints')
  validation.rollout(c)
  if c.rollout.min_tokens:
    raise ValueError(
      f'rollout.min_tokens={c.rollout.min_tokens}: answers are judged as they end; leave 0'
    )
  names = [systems_lib.name(c, source) for source in c.eval.systems]
  if len(set(names)) < len(names):
    raise ValueError(f'eval.systems: two are called the same: {", ".join(names)}')
  judge_lib.check(c)
  if c.eval.file:
    _load(c, epath.Path(c.eval.file))
  for source in c.eval.systems:
    if not setup.is_experiment(source):
      systems_lib.describe(c, source)
    if not systems_lib.is_endpoint(source):
      validation.decoding(c, source)


def run(c) -> None:
  opened = setup.open_run(c, READS)
  path = epath.Path(c.eval.file) if c.eval.file else _make_benchmark(c, opened.folder)
  benchmark, prompts, rejects, left_out = _load(c, path)
  systems = [systems_lib.describe(c, source) for source in c.eval.systems]
  if c.eval.benchmark == 'arena':
    systems = _distinct(systems, {name for task in benchmark for name in task.baselines})
  names = [system.name for system in systems]
  with journal.ReplyJournal(opened.folder / 'answers.jsonl') as kept:
    answered, failed = {}, {}
    for system in systems:
      answered[system.name], failed[system.name] = answers.ask(c, system, prompts, kept)
  finish = _arena if c.eval.benchmark == 'arena' else _writingbench
  with journal.ReplyJournal(opened.folder / 'verdicts.jsonl') as kept:
    results = finish(c, opened.folder, benchmark, names, answered, kept)
  results['left_out'] = left_out
  results['facts'] = {
    'benchmark': f'{c.eval.benchmark}, {c.eval.file or "held-out titles of the corpus"}',
    'prompts': len(prompts),
    'judge': judge_lib.name(c),
    'rejected records': len(rejects),
    'answers that failed': sum(map(len, failed.values())),
  } | results['facts']
  _write(c, opened, results, rejects, failed)


def _distinct(
  systems: Sequence[systems_lib.System], baselines: set[str]
) -> list[systems_lib.System]:
  """The systems; those with the name of a baseline are renamed."""
  return [
    dataclasses.replace(system, name=f'{system.name} (here)')
    if system.name in baselines
    else system
    for system in systems
  ]


def _load(c, path: epath.Path) -> tuple[Any, dict[int, str], list, int]:
  """The benchmark, its prompts by index, rejected records, and the number of unused prompts."""
  if c.eval.benchmark == 'arena':
    every, rejects = arena.load(path)
    if not every:
      raise ValueError(f'{path}: no usable record; the first: {rejects[0] if rejects else "-"}')
    tasks = every[: c.eval.prompts or None]
    asked = {task.idx: task.question for task in tasks}
    return tasks, asked, rejects, len(every) - len(tasks)
  bench = writingbench.load(path)
  queries = bench.queries[: c.eval.prompts or None]
  asked = {query.index: query.text for query in queries}
  return bench, asked, list(bench.rejects), len(bench.queries) - len(queries)


def _make_benchmark(c, folder: epath.Path) -> epath.Path:
  """Writes a small benchmark of held-out titles, in the schema of the published one."""
  make = heldout_tasks.arena if c.eval.benchmark == 'arena' else heldout_tasks.writingbench
  records = make(
    setup.heldout(c)[1],
    lower=c.data.lower,
    upper=c.data.upper,
    num=c.eval.prompts,
  )
  path = folder / f'{c.eval.benchmark}.jsonl'
  atomic.write_text(path, ''.join(map(record.encode, records)))
  return path


def _arena(c, folder, tasks: list[arena.Task], names, answered, kept) -> dict[str, Any]:
  """The sections of the report of an arena."""
  by_idx = {task.idx: task for task in tasks}

  def text(idx: int, name: str) -> str:
    return answered[name][idx] if name in answered else by_idx[idx].baselines[name]

  matches, judged = judge_lib.contest(c, tasks, answered, kept, rivals=c.eval.rivals)
  found, bias = standings.pairings(matches, judged.values)
  opponents = list(dict.fromkeys(name for task in tasks for name in task.baselines))
  rows = standings.rate(found, [*names, *opponents], c.seed)
  rates = standings.win_rates(found, names, by_idx, c.seed)
  asked = {task.idx: task.length for task in tasks}
  by_length = {n: lengths.metrics(asked, answered[n]) for n in names}
  people.write(
    folder / 'people.html',
    folder / 'people-key.json',
    [
      (m.idx, by_idx[m.idx].question, {n: text(m.idx, n) for n in (m.first, m.second)})
      for m in matches[::2]
    ],
    num=c.eval.people,
    seed=c.seed,
    title=setup.run_name(c),
  )
  rate = {row['system']: 100 * row['rate'] for row in rates if row['by'] == 'all'}
  table = [
    (
      *(row['player'], row['rating'], _range(row['low'], row['high']), row['elo']),
      rate.get(row['player']),
      *(by_length.get(row['player'], {}).get(key) for key in ('S_l', 'words')),
      row['games'],
    )
    for row in rows
  ]
  header = ('system', 'rating', '95 %', 'sequential Elo', 'win %', 'S_l', 'words', 'games')
  shown = [(*list(r.values())[:6], 100 * r['rate']) for r in rates]
  return {
    'facts': {
      'pairs judged': bias['pairs'],
      'pairs missing': bias['missing'],
      'first answer wins': bias['first_wins'],
      '95 % of that': _range(bias['first_wins_low'], bias['first_wins_high']),
      'both orders agree': bias['consistent'],
      'failed verdicts': len(judged.faults),
      'cost': judged.usage.cost,
    },
    'bias': bias,
    'standings': rows,
    'win_rates': rates,
    'lengths': by_length,
    'faults': sorted(set(judged.faults.values())),
    'tables': [
      ('Arena-Write', header, table),
      ('win rates', ('system', 'by', 'group', 'wins', 'ties', 'losses', 'win %'), shown),
    ],
    'plot': [(r['player'], r['rating'], r['low'], r['high']) for r in rows],
    'unit': 'Bradley-Terry rating on the Elo scale, 95 % interval over prompts',
  }


def _range(low: float, high: float) -> str:
  return f'{number.show(low)} to {number.show(high)}'


def _writingbench(c, folder, bench, names, answered, kept) -> dict[str, Any]:
  """The sections of the report of WritingBench, and its score files in the benchmark's schema."""
  asked = [
    (name, query, criterion)
    for name in names
    for query in bench.queries
    if query.index in answered[name]
    for criterion in query.criteria
  ]

  def question(name: str, query: writingbench.Query, criterion) -> judge_lib.Question:
    text = answered[name][query.index]
    stated = stated_length.find(query.text)
    words = stated.high if stated else 0
    by_rules = functools.partial(offline.mark, query.text, text, words, judge_lib.RULES)
    return judge_lib.Question(writingbench.messages(bench, query, criterion, text), by_rules)

  judged = judge_lib.ask(c, [question(*item) for item in asked], marks.read, kept)
  scores: dict[str, dict[int, dict[str, marks.Mark]]] = {name: {} for name in names}
  for (name, query, criterion), mark in zip(asked, judged.values, strict=True):
    if mark:
      scores[name].setdefault(query.index, {})[criterion['name']] = mark
  scores_of = {}
  for name in names:
    lines = [
      {'index': i, 'scores': {n: [mark._asdict()] for n, mark in named.items()}}
      for i, named in scores[name].items()
    ]
    atomic.write_text(folder / f'scores-{name}.jsonl', ''.join(map(record.encode, lines)))
    plain = {i: {n: m.score for n, m in named.items()} for i, named in scores[name].items()}
    scores_of[name] = marks.aggregate(bench, plain)
  columns = [key for key in scores_of[names[0]] if not key.startswith('domain2/')]
  table = [(name, *(scores_of[name][key] for key in columns)) for name in names]
  return {
    'facts': {
      'version': bench.version,
      'prompt of the critic': bench.prompt_source,
      'failed marks': len(judged.faults),
      'cost': judged.usage.cost,
    },
    'scores': scores_of,
    'faults': sorted(set(judged.faults.values())),
    'tables': [(f'WritingBench, {bench.version}', ('system', *columns), table)],
    'plot': [(name, scores_of[name]['overall'], *[float('nan')] * 2) for name in names],
    'unit': 'mean over criterion scores, 1 to 10',
  }


def _write(c, opened, results: dict[str, Any], rejects, failed) -> None:
  """results.json, table.md, report.html, DONE."""
  tables, plot, unit = (results.pop(key) for key in ('tables', 'plot', 'unit'))
  results['rejects'] = [reject._asdict() for reject in rejects]
  results['failed_answers'] = failed
  text = json.dumps(record.plain(results), indent=2)
  atomic.write_text(opened.folder / 'results.json', text + '\n')
  markdown = [table_lib.markdown(*table) for table in tables]
  notes = _notes(c, results)
  atomic.write_text(opened.folder / 'table.md', '\n'.join([*markdown, *notes]) + '\n')
  page.write(
    opened.report,
    title=setup.run_name(c),
    subtitle=f'{c.experiment}, judged by {judge_lib.name(c)}',
    facts=results['facts'],
    plots=[('', intervals.draw(plot, title=tables[0][0], unit=unit))],
    tables=[*tables, ('left out', ('where', 'why'), rejects[:100])] if rejects else tables,
    notes=notes,
  )
  print(markdown[0] + '\n'.join(notes))
  opened.mark_done(record.plain(results['facts']))
  print(f'report: {opened.report}')


def _notes(c, results: dict[str, Any]) -> list[str]:
  """Notes for readers of the tables."""
  notes = []
  if c.judge.model == offline.NAME:
    notes.append(
      f'Judged by {offline.NAME}, which measures length and repetition and reads no meaning: '
      'this shows that the pipeline works, and nothing about quality.'
    )
  if 'version' in results['facts']:
    notes.append(
      f'WritingBench version {results["facts"]["version"]}: scores of other versions, critics and '
      'prompts are not comparable.'
    )
  if results['left_out']:
    notes.append(f'eval.prompts={c.eval.prompts}: {results["left_out"]} more were not asked.')
  for name, faults in results['failed_answers'].items():
    if faults:
      reasons = '; '.join(sorted(set(faults.values()))[:3])
      notes.append(f'{name} has no answer to {len(faults)} prompts: {reasons}')
  if results['faults']:
    notes.append('The judge failed on some: ' + '; '.join(results['faults'][:5]))
  return notes
