"""Prompts: from conversations of users to requests for long texts, each with its range of words.

1. sift each file: rules, benchmark overlap, signatures      data.funnel.sift
2. find exact and near-duplicates over all of them           data.funnel.near_duplicates
3. ask the judge whether a request deserves a long text      data.funnel.assessor, judge.verdicts
4. ask it how long a good answer is                          data.funnel.assessor
5. write prompts.jsonl, rejects.jsonl and report.html        report

A file that is sifted stays sifted (sift/), and what the judge said stays said (verdicts.jsonl): a
run that was killed goes on where it was.
"""

import importlib.util
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from lwz import text as texts
from lwz.data import embedded
from lwz.data.funnel import (
  assessor,
  conversations,
  decontamination,
  embedded_conversations,
  offline_rules,
  prompt_set,
  rules,
  sift,
  sources,
)
from lwz.judge import client, journal, systems, verdicts
from lwz.judge import judge as judge_lib
from lwz.report import funnel, terminal
from lwz.runtime import keys, setup

_SURE = 20  # replies, from which a share of failures says something
EMBEDDED = 'embedded corpus'  # the source that is there where none is named

# Reasons of the later steps; those of the first are `rules.REASONS`.
_LATER = {
  'benchmark': 'holds most of a prompt of prompts.benchmarks',
  'exact duplicate': 'the words of an earlier request',
  'near duplicate': 'as like to an earlier request as prompts.similarity, or more',
  'filter judge': 'the judge: no long text of high quality is asked for',
  'length judge': 'the judge: no length fits, or more than 12,000 words',
  'short range': 'the judge: fewer words than prompts.shortest',
  'no judgement': 'the judge failed, or its answers could not be read: run again to ask again',
}
_STEPS = (
  ('cheap rules', tuple(rules.REASONS)),
  ('benchmark overlap', ('benchmark',)),
  ('exact duplicates', ('exact duplicate',)),
  ('near duplicates', ('near duplicate',)),
  ('filter judge', ('filter judge',)),
  ('length assessor', ('length judge', 'short range')),
  ('no judgement', ('no judgement',)),
)


READS = (*(*setup.READS, 'prompts', *judge_lib.READS),)


def check(c) -> None:
  keys.check(c)
  judge_lib.check(c)
  if '://' in os.fspath(c.runs_dir):
    raise ValueError(f'runs_dir={c.runs_dir}: signatures are mapped files; name a local folder')
  found = [path for source in c.prompts.sources for path in sources.files(source)]
  found += [path for source in c.prompts.benchmarks for path in sources.files(source)]
  if any(path.suffix == '.parquet' for path in found) and not importlib.util.find_spec('pyarrow'):
    raise ValueError('Parquet files need pyarrow: pip install "lwz[data]"')


def run(c) -> None:
  opened = setup.open_run(c, READS)
  folder = pathlib.Path(opened.folder)
  tally = sift.Tally(c.prompts.examples)
  sifted = _sift(c, folder / 'sift', tally)
  print(f'{tally.rows:,} rows, {tally.kept:,} after the rules')
  repeats, exact = sift.distinct(sifted, c.prompts.similarity)
  print(f'{(repeats < 0).sum():,} after duplicates; judge: {judge_lib.name(c)}')
  with journal.Journal(folder / 'verdicts.jsonl') as kept:
    _judge(c, sifted, repeats, kept)
    found = _write(c, folder, sifted, repeats, exact, kept, tally)
  _report(c, opened, tally, found)
  opened.mark_done({'prompts': len(found['upper']), 'rows': tally.rows, 'judge': judge_lib.name(c)})
  print(f'{len(found["upper"]):,} prompts: {folder / "prompts.jsonl"}')
  print(f'report: {opened.report}')


