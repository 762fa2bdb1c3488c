"""Files that a run reads, by content: a SHA-256 each, computed again only where a file has changed.

    {"key": "data.folder", "file": "a/b.txt", "size": 12, "time": 1764, "digest": "..."}

is a line of inputs.jsonl in the folder of a run. A file whose size and time of modification are
those of its line keeps the digest of it. Of an object in a bucket the bucket's own checksum serves,
where it tells one, and no byte is read.

The first start reads each file once, a file per core at a time. SHA-256 was measured at 1.3 GB/s
per core (Xeon with SHA instructions): 1 TB takes 13 minutes on one core, less on several, and 3
hours from a disk of 0.1 GB/s. A resume asks for sizes and times only. Weights are not read.
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import fsspec
from etils import epath

from lwz import jsonl
from lwz.store import atomic

_FILE = 'inputs.jsonl'
# Formats of texts, records and tokenizers, perhaps with .gz; others in a folder are not read.
_KINDS = ('.txt', '.md', '.jsonl', '.ndjson', '.json', '.parquet', '.model', '.jinja')
_CHECKSUMS = ('crc32c', 'md5Hash', 'ETag', 'content_md5')  # names in the buckets' descriptions
_SETTLED = 2 * 10**9  # ns: a file that is younger may be written again within the clock's tick
_SHOWN = 3  # files that a message names


class Stamp(NamedTuple):
  """A file as it was read."""

  size: int
  time: int  # of the last modification, in ns; 0 where it is too young to tell a change by
  digest: str


Stamps = dict[str, dict[str, Stamp]]  # key -> name of a file -> its stamp


def files(root: epath.PathLike) -> dict[str, epath.Path]:
  """Returns the file itself by its name, or the files below a folder by their paths in it."""
  root = epath.Path(root)
  if root.is_dir():
    return {os.fspath(path.relative_to(root)): path for path in _below(root, set())}
  return {root.name: root} if root.exists() else {}


def _below(folder: epath.Path, seen: set[str]) -> Iterator[epath.Path]:
  real = os.fspath(folder) if atomic.is_remote(folder) else os.path.realpath(folder)
  if real in seen:  # links may lead back
    return
  seen.add(real)
  for path in folder.iterdir():
    if path.name.startswith('.'):
      continue
    if path.is_dir():
      yield from _below(path, seen)
    elif path.name.lower().removesuffix('.gz').endswith(_KINDS) and path.exists():
      yield path


def measure(found: Mapping[str, Mapping[str, epath.Path]], known: Stamps) -> Stamps:
  """Returns the stamps of {key: {name: path}}; `known` are those of an earlier start."""
  jobs = [(key, name, path) for key, paths in found.items() for name, path in paths.items()]
  with concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
    stamps = pool.map(lambda job: _stamp(job[2], known.get(job[0], {}).get(job[1])), jobs)
    now: Stamps = {key: {} for key in found}
    for (key, name, _), stamp in zip(jobs, stamps, strict=True):
      now[key][name] = stamp
  return now


def digests(stamps: Stamps) -> dict[str, str]:
  """Returns one SHA-256 per key: of the names and digests of its files."""
  found = {}
  for key, named in stamps.items():
    lines = sorted(f'{name}\0{stamp.digest}\n' for name, stamp in named.items())
    if lines:
      found[key] = hashlib.sha256(''.join(lines).encode(errors='surrogateescape')).hexdigest()
  return found


def digest(root: epath.PathLike) -> str:
  """Returns one SHA-256 for a file or a folder, '' where there is none."""
  return digests(measure({'': files(root)}, {})).get('', '')


def differences(before: Mapping[str, str], known: Stamps, now: Stamps) -> dict[str, str]:
  """Returns {key: which files have changed}, of keys whose digest is not the one in `before`.

  Files that are all gone are not compared: a finished run needs none of them, any other stops.
  """
  found = {}
  for key, digest in digests(now).items():
    if before.get(key, digest) == digest:  # an older folder does not hold the key
      continue
    old, new = known.get(key, {}), now[key]
    both = sorted(old.keys() & new.keys())
    changed = [f'{name} has changed' for name in both if old[name].digest != new[name].digest]
    changed += [f'{name} is gone' for name in sorted(old.keys() - new.keys())]
    changed += [f'{name} is new' for name in sorted(new.keys() - old.keys())]
    if digests({key: old}).get(key) != before[key]:  # inputs.jsonl is lost
      changed = [f'other contents than when the run began, in {", ".join(sorted(new)[:_SHOWN])}']
    more = f' and {len(changed) - _SHOWN} more' if len(changed) > _SHOWN else ''
    found[key] = ', '.join(changed[:_SHOWN]) + more
  return found


def read(folder: epath.PathLike) -> Stamps:
  """Returns the stamps that the folder of a run keeps; a line that is broken is left out."""
  path, found = epath.Path(folder) / _FILE, {}
  if not path.exists():
    return {}
  with path.open('rb') as lines:
    for line in jsonl.scan(lines):
      wanted = {'key': str, 'file': str, 'size': int, 'time': int, 'digest': str}
      if wanted.keys() <= line.record.keys() and not jsonl.faults(line.record, wanted):
        key, name, *stamp = (line.record[field] for field in wanted)
        found.setdefault(key, {})[name] = Stamp(*stamp)
  return found


def write(folder: epath.PathLike, stamps: Stamps) -> None:
  """Writes inputs.jsonl, unless it holds these stamps."""
  if stamps == read(folder):
    return
  lines = [
    json.dumps({'key': key, 'file': name, **stamp._asdict()}) + '\n'
    for key, named in stamps.items()
    for name, stamp in sorted(named.items())
  ]
  atomic.write_text(epath.Path(folder) / _FILE, ''.join(lines))


def _stamp(path: epath.Path, known: Stamp | None) -> Stamp:
  if atomic.is_remote(path):
    if checksum := _bucket_checksum(os.fspath(path)):
      return Stamp(0, 0, checksum)
    found = path.stat()
    size, modified = found.length, int(found.mtime * 10**9)
  else:
    jsonl.check_regular(path)
    status = os.stat(path)
    size, modified = status.st_size, status.st_mtime_ns
  if known and known[:2] == (size, modified):
    return known
  digest = _digest(path, size, modified)
  return Stamp(size, modified if modified < time.time_ns() - _SETTLED else 0, digest)


@functools.cache  # several runs of one start read the same files
def _digest(path: epath.Path, size: int, modified: int) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _bucket_checksum(path: str) -> str:
  """Returns the checksum that a bucket tells of an object, '' if it tells none."""
  try:
    found = fsspec.core.url_to_fs(path)[0].info(path)
  except (ImportError, OSError, ValueError):  # no client for this kind of bucket
    return ''
  return next((f'{name}:{found[name]}' for name in _CHECKSUMS if found.get(name)), '')
