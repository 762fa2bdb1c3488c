"""The first pass over a file of conversations: rules, benchmark overlap, signatures; no judge.

The output for a file is a folder, which appears only when it is complete:

    rows.jsonl      the requests that pass: id, text, language, source, file, row, key, range
    rejects.jsonl   a line for every other row: source, file, row, reason, detail
    digests.u64     `near_duplicates.digest` of each request that passes
    signatures.u32  its signature, `near_duplicates.COMPONENTS` numbers
    tally.json      counts of rows and of rejects by reason, with examples
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
  """Counts of rows and of rejects by reason, with the first few examples of each reason."""

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
    """Adds the `plain` counts of another file."""
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
  """The parameters of `sift`."""

  limits: rules.Limits
  paths: conversations.Paths = conversations.GUESSED
  benchmarks: decontamination.Benchmarks | None = None
  overlap: float = 0.7  # share of a benchmark prompt from which a request is rejected
  examples: int = 3


def sift(
  rows: Iterable[conversations.Row],
  source: str,
  folder: pathlib.Path,
  settings: Settings,
  *,
  progress: Callable[[Counts], None] = lambda counts: None,
) -> None:
  """Writes accepted and rejected rows of one file to `folder`, in order and in constant memory.

  An earlier output is replaced. `progress` is called after every batch.
  """
  part = folder.with_name(f'.{folder.name}.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  counts = Counts(settings.examples)
  with (
    writing(part / 'rows.jsonl') as left,
    writing(part / 'rejects.jsonl') as gone,
    (part / 'digests.u64').open('wb') as digests,
    (part / 'signatures.u32').open('wb') as signatures,
  ):
    for batch in _batches(rows):
      counts.rows += len(batch)
      records, signed, rejects = _batch(batch, source, settings)
      for record in records:
        left.write(json.dumps(record, ensure_ascii=False) + '\n')
      for reason, detail, row in rejects:
        place = {'source': source, 'file': row.file, 'row': row.number}
        record = {**place, 'reason': reason, 'detail': detail}
        gone.write(json.dumps(record, ensure_ascii=False) + '\n')
        counts.reject(reason, {**place, 'detail': detail, 'text': row.text})
      np.array([int(r['id'], 16) for r in records], np.uint64).tofile(digests)
      signed.tofile(signatures)
      counts.kept += len(records)
      progress(counts)
  (part / 'tally.json').write_text(json.dumps(counts.plain()))
  shutil.rmtree(folder, ignore_errors=True)
  os.replace(part, folder)


def writing(path: pathlib.Path) -> TextIO:
  """A new text file; half of a surrogate pair (a file name may hold one) becomes its escape."""
  return path.open('w', encoding='utf-8', errors='backslashreplace')


def _batches(rows: Iterable[conversations.Row]) -> Iterator[list[conversations.Row]]:
  rows = iter(rows)
  while batch := list(itertools.islice(rows, _BATCH)):
    yield batch


def _batch(
  batch: list[conversations.Row], source: str, settings: Settings
) -> tuple[list[dict[str, Any]], np.ndarray, list[tuple[str, str, conversations.Row]]]:
  """Records and signatures of the rows that pass, and (reason, detail, row) of the others."""
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
      **({'more': passed[i].more} if passed[i].more else {}),
    }
    for i in np.flatnonzero(open_)
  ]
  return records, near_duplicates.signatures(runs, offsets)[open_], rejects


def read(folders: Iterable[pathlib.Path]) -> Iterator[dict[str, Any]]:
  """The requests that passed, of all folders in order; `distinct` uses the same order."""
  for folder in folders:
    yield from jsonl.parsed(folder / 'rows.jsonl')


def read_counts(folder: pathlib.Path) -> dict[str, Any]:
  """The counts of a sifted file, as `Counts.plain` returns them."""
  return jsonl.document(folder / 'tally.json', remedy='delete the folder to sift again')


def distinct(folders: Iterable[pathlib.Path], similarity: float) -> tuple[np.ndarray, np.ndarray]:
  """The requests of all sifted files that repeat an earlier one, by `near_duplicates.drop`.

  Returns repeats, int64 [N]: for each request, in the order of the folders, the index of the
  earlier one that it repeats, or -1; and exact, bool [N]: whether it repeats it word for word.
  """
  folders = list(folders)
  digests = _digests(folders)
  _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
  repeats = first[inverse].astype(np.int64)
  exact = repeats != np.arange(len(digests))
  repeats[~exact] = -1
  if not len(digests):
    return repeats, exact

  # Signatures are most of the memory of a large set, so they are a memory-mapped file.
  single = np.flatnonzero(~exact)
  file = folders[0].parent / '.signatures.u32'
  shape = (len(single), near_duplicates.COMPONENTS)
  merged = np.memmap(file, np.uint32, 'w+', shape=shape)
  start = done = 0
  for folder in folders:
    if not (folder / 'signatures.u32').stat().st_size:
      continue  # an empty file cannot be mapped
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
  """The ids of the requests of `read`."""
  return [f'{digest:016x}' for digest in _digests(folders)]


def _digests(folders: Iterable[pathlib.Path]) -> np.ndarray:
  parts = [np.fromfile(folder / 'digests.u64', np.uint64) for folder in folders]
  return np.concatenate([np.zeros(0, np.uint64), *parts])


def read_texts(
  path: str | os.PathLike, paths: conversations.Paths = conversations.GUESSED
) -> list[str]:
  """The prompts in a benchmark's file or folder, in any schema of `conversations.from_record`.

  A row without a text at `paths` is read as if no path was given, since a benchmark may have
  another schema than the sources.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: there is no prompt in it.
  """
  found, fault = [], 'it is empty'
  for file in sources.files(path):
    guessed = sources.read(file) if any(paths) else itertools.repeat(None)
    for row, other in zip(sources.read(file, paths), guessed, strict=False):
      text = row.text or (other.text if other else '')
      fault = row.fault or fault
      found += [text] if text.strip() else []
  if not found:
    raise ValueError(f'{path}: no prompts in it: {fault}')
  return found