def _sift(c, folder: pathlib.Path, tally: sift.Tally) -> list[pathlib.Path]:
  """Sifts what is not sifted yet; the folders of all files, in the order of the sources."""
  limits = rules.Limits(
    tuple(c.prompts.languages), c.prompts.min_words, c.prompts.max_chars, c.prompts.shortest
  )
  paths = conversations.Paths(
    c.prompts.text_path, c.prompts.language_path, c.prompts.lower_path, c.prompts.upper_path
  )
  texts = [text for file in c.prompts.benchmarks for text in sift.read_texts(file)]
  benchmarks = decontamination.Benchmarks(texts) if texts else None
  tested = [_stamp(path) for source in c.prompts.benchmarks for path in sources.files(source)]
  settings = sift.Settings(limits, paths, benchmarks, c.prompts.overlap, c.prompts.examples)
  files = [(sources.name(s), path) for s in c.prompts.sources for path in sources.files(s)]
  todo: list[tuple[str, epath.Path | None]] = [*files] or [(EMBEDDED, None)]
  folders = []
  with terminal.progress(len(todo), label='sift') as bar:
    for index, (source, path) in enumerate(todo):
      folders.append(folder / f'{index:05d}')
      # A file that was changed since is sifted again, and so are all where a benchmark was.
      stamp = '\n'.join([_stamp(path) if path else 'embedded', *tested])
      mark = folders[-1] / 'file.txt'
      if not mark.exists() or mark.read_text() != stamp:
        rows = _embedded(c) if path is None else sources.read(path, paths)

        def show(part: sift.Tally, done: int = index, before: int = tally.rows) -> None:
          bar.update(done, rows=before + part.rows, kept=part.kept)

        sift.sift(rows, source, folders[-1], settings, progress=show)
        mark.write_text(stamp)
      tally.add(sift.tally(folders[-1]))
      bar.update(index + 1, rows=tally.rows, kept=tally.kept)
  return folders


def _stamp(path: epath.Path) -> str:
  """Which file, and which state of it."""
  found = path.stat()
  is_local = '://' not in os.fspath(path)
  return f'{path} {found.length} {os.stat(path).st_mtime_ns if is_local else found.mtime}'


def _embedded(c) -> Iterator[conversations.Row]:
  documents = [document for document in embedded.topics() if document.title]
  made = embedded_conversations.records(documents, c.prompts.embedded)
  for number, record in enumerate(made):
    yield conversations.from_record(record, 'embedded', number)


def _key(c, question: str, text: str) -> str:
  """Under which name the journal keeps a verdict: of who is asked, how, what, and about what."""
  return journal.key(judge_lib.name(c), _sampling(c), question, text)


def _value(kept: journal.Journal, key: str) -> Any:
  return kept[key]['value'] if key in kept else None


def _sampling(c) -> dict[str, Any]:
  return {
    'temperature': c.judge.temperature,
    'top_p': c.judge.top_p,
    'max_tokens': c.judge.max_tokens,
  }


def _asker(c) -> verdicts.Ask:
  """The judge of `c.judge`: the one place that knows who it is."""
  if c.judge.model == offline_rules.NAME:
    return offline_rules.ask
  if systems.is_endpoint(c.judge.model):
    write = systems.by_endpoint(c, c.judge.model, c.judge.key_env)
  else:
    limits = {'temperature': c.judge.temperature, 'max_tokens': c.judge.max_tokens}
    write = systems.by_engine(c, c.judge.model, **limits)
  sampling = _sampling(c)
  return lambda chats: write(client.Request(chat, sampling) for chat in chats)


