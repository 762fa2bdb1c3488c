"""The journal of replies: an interrupted run sends no request twice."""

import contextlib
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any

from etils import epath

from lwz import jsonl
from lwz.store import atomic


def key(*parts: Any) -> str:
  """The key of a question: 128 bits of the SHA-256 of its parts as canonical JSON."""
  text = json.dumps(parts, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode('ascii')).hexdigest()[:32]


def _key_of(line: bytes) -> str | None:
  """Returns the key of a line of a journal; None of one that is broken."""
  found = next((one.record.get('key') for one in jsonl.scan([line])), None)
  return found if isinstance(found, str) else None


class Memory(dict):
  """A journal that is not kept."""

  def add(self, key: str, **record: Any) -> None:
    self[key] = record

  def close(self) -> None:
    self.clear()


class ReplyJournal:
  """Records by key, appended to a file of JSON lines; `key in journal`, `journal[key]`.

  In memory are the places of the records in their files; of a bucket, which has no append, the
  whole object, rewritten every `every` records and on `close`. A broken line (its writer was
  killed) is dropped. `others` are files of the same form, of other processes, that are read and not
  written. Several threads may use it.
  """

  def __init__(
    self, path: epath.PathLike, *, every: int = 100, others: Iterable[epath.PathLike] = ()
  ):
    self._path, self._every, self._unsaved = epath.Path(path), every, 0
    self._lock, self._closing, self._is_closed = threading.Lock(), contextlib.ExitStack(), False
    self._places: dict[str, tuple[IO[bytes], int, int] | bytes] = {}  # file, begin, size; or a line
    for other in map(epath.Path, others):
      self._note(other)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._whole = self._note(self._path, mend=True) if self._path.exists() else b''
    self._file = self._opened(self._path, 'ab')
    self._read = self._opened(self._path, 'rb') if self._file else None

  def _opened(self, path: epath.Path, mode: str) -> IO[bytes] | None:
    """Returns a local file until `close`, None of a bucket."""
    if '://' in os.fspath(path):
      return None
    if path.exists():
      jsonl.check_regular(path)
    return self._closing.enter_context(path.open(mode))

  def _note(self, path: epath.Path, mend: bool = False) -> bytes:
    """Takes up the records of a file; `mend` drops its broken lines, and a kill none but these.

    Returns those of a bucket, as they are there. Of a local file one line at a time is in memory.
    """
    is_remote = atomic.is_remote(path)
    if not is_remote:
      jsonl.check_regular(path)
    found: dict[str, tuple[int, Any]] = {}  # begin, and the line of a bucket, or its size
    begin, good, is_sound = 0, 0, True  # `good` ends the last record, `is_sound` if all before are
    with io.BytesIO(path.read_bytes()) if is_remote else path.open('rb') as lines:
      for line in lines:
        if name := _key_of(line):
          part = line.removesuffix(b'\n')
          found[name] = begin, part if is_remote else len(part)
          is_sound = is_sound and begin == good and line != part
          good = begin + len(line)
        begin += len(line)
    if mend and not is_sound:
      with path.open('rb') as lines:
        whole = b''.join(line.removesuffix(b'\n') + b'\n' for line in lines if _key_of(line))
      atomic.write_bytes(path, whole)
      return self._note(path)
    if mend and good < begin:  # what a kill has torn is the last line
      if is_remote:
        atomic.write_bytes(path, path.read_bytes()[:good])
      else:
        os.truncate(path, good)
    file = self._opened(path, 'rb')
    self._places |= {k: (file, at, part) if file else part for k, (at, part) in found.items()}
    return b'' if file else b''.join(part + b'\n' for _, part in found.values())

  def __contains__(self, key: str) -> bool:
    return key in self._places

  def __getitem__(self, key: str) -> dict[str, Any]:
    place = self._places[key]
    if isinstance(place, tuple):
      file, begin, size = place
      place = os.pread(file.fileno(), size, begin)
    return json.loads(place)

  def __len__(self) -> int:
    return len(self._places)

  def values(self) -> Iterator[dict[str, Any]]:
    """Yields the records, one at a time."""
    return (self[key] for key in list(self._places))

  def add(self, key: str, **record: Any) -> None:
    """Adds a record; on disk when it returns, if the journal is a local file."""
    atomic.check(self._path)
    line = json.dumps({'key': key, **record}).encode()  # ASCII: half of a surrogate pair is allowed
    with self._lock:
      if self._is_closed:
        raise ValueError(f'{self._path}: the journal is closed')
      if self._file is not None and self._read is not None:
        begin = self._file.seek(0, os.SEEK_END)
        self._file.write(line + b'\n')
        self._file.flush()
        self._places[key] = self._read, begin, len(line)
        return
      self._places[key] = line
      self._whole += line + b'\n'
      self._unsaved += 1
      if self._unsaved >= self._every:
        self._save()

  def _save(self) -> None:
    self._path.write_bytes(self._whole)
    self._unsaved = 0

  def close(self) -> None:
    with self._lock:
      self._is_closed = True
      self._closing.close()
      if self._unsaved:
        self._save()

  def __enter__(self) -> 'ReplyJournal':
    return self

  def __exit__(self, *error) -> None:
    self.close()
