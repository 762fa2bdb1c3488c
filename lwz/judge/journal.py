"""The journal of replies: an interrupted run sends no request twice."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from typing import Any

from etils import epath

from lwz import jsonl
from lwz.store import atomic


def key(*parts: Any) -> str:
  """The key of a question: 128 bits of the SHA-256 of its parts as canonical JSON."""
  text = json.dumps(parts, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode('ascii')).hexdigest()[:32]


class ReplyJournal:
  """Records by key, appended to a file of JSON lines; `key in journal`, `journal[key]`.

  A broken line (its writer was killed) is dropped. In a bucket, which has no append, the object is
  rewritten every `every` records and on `close`. `others` are files of the same form, of other
  processes, that are read and not written. Several threads may use it.
  """

  def __init__(
    self, path: epath.PathLike, *, every: int = 100, others: Iterable[epath.PathLike] = ()
  ):
    self._path, self._every, self._unsaved = epath.Path(path), every, 0
    self._remote = '://' in os.fspath(self._path)
    self._lock = threading.Lock()
    self._records: dict[str, dict[str, Any]] = {}
    for other in others:
      for line in jsonl.scan(jsonl.lines(other)):
        if isinstance(line.record.get('key'), str):
          self._records[line.record['key']] = line.record
    data = b''
    if self._path.exists():
      jsonl.check_regular(self._path)
      data = self._path.read_bytes()
    lines = []
    for line in jsonl.scan(data.split(b'\n')):
      if isinstance(line.record.get('key'), str):
        self._records[line.record['key']] = line.record
        lines.append(line.data + b'\n')
    self._whole = b''.join(lines)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    if self._whole != data:
      self._path.write_bytes(self._whole)
    self._file = None if self._remote else self._path.open('ab')

  def __contains__(self, key: str) -> bool:
    return key in self._records

  def __getitem__(self, key: str) -> dict[str, Any]:
    return self._records[key]

  def __len__(self) -> int:
    return len(self._records)

  def add(self, key: str, **record: Any) -> None:
    """Adds a record; on disk when it returns, if the journal is a local file."""
    atomic.check(self._path)
    record = {'key': key, **record}
    line = json.dumps(record).encode() + b'\n'  # ASCII: half of a surrogate pair is allowed
    with self._lock:
      self._records[key] = record
      if self._file is not None:
        self._file.write(line)
        self._file.flush()
        return
      self._whole += line
      self._unsaved += 1
      if self._unsaved >= self._every:
        self._save()

  def _save(self) -> None:
    self._path.write_bytes(self._whole)
    self._unsaved = 0

  def close(self) -> None:
    if self._file is not None:
      self._file.close()
    elif self._unsaved:
      self._save()

  def __enter__(self) -> 'ReplyJournal':
    return self

  def __exit__(self, *error) -> None:
    self.close()