def _judge(c, sifted: list[pathlib.Path], repeats: np.ndarray, kept: journal.Journal) -> None:
  """Puts both questions about every distinct request; what the journal has is not asked again."""
  ask = _asker(c)

  def unfiltered() -> Iterator[tuple[str, str]]:
    for index, record in enumerate(sift.read(sifted)):
      if repeats[index] < 0:
        key = _key(c, assessor.FILTER, record['text'])
        if key not in kept:
          yield key, record['text']

  def unmeasured() -> Iterator[tuple[str, str]]:
    for index, record in enumerate(sift.read(sifted)):
      if repeats[index] < 0 and not record['range'][1]:
        wanted = _value(kept, _key(c, assessor.FILTER, record['text']))
        key = _key(c, assessor.ASSESS, record['text'])
        if wanted and key not in kept:
          yield key, record['text']

  for name, queries, question, parse in (
    ('filter', unfiltered, assessor.FILTER, assessor.parse_keep),
    ('length', unmeasured, assessor.ASSESS, assessor.parse_range),
  ):
    failed, total = 0, sum(1 for _ in queries())
    found = verdicts.judge(queries(), question, parse, ask, rounds=c.judge.rounds)
    with terminal.progress(total, label=f'{name} judge {judge_lib.name(c)}') as bar:
      for done, verdict in enumerate(found, start=1):
        if verdict.fault:
          failed += 1
          judge_lib.stop_on_failures(c, failed, max(done, min(total, _SURE)), verdict.fault)
        else:
          kept.add(verdict.id, value=verdict.value, answer=verdict.answer[-200:])
        bar.update(done, failed=failed)


def _write(
  c,
  folder: pathlib.Path,
  sifted: list[pathlib.Path],
  repeats: np.ndarray,
  exact: np.ndarray,
  kept: journal.Journal,
  tally: sift.Tally,
) -> dict[str, list]:
  """Writes prompts.jsonl and rejects.jsonl, and completes the tally; figures of what is kept."""
  columns = ('lower', 'upper', 'language', 'source', 'words', 'changed')
  found: dict[str, list] = {name: [] for name in columns}
  parts = [folder / f'.{name}.part' for name in ('prompts', 'rejects')]
  ids = sift.ids(sifted)
  with sift.writing(parts[0]) as prompts, sift.writing(parts[1]) as gone:
    for part in sifted:
      with (part / 'rejects.jsonl').open(encoding='utf-8') as lines:
        shutil.copyfileobj(lines, gone)
    for index, record in enumerate(sift.read(sifted)):
      if repeats[index] >= 0:
        reason = 'exact duplicate' if exact[index] else 'near duplicate'
        line, why = None, (reason, f'of {ids[repeats[index]]}')
      else:
        keep, judged = (
          _value(kept, _key(c, question, record['text']))
          for question in (assessor.FILTER, assessor.ASSESS)
        )
        line, why = prompt_set.settle(
          record, keep, judged, judge=judge_lib.name(c), shortest=c.prompts.shortest
        )
      if line:
        prompts.write(json.dumps(line, ensure_ascii=False) + '\n')
        for name in columns[:4]:
          found[name].append(line[name])
        found['words'].append(len(texts.words(line['text'])))
        found['changed'].append(line['provenance']['changed'] or 'none')
      else:
        place = {name: record[name] for name in ('source', 'file', 'row')}
        where = {**place, 'reason': why[0], 'detail': why[1]}
        gone.write(json.dumps(where, ensure_ascii=False) + '\n')
        tally.reject(why[0], {**place, 'detail': why[1], 'text': record['text']})
  for part, name in zip(parts, ('prompts.jsonl', 'rejects.jsonl'), strict=True):
    os.replace(part, folder / name)
  return found


def _report(c, opened, tally: sift.Tally, found: dict[str, list]) -> None:
  table = funnel.steps(tally.rows, tally.rejects, _STEPS)
  funnel.write(
    opened.report,
    title=setup.run_name(c),
    judge=judge_lib.name(c),
    table=table,
    rejects=tally.rejects,
    examples=tally.examples,
    reasons=rules.REASONS | _LATER,
    kept=found,
    longest=assessor.CAP,
    notes=_notes(c),
  )
  for name, gone, left, _ in table:
    print(f'  {name:<20}{-gone:>12,}{left:>12,}')


def _notes(c) -> list[str]:
  notes = []
  if judge_lib.name(c) == offline_rules.NAME:
    notes.append(
      'Judged by offline-rules: forms of writing and stated lengths, found by patterns. They know '
      'nothing of quality or sense. Name a model under judge.model for a set to train on.'
    )
  if not c.prompts.sources:
    notes.append(
      'No prompts.sources were named: the requests are made up, from the text that comes with '
      'every Python, to show how the funnel works.'
    )
  return notes
