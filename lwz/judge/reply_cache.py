"""What an endpoint has answered already, on local disk."""

import contextlib
import hashlib
import json
import os
import pathlib
import sqlite3
from typing import Any


def key(question: Any) -> str:
  """SHA-256 of the question as canonical JSON: whatever matters for the answer belongs in it."""
  text = json.dumps(question, sort_keys=True, separators=(',', ':'), allow_nan=False)
  return hashlib.sha256(text.encode('ascii')).hexdigest()


class ReplyCache:
  """Key to JSON record, in a SQLite file that several processes may share; used from one thread.

  SQLite locks need a local disk: keep the file off network folders and buckets. A full or locked
  one costs the memory of a reply, never the reply: `get` finds nothing then, `put` keeps nothing.

  Raises ValueError where the file is no such cache.
  """

  def __init__(self, path: str | os.PathLike):
    path = os.fspath(path)
    if '://' in path:
      raise ValueError(f'{path}: the cache of replies needs a local disk, not a bucket')
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    self._file = sqlite3.connect(path, timeout=60.0, isolation_level=None)
    try:
      self._file.execute('PRAGMA journal_mode=WAL')
      self._file.execute('PRAGMA synchronous=NORMAL')
      self._file.execute(
        'CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID'
      )
    except sqlite3.DatabaseError as error:
      self._file.close()
      raise ValueError(
        f'{path}: no cache of replies ({error}); delete it, or name another'
      ) from error

  def get(self, key: str) -> dict[str, Any] | None:
    with contextlib.suppress(sqlite3.OperationalError):
      row = self._file.execute('SELECT record FROM replies WHERE key = ?', (key,)).fetchone()
      return json.loads(row[0]) if row else None
    return None

  def put(self, key: str, record: dict[str, Any]) -> None:
    text = json.dumps(record, allow_nan=False)  # ASCII: half a character is no UTF-8
    with contextlib.suppress(sqlite3.OperationalError):
      self._file.execute('INSERT OR REPLACE INTO replies VALUES (?, ?)', (key, text))

  def close(self) -> None:
    self._file.close()
