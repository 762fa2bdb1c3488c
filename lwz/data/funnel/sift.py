"""The first pass over a file of conversations: rules, benchmark overlap, signatures. No judge yet.

What comes of a file is a folder, there whole or not at all:

    rows.jsonl      the requests that are left: id, text, language, source, file, row, key, range
    rejects.jsonl   a line for every other row: source, file, row, reason, detail
    digests.u64     of each request that is left, what exact duplicates have in common
    signatures.u32  of each, `near_duplicates.COMPONENTS` of them
    tally.json      how many rows there were, and how many went for which reason, with examples
"""

import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TextIO

import numpy as np

from lwz import jsonl
from lwz.data.funnel import conversations, decontamination, near_duplicates, rules, sources

_BATCH = 1_024  # rows
_SHOWN = 300  # characters of an example


class Counts:
  """Rows by what became of them: counts, and the first few examples of each reason."""

  def __init__(self, examples: int = 3):
    self.rows, self.kept = 0, 0
    self.rejects: dict[str, int] = {}
    self.examples: dict[str, list[dict[str, Any]]] = {}
    self._most = examples

  def reject(self, reason: str, example: dict[str, Any]) -> None:
    self.rejects[reason] = self.rejects.get(reason, 0) + 1
    shown = self.examples.setdefault(reason, [])
    if len(shown) < self._most:
      shown.append({**example, 'text': _short(example.get('text', ''))})

  def add(self, other: dict[str, Any]) -> None:
    """Adds what `plain` gave."""
    self.rows += other['rows']
    self.kept += other['kept']
    for reason, count in other['rejects'].items():
      self.rejects[reason] = self.rejects.get(reason, 0) + count
      shown = self.examples.setdefault(reason, [])
      shown += other['examples'].get(reason, [])[: self._most - len(shown)]

  def plain(self) -> dict[str, Any]:
    return {k: getattr(self, k) for k in ('rows', 'kept', 'rejects', 'examples')}


def _short(text: str) -> str:
  text = ' '.join(text[: 2 * _SHOWN].split())
  return text if len(text) <= _SHOWN else text[:_SHOWN] + ' …'


class Settings(NamedTuple):
  """What a file is sifted with."""

  limits: rules.Limits
  paths: conversations.Paths = conversations.GUESSED
  benchmarks: decontamination.Benchmarks | None = None
  overlap: float = 0.7  # share of a benchmark prompt that a request may not hold
  examples: int = 3


