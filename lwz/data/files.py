"""Files that texts and records are read from: found by format, and a note of those that are not."""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging
from etils import epath

from lwz import jsonl
from lwz.data import parquet

TEXTS = ('.txt', '.md')
LINES = ('.jsonl', '.ndjson')
RECORDS = (*LINES, '.parquet')
_NAMED = 5  # of the files that are not read


def kind(path: epath.PathLike) -> str:
  """Returns the format by the name, without gzip: '.jsonl' for 'a.JSONL.gz', '' for 'a.tar.gz'."""
  name = os.path.basename(os.fspath(path)).lower()
  found = os.path.splitext(name.removesuffix('.gz'))[1]
  return '' if name.endswith('.gz') and found not in (*TEXTS, *LINES, '.json') else found


def text(path: epath.PathLike) -> str:
  """Returns the path as a text that can be written: U+FFFD for bytes that are not UTF-8."""
  return os.fsencode(path).decode(errors='replace')


def stem(path: epath.PathLike) -> str:
  """Returns the name without its format: 'a.b' for 'x/a.b.txt.gz'."""
  return re.sub(r'(\.\w+)(\.gz)?$', '', os.path.basename(text(path)), flags=re.I)


def find(folder: epath.PathLike, kinds: Sequence[str]) -> list[epath.Path]:
  """Returns the files of these formats below a folder, sorted; logs the names of the others.

  Hidden files and folders are passed over. A FIFO, a device or a link to nothing is not read, and a
  folder that links lead back to is read once. A JSON array (.json) counts as lines (`LINES`).

  Raises FileNotFoundError if there is nothing to read.
  """
  root = epath.Path(folder)
  found, others = [], []
  for path in _below(root, set()):
    local = '://' not in os.fspath(path)
    form = kind(path) if not local or os.path.isfile(path) else ''
    if form == '.json' not in kinds and _is_data(path):
      form = LINES[0]  # as good as lines
    (found if form in kinds else others).append(path)
  names = [str(path.relative_to(root)) for path in sorted(others)]
  shown = ', '.join(names[:_NAMED]) + (', ...' if len(names) > _NAMED else '')
  if not found:
    rest = f'; {_count(names)} of other formats: {shown}' if names else ''
    raise FileNotFoundError(f'{root}: no text in it; expected {", ".join(kinds)} files{rest}')
  if names:
    _note(f'{root}: {_count(names)} not read: {shown}')
  return sorted(found)


def _is_data(path: epath.Path) -> bool:
  """Whether a file is an array of objects; anything else may be about the data."""
  with contextlib.suppress(ValueError):  # it cannot be read
    return jsonl.array_of(path) in (b'{', b']')
  return False


def stamp(path: epath.PathLike) -> str:
  """Returns the path, size and modification time of a file."""
  found = epath.Path(path).stat()
  is_local = '://' not in os.fspath(path)
  return f'{path} {found.length} {os.stat(path).st_mtime_ns if is_local else found.mtime}'


def _count(names: Sequence[str]) -> str:
  return f'{len(names):,} file{"s" * (len(names) != 1)}'


@functools.cache  # a corpus is read several times, and its note is logged once
def _note(text: str) -> None:
  logging.warning('%s', text)


def _below(folder: epath.Path, seen: set[tuple[int, int]]) -> Iterator[epath.Path]:
  """The files below a folder; epath has no recursive glob for buckets."""
  if '://' not in os.fspath(folder):
    found = os.stat(folder)
    if (found.st_dev, found.st_ino) in seen:
      return
    seen.add((found.st_dev, found.st_ino))
  for path in sorted(folder.iterdir()):
    if path.name.startswith('.'):
      continue  # a downloader's cache, a desktop's notes
    if path.is_dir():
      yield from _below(path, seen)
    else:
      yield path


def records(path: epath.PathLike) -> Iterator[jsonl.Line]:
  """The records of a Parquet file, or of one that `jsonl.records` reads, one at a time."""
  return parquet.records(path) if kind(path) == '.parquet' else jsonl.records(path)


def read(
  source: epath.PathLike,
  parse: Callable[[dict[str, Any]], Any],
  *,
  skip_broken: bool = False,
) -> tuple[list[Any], int]:
  """Returns the parsed records of a file, or of the files of a folder, and how many were skipped.

  Raises as `jsonl.read` does, and `find`.
  """
  root = epath.Path(source)
  values, num_skipped = [], 0
  for path in find(root, RECORDS) if root.is_dir() else [root]:
    found, skipped = jsonl.read(path, parse, skip='all' if skip_broken else 'none', records=records)
    values += found
    num_skipped += skipped
  return values, num_skipped
