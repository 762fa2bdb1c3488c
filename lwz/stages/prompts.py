"""Prompts: from conversations of users to requests for long texts, each with its range of words.

1. sift each file: rules, benchmark overlap, signatures      data.funnel.sift
2. find exact and near-duplicates over all of them           data.funnel.near_duplicates
3. ask the judge whether a request deserves a long text      data.funnel.assessor, judge.judge
4. ask it how long a good answer is                          data.funnel.assessor
5. write prompts.jsonl, rejects.jsonl and report.html        report

A file that is sifted stays sifted (sift/), and what the judge said stays said (verdicts.jsonl): a
run that was killed goes on where it was.
"""

import contextlib
import functools
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
from lwz.judge import journal
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
  tally = sift.Counts(c.prompts.examples)
  sifted = _sift(c, folder / 'sift', tally)
  print(f'{tally.rows:,} rows, {tally.kept:,} after the rules')
  repeats, exact = sift.distinct(sifted, c.prompts.similarity)
  print(f'{(repeats < 0).sum():,} after duplicates; judge: {judge_lib.name(c)}')
  with journal.ReplyJournal(folder / 'verdicts.jsonl') as kept:
    _judge(c, sifted, repeats, kept)
    found = _write(c, folder, sifted, repeats, exact, kept, tally)
  _report(c, opened, tally, found)
  opened.mark_done({'prompts': len(found['upper']), 'rows': tally.rows, 'judge': judge_lib.name(c)})
  print(f'{len(found["upper"]):,} prompts: {folder / "prompts.jsonl"}')
  print(f'report: {opened.report}')


def _sift(c, folder: pathlib.Path, tally: sift.Counts) -> list[pathlib.Path]:
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

        def show(part: sift.Counts, done: int = index, before: int = tally.rows) -> None:
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
  return journal.key(judge_lib.name(c), judge_lib.sampling(c), question, text)


def _value(kept: journal.ReplyJournal, key: str) -> Any:
  return kept[key]['value'] if key in kept else None


def _judge(c, sifted: list[pathlib.Path], repeats: np.ndarray, kept: journal.ReplyJournal) -> None:
  """Puts both questions about every distinct request; what the journal has is not asked again."""

  def questions(question: str) -> Iterator[judge_lib.Question]:
    for index, record in enumerate(sift.read(sifted)):
      if repeats[index] >= 0:
        continue
      text = record['text']
      wanted = question == assessor.FILTER or (
        not record['range'][1] and _value(kept, _key(c, assessor.FILTER, text))
      )
      if wanted and (key := _key(c, question, text)) not in kept:
        chat = assessor.messages(question, text)
        yield judge_lib.Question(chat, functools.partial(offline_rules.reply, chat), key)

  for question, parse in (
    (assessor.FILTER, assessor.parse_keep),
    (assessor.ASSESS, assessor.parse_range),
  ):
    if not (total := sum(1 for _ in questions(question))):
      continue
    verdicts = judge_lib.stream(
      *(c, questions(question), parse, kept),
      total=total,
      sure=_SURE,
      again=functools.partial(assessor.again, question),
      whole=False,
    )
    with contextlib.closing(verdicts):
      for _ in verdicts:
        pass  # each is in the journal


def _write(
  c,
  folder: pathlib.Path,
  sifted: list[pathlib.Path],
  repeats: np.ndarray,
  exact: np.ndarray,
  kept: journal.ReplyJournal,
  tally: sift.Counts,
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


def _report(c, opened, tally: sift.Counts, found: dict[str, list]) -> None:
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
