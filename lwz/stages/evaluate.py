"""Evaluation: systems answer the prompts of a benchmark, and a judge compares or marks the answers.

1. read the benchmark, or make a small one from held-out titles   judge.benchmarks
2. get each system's answer to each prompt, or read a file of it  judge.answers
3. ask the judge about the answers, both orders or each criterion judge.judge
4. rate, or aggregate                                             judge.benchmarks
5. compare lengths, diversity, the inside of answers, unjudged    evals.lengths, judge.inside
6. write results.json, table.md, report.html, people.html         report

Answers and verdicts are kept in answers.jsonl and verdicts.jsonl as they arrive, so that an
interrupted run sends no request twice. judgements.jsonl says what each verdict is about: prompt,
systems in the judge's order, verdict, reply. answers-SYSTEM.jsonl is a system for another
evaluation, by another judge for instance; experiments/report.py compares the results.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from lwz.evals import answers as answers_lib
from lwz.evals import lengths, offline
from lwz.judge import answers, diversity, inside, journal, leaderboard
from lwz.judge import judge as judge_lib
from lwz.judge import systems as systems_lib
from lwz.judge.benchmarks import arena, consistency, longbench, longgen, ruler, writingbench
from lwz.report import intervals, number, page
from lwz.report import table as table_lib
from lwz.rl import judged, window_scorers
from lwz.runtime import keys, setup, validation
from lwz.store import atomic, record

# Each a module of `judge.benchmarks`.
BENCHMARKS = {
  **{'ruler': ruler, 'longgen': longgen, 'longbench': longbench, 'consistency': consistency},
  **{'arena': arena, 'writingbench': writingbench},
}

SAMPLING = ('temperature', 'top_p', 'top_k', 'max_tokens')  # of systems that are no file

READS = (
  *(*setup.READS, *setup.DOCUMENTS, 'data.tested', 'data.lower', 'data.upper'),
  *('eval.benchmark', 'eval.file', 'eval.systems', 'eval.prompts', 'eval.rivals', 'eval.people'),
  *('eval.lengths', 'eval.window', *window_scorers.READS),
  *('eval.key_env', 'eval.sends', 'rollout.temperature', 'rollout.top_p', 'rollout.top_k'),
  *('rollout.max_tokens', 'rollout.min_tokens', *judge_lib.READS),
)


def check(c) -> None:
  if c.eval.benchmark not in BENCHMARKS:
    raise ValueError(
      f'eval.benchmark: there is no {c.eval.benchmark!r}; choose from {", ".join(BENCHMARKS)}'
    )
  if not c.eval.systems:
    raise ValueError('eval.systems is empty: name runs, models or endpoints')
  validation.rollout(c)
  if c.rollout.min_tokens:
    raise ValueError(
      f'rollout.min_tokens={c.rollout.min_tokens}: answers are judged as they end; leave 0'
    )
  names = [systems_lib.name(c, source) for source in c.eval.systems]
  if len(set(map(answers.plain, names))) < len(names):
    raise ValueError(
      f'eval.systems: two are called the same: {", ".join(names)}; give one a name: NAME=SYSTEM'
    )
  judge_lib.check(c)
  window_scorers.check(c)
  loaded = None
  if c.eval.file:
    loaded = BENCHMARKS[c.eval.benchmark].load(c, epath.Path(c.eval.file))
  for named in c.eval.systems:
    _, source = keys.alias(named)
    if not setup.is_experiment(source):
      system = systems_lib.describe(c, named)
      if systems_lib.is_endpoint(source):
        systems_lib.endpoint(c, source, c.eval).read_key()
      if loaded and systems_lib.is_file(source):
        answers_lib.load(epath.Path(system.source), loaded.prompts)
    if not (systems_lib.is_endpoint(source) or systems_lib.is_file(source)):
      validation.decoding(c, source)


def run(c) -> None:
  opened = setup.open_run(c, READS)
  path = epath.Path(c.eval.file) if c.eval.file else _make_benchmark(c, opened.folder)
  benchmark = BENCHMARKS[c.eval.benchmark]
  loaded = benchmark.load(c, path)
  systems = [systems_lib.describe(c, source) for source in c.eval.systems]
  systems = _distinct(systems, loaded.baselines)
  names = [system.name for system in systems]
  trained = judged.trained(c, systems)
  with journal.ReplyJournal(opened.folder / 'answers.jsonl') as kept:
    found = {s.name: answers.ask(c, s, loaded.prompts, kept) for s in systems}
  answered = {name: got.texts for name, got in found.items()}
  failed = {name: got.faults for name, got in found.items()}
  if not any(answered.values()):
    every = {(n, i): fault for n, faults in failed.items() for i, fault in faults.items()}
    raise RuntimeError(
      f'eval.systems: all {len(every)} requests have failed: {judge_lib.causes(every)}; '
      'the answers so far are kept: run again to go on'
    )
  with journal.ReplyJournal(opened.folder / 'verdicts.jsonl') as kept:
    results = benchmark.report(c, opened.folder, loaded.content, names, answered, kept)
  results['left_out'] = loaded.left_out
  results['by_length'] = {
    name: lengths.by_length(loaded.asked, got.texts, got.cut, c.seed) for name, got in found.items()
  }
  measures = inside.MEASURES | window_scorers.measures(c)
  within = inside.report(found, c.seed, c.eval.window, measures, loaded.prompts)
  results['by_position'] = within.results
  results['diversity'] = {
    name: diversity.measure(got.texts, loaded.prompts) for name, got in found.items()
  }
  results['answers'] = {
    name: {
      'answers': len(got.texts),
      'cut at the limit': len(got.cut),
      'empty': sum(not text.strip() for text in got.texts.values()),
      'none': len(got.faults),
    }
    for name, got in found.items()
  }
  results['facts'] = {
    'benchmark': f'{c.eval.benchmark}, {c.eval.file or f"made here: {path.name}"}',
    'prompts': len(loaded.prompts),
    'judge': judge_lib.name(c),
    'sampling': ', '.join(
      f'{key} {c.rollout[key]}'
      for key in (*SAMPLING, *(['weights'] if c.rollout.weights != 'float' else []))
    )
    if any(s.style for s in systems)
    else 'of the file',
    'rejected records': len(loaded.rejects),
    'answers that failed': sum(map(len, failed.values())),
  } | results['facts']
  results['failed_answers'] = failed
  if trained and results['facts']['judge'] == judge_lib.name(c):
    results['trained'], results['facts'][leaderboard.TRAINED] = trained, ', '.join(trained)
  down = results.pop('lower_is_better', False)
  results['leaderboard'] = leaderboard.section(c, loaded, results, down)
  for name, got in found.items():
    answers.keep(opened.folder, name, got, loaded.prompts)
  _write(c, opened, results, within, loaded.rejects)


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


def _make_benchmark(c, folder: epath.Path) -> epath.Path:
  """Writes a small benchmark in the schema of the published one."""
  records = BENCHMARKS[c.eval.benchmark].make(c)
  path = folder / f'{c.eval.benchmark}.jsonl'
  atomic.write_text(path, ''.join(map(record.encode, records)))
  return path


def _lengths(by_length: dict[str, list[dict[str, Any]]]) -> tuple[str, tuple, list[tuple]]:
  """The table of asked and produced lengths: the cheapest numbers, so the first ones."""
  rows = [
    (
      *(name, row['group'], row['answers'], row['asked'], row['words'], row['S_l']),
      *(number.interval(row['low'], row['high']), row['rank']),
      *(100 * row[kind] for kind in ('early', 'cap', 'runaway')),
    )
    for name, found in by_length.items()
    for row in found
    if row['answers']
  ]
  header = (
    *('system', 'asked words', 'answers', 'mean asked', 'mean words', 'S_l', '95 %'),
    *('rank corr.', 'early end %', 'cap hit %', 'runaway %'),
  )
  return 'asked and produced length', header, rows


def _write(c, opened, results: dict[str, Any], within: inside.Inside, rejects) -> None:
  """results.json, table.md, report.html, DONE."""
  opened.check()
  own, plot, unit, covers = (results.pop(key) for key in ('tables', 'plot', 'unit', 'covers'))
  first = [table for table in (_lengths(results['by_length']),) if table[2]]
  shown = [*first, *own[:1], *([within.table] if within.table[2] else [])]
  counts = results['answers']
  rows = [(name, *counted.values()) for name, counted in counts.items()]
  header = ('system', *next(iter(counts.values())))
  varied = [(name, *of.values()) for name, of in results['diversity'].items()]
  measured = next(iter(results['diversity'].values()))
  columns = ('system', *(key.replace('_', ' ') for key in measured))
  tables = [
    *(*shown, ('answers of the systems', header, rows)),
    *(('diversity of the answers', columns, varied), *own[1:]),
  ]
  results['rejects'] = [reject._asdict() for reject in rejects]
  text = json.dumps(record.plain(results), indent=2)
  atomic.write_text(opened.folder / 'results.json', text + '\n')
  markdown = [table_lib.markdown(*table) for table in tables]
  notes = _notes(c, results)
  title = (own or shown)[0][0]
  atomic.write_text(opened.folder / 'table.md', '\n'.join([*markdown, *notes]) + '\n')
  page.write(
    opened.report,
    title=setup.run_name(c),
    subtitle=f'{c.experiment}, judge: {results["facts"]["judge"]}',
    facts=results['facts'],
    plots=[('', intervals.draw(plot, title=title, unit=unit, covers=covers)), *within.plots],
    tables=[*tables, ('left out', ('where', 'why'), rejects[:100])] if rejects else tables,
    notes=notes,
  )
  print('\n'.join(markdown[: len(shown)]) + '\n'.join(notes))
  opened.mark_done(record.plain(results['facts']))
  print(f'report: {opened.report}')


def _notes(c, results: dict[str, Any]) -> list[str]:
  """Notes for readers of the tables."""
  notes = []
  if results['facts']['judge'] == offline.NAME:
    notes.append(
      f'Judged by {offline.NAME}, which measures length, repetition and fixed forms of words: '
      'this shows that the pipeline works, and nothing about quality.'
    )
  if trained := results['facts'].get(leaderboard.TRAINED):
    notes.append(
      f'The judge {results["facts"]["judge"]} trained {trained}, and evaluates it: '
      'what it says of it is no independent measure.'
    )
  if 'version' in results['facts']:
    notes.append(
      f'WritingBench version {results["facts"]["version"]}: scores of other versions, critics and '
      'prompts are not comparable.'
    )
  if results['left_out']:
    notes.append(f'eval.prompts={c.eval.prompts}: {results["left_out"]} more were not asked.')
  for name, counted in results['answers'].items():
    if num_cut := counted['cut at the limit']:
      notes.append(
        f'{name}: {num_cut} of {counted["answers"]} answers were cut at the limit of tokens, and '
        'are judged as they are.'
      )
  for name, faults in results['failed_answers'].items():
    if faults:
      first = next(iter(faults.values()))
      counts = judge_lib.causes(faults)
      notes.append(f'{name} has no answer to {len(faults)} prompts: {counts}; the first: {first}')
  if results['faults']:
    notes.append('The judge failed on some: ' + '; '.join(results['faults'][:5]))
  return notes
