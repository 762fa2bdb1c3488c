"""The prompt set: requests for long texts, with a range of words each, from users' conversations.

1. sift each file: rules, benchmark overlap, signatures      data.funnel.sift
2. find exact and near-duplicates over all files             data.funnel.near_duplicates
3. ask the judge whether a request needs a long text         judge.assessing
4. ask it for the length of a good answer                    judge.assessing
5. with `prompts.criteria`, ask it what a good answer has    judge.assessing
6. with `prompts.references`, have it write answers          judge.assessing
7. write prompts.jsonl, rejects.jsonl and report.html        report

Sifted files (sift/) and verdicts (verdicts.jsonl) are kept, so that an interrupted run resumes.
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
from lwz.data import files as files_lib
from lwz.data.funnel import (
  assessor,
  conversations,
  decontamination,
  embedded_conversations,
  offline_rules,
  rules,
  sift,
  sources,
)
from lwz.judge import assessing, journal
from lwz.judge import judge as judge_lib
from lwz.report import funnel, terminal
from lwz.runtime import keys, setup

EMBEDDED = 'embedded corpus'  # the source if none is named

# Reasons for rejection in later steps; those of the first are `rules.REASONS`.
_LATER = {
  'benchmark': 'contains most of a prompt of prompts.benchmarks',
  'exact duplicate': 'equal to an earlier request, apart from punctuation',
  'near duplicate': 'similar to an earlier request, by prompts.similarity or more',
  'filter judge': 'the judge: does not need a long text of high quality',
  'length judge': 'the judge: no sensible length, or more than 12,000 words',
  'short range': 'the judge: fewer words than prompts.shortest',
  'no judgement': 'the judge failed, or could not be read: delete DONE and run again to retry',
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
  assessing.check(c)
  if '://' in os.fspath(c.runs_dir):
    raise ValueError(f'runs_dir={c.runs_dir}: signatures are mapped files; name a local folder')
  found = [path for source in c.prompts.sources for path in sources.files(source)]
  found += [path for source in c.prompts.benchmarks for path in sources.files(source)]
  if any(path.suffix == '.parquet' for path in found) and not importlib.util.find_spec('pyarrow'):
    raise ValueError('Parquet files need pyarrow: pip install "lwz[data]"')


def run(c) -> None:
  opened = setup.open_run(c, READS)
  folder = pathlib.Path(opened.folder)
  counts = sift.Counts(c.prompts.examples)
  sifted = _sift(c, folder / 'sift', counts)
  print(f'{counts.rows:,} rows, {counts.kept:,} after the rules')
  repeats, exact = sift.distinct(sifted, c.prompts.similarity)
  print(f'{(repeats < 0).sum():,} after duplicates; judge: {judge_lib.name(c)}')
  with journal.ReplyJournal(folder / 'verdicts.jsonl') as kept:
    assessing.ask(c, lambda: _distinct(sifted, repeats), kept)
    opened.check()
    found = _write(c, folder, sifted, repeats, exact, kept, counts)
  _report(c, opened, counts, found)
  opened.mark_done(
    {'prompts': len(found['upper']), 'rows': counts.rows, 'judge': judge_lib.name(c)}
  )
  print(f'{len(found["upper"]):,} prompts: {folder / "prompts.jsonl"}')
  print(f'report: {opened.report}')


def _sift(c, folder: pathlib.Path, counts: sift.Counts) -> list[pathlib.Path]:
  """Sifts the files that are not sifted yet; returns the folders of all, in order."""
  limits = rules.Limits(
    tuple(c.prompts.languages), c.prompts.min_words, c.prompts.max_chars, c.prompts.shortest
  )
  paths = conversations.Paths(
    **{name: c.prompts[f'{name}_path'] for name in conversations.Paths._fields}
  )
  texts = [text for file in c.prompts.benchmarks for text in sift.read_texts(file, paths)]
  benchmarks = decontamination.Benchmarks(texts) if texts else None
  tested = [
    files_lib.stamp(path) for source in c.prompts.benchmarks for path in sources.files(source)
  ]
  settings = sift.Settings(limits, paths, benchmarks, c.prompts.overlap, c.prompts.examples)
  files = [(sources.name(s), path) for s in c.prompts.sources for path in sources.files(s)]
  todo: list[tuple[str, epath.Path | None]] = [*files] or [(EMBEDDED, None)]
  folders = []
  with terminal.Progress(len(todo), label='sift') as bar:
    for index, (source, path) in enumerate(todo):
      folders.append(folder / f'{index:05d}')
      # A changed file is sifted again; a changed benchmark file has all files sifted again.
      stamp = '\n'.join([files_lib.stamp(path) if path else 'embedded', *tested]).encode(
        errors='surrogateescape'
      )
      mark = folders[-1] / 'file.txt'
      if not mark.exists() or mark.read_bytes() != stamp:
        rows = _embedded(c) if path is None else sources.read(path, paths)

        def show(part: sift.Counts, done: int = index, before: int = counts.rows) -> None:
          bar.update(done, rows=before + part.rows, kept=part.kept)

        sift.sift(rows, source, folders[-1], settings, progress=show)
        mark.write_bytes(stamp)
      counts.add(sift.read_counts(folders[-1]))
      bar.update(index + 1, rows=counts.rows, kept=counts.kept)
  return folders


def _distinct(sifted: list[pathlib.Path], repeats: np.ndarray) -> Iterator[dict[str, Any]]:
  """Yields the requests without the repeated ones."""
  return (one for one, of in zip(sift.read(sifted), repeats, strict=True) if of < 0)


def _embedded(c) -> Iterator[conversations.Row]:
  documents = [document for document in embedded.topics() if document.title]
  made = embedded_conversations.records(documents, c.prompts.embedded)
  for number, record in enumerate(made):
    yield conversations.from_record(record, 'embedded', number)


def _write(
  c,
  folder: pathlib.Path,
  sifted: list[pathlib.Path],
  repeats: np.ndarray,
  exact: np.ndarray,
  kept: journal.ReplyJournal,
  counts: sift.Counts,
) -> dict[str, list]:
  """Writes prompts.jsonl and rejects.jsonl, updates counts; returns columns of the prompts."""
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
        line, why = assessing.settled(c, record, kept)
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
        counts.reject(why[0], {**place, 'detail': why[1], 'text': record['text']})
  for part, name in zip(parts, ('prompts.jsonl', 'rejects.jsonl'), strict=True):
    os.replace(part, folder / name)
  return found


def _report(c, opened, counts: sift.Counts, found: dict[str, list]) -> None:
  table = funnel.steps(counts.rows, counts.rejects, _STEPS)
  funnel.write(
    opened.report,
    title=setup.run_name(c),
    judge=judge_lib.name(c),
    table=table,
    rejects=counts.rejects,
    examples=counts.examples,
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
      'Judged by offline-rules, which find forms of writing and stated lengths by patterns and '
      'know nothing of quality or meaning. Set judge.model to a model for a set to train on.'
    )
  if not c.prompts.sources:
    notes.append(
      'prompts.sources is empty: the requests are made from the text that comes with Python, to '
      'show how the funnel works.'
    )
  return notes