def sift(
  rows: Iterable[conversations.Row],
  source: str,
  folder: pathlib.Path,
  settings: Settings,
  *,
  progress: Callable[[Counts], None] = lambda tally: None,
) -> None:
  """Sorts rows into `folder`, in their order, in memory that does not depend on their number.

  Args:
    rows: of one file, or of anything.
    source: what the set is called.
    folder: made by this; over an earlier one.
    settings: limits, paths and benchmarks.
    progress: called after every batch.
  """
  part = folder.with_name(f'.{folder.name}.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  tally = Counts(settings.examples)
  with (
    writing(part / 'rows.jsonl') as left,
    writing(part / 'rejects.jsonl') as gone,
    (part / 'digests.u64').open('wb') as digests,
    (part / 'signatures.u32').open('wb') as signatures,
  ):
    for batch in _batches(rows):
      tally.rows += len(batch)
      records, signed, rejects = _batch(batch, source, settings)
      for record in records:
        left.write(json.dumps(record, ensure_ascii=False) + '\n')
      for reason, detail, row in rejects:
        place = {'source': source, 'file': row.file, 'row': row.number}
        record = {**place, 'reason': reason, 'detail': detail}
        gone.write(json.dumps(record, ensure_ascii=False) + '\n')
        tally.reject(reason, {**place, 'detail': detail, 'text': row.text})
      np.array([int(r['id'], 16) for r in records], np.uint64).tofile(digests)
      signed.tofile(signatures)
      tally.kept += len(records)
      progress(tally)
  (part / 'tally.json').write_text(json.dumps(tally.plain()))
  shutil.rmtree(folder, ignore_errors=True)
  os.replace(part, folder)


def writing(path: pathlib.Path) -> TextIO:
  """A new file of lines; half a character (the name of a file may hold one) becomes its escape."""
  return path.open('w', encoding='utf-8', errors='backslashreplace')


def _batches(rows: Iterable[conversations.Row]) -> Iterator[list[conversations.Row]]:
  rows = iter(rows)
  while batch := list(itertools.islice(rows, _BATCH)):
    yield batch


def _batch(
  batch: list[conversations.Row], source: str, settings: Settings
) -> tuple[list[dict[str, Any]], np.ndarray, list[tuple[str, str, conversations.Row]]]:
  """Records and signatures of what is left, and (reason, detail, row) of what is not."""
  rejects, passed = [], []
  for row in batch:
    found = rules.reject(row, settings.limits)
    if found:
      rejects.append((*found, row))
    else:
      passed.append(row)
  tokens = [near_duplicates.words(row.text) for row in passed]
  runs, offsets = near_duplicates.shingles(tokens)
  open_ = np.ones(len(passed), bool)
  if settings.benchmarks:
    shares, whose = settings.benchmarks.overlap(runs, offsets)
    for i in np.flatnonzero(shares >= settings.overlap):
      named = _short(settings.benchmarks.prompts[whose[i]])[:80]
      rejects.append(('benchmark', f'holds {shares[i]:.0%} of: {named}', passed[i]))
      open_[i] = False
  records = [
    {
      'id': f'{near_duplicates.digest(tokens[i]):016x}',
      'text': passed[i].text.strip(),
      'language': rules.of(passed[i]),
      'source': source,
      'file': passed[i].file,
      'row': passed[i].number,
      'key': passed[i].key,
      'range': [passed[i].lower, passed[i].upper],
    }
    for i in np.flatnonzero(open_)
  ]
  return records, near_duplicates.signatures(runs, offsets)[open_], rejects


def read(folders: Iterable[pathlib.Path]) -> Iterator[dict[str, Any]]:
  """The requests that sifted files have left, in order: `distinct` counts them so."""
  for folder in folders:
    yield from jsonl.stream(folder / 'rows.jsonl')


def tally(folder: pathlib.Path) -> dict[str, Any]:
  """What became of a file's rows, as of `Counts.plain`."""
  return json.loads((folder / 'tally.json').read_text(encoding='utf-8'))


def distinct(folders: Iterable[pathlib.Path], similarity: float) -> tuple[np.ndarray, np.ndarray]:
  """Which requests of all sifted files repeat an earlier one.

  Args:
    folders: of `sift`, in order: what comes first is kept.
    similarity: of `near_duplicates.drop`.

  Returns:
    repeats, int64 [N]: for each request, counted over all files, the earlier one that it repeats,
    or -1; and exact, bool [N]: where it repeats it word by word.
  """
  folders = list(folders)
  digests = _digests(folders)
  _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
  repeats = first[inverse].astype(np.int64)
  exact = repeats != np.arange(len(digests))
  repeats[~exact] = -1
  if not len(digests):
    return repeats, exact

  # The signatures of what is left, in a file: they are most of what a large set costs.
  single = np.flatnonzero(~exact)
  file = folders[0].parent / '.signatures.u32'
  shape = (len(single), near_duplicates.COMPONENTS)
  merged = np.memmap(file, np.uint32, 'w+', shape=shape)
  start = done = 0
  for folder in folders:
    if not (folder / 'signatures.u32').stat().st_size:
      continue  # nothing to map
    signed = np.memmap(folder / 'signatures.u32', np.uint32, 'r').reshape(-1, shape[1])
    own = ~exact[start : start + len(signed)]
    merged[done : done + own.sum()] = signed[own]
    start, done = start + len(signed), done + own.sum()
  near = near_duplicates.drop(merged, similarity)
  del merged
  file.unlink()
  dropped = near >= 0
  repeats[single[dropped]] = single[near[dropped]]
  return repeats, exact


def ids(folders: Iterable[pathlib.Path]) -> list[str]:
  """The ids of `read`'s requests."""
  return [f'{digest:016x}' for digest in _digests(folders)]


def _digests(folders: Iterable[pathlib.Path]) -> np.ndarray:
  parts = [np.fromfile(folder / 'digests.u64', np.uint64) for folder in folders]
  return np.concatenate([np.zeros(0, np.uint64), *parts])


def read_texts(path: str | os.PathLike) -> list[str]:
  """The prompts of a benchmark's file or folder, in any schema of `conversations.from_record`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: there is no prompt in it.
  """
  rows = [row for file in sources.files(path) for row in sources.read(file)]
  found = [row.text for row in rows if row.text.strip()]
  if not found:
    fault = next((row.fault for row in rows), 'it is empty')
    raise ValueError(f'{path}: no prompts in it: {fault}')
  return found
