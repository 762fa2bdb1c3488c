"""The cache of replies, on local disk."""

import contextlib
import hashlib
import json
import os
import pathlib
import sqlite3
from typing import Any


def key(question: Any) -> str:
  """The SHA-256 of a question as canonical JSON; it must hold all that determines the answer."""
  text = json.dumps(question, sort_keys=True, separators=(',', ':'), allow_nan=False)
  return hashlib.sha256(text.encode('ascii')).hexdigest()


class ReplyCache:
  """A map from keys to JSON records, in a SQLite file shared by processes; used from one thread.

  SQLite locks need a local disk, not a network folder or bucket. If the disk is full or the file
  locked, `get` finds nothing and `put` keeps nothing; no reply is lost.

  Raises ValueError if the file is not such a cache.
  """

  def __init__(self, path: str | os.PathLike):
    path = os.fspath(path)
    if '://' in path:
      raise ValueError(f'{path}: the cache of replies needs a local disk, not a bucket')
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
      with contextlib.ExitStack() as opened:
        self._file = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        opened.callback(self._file.close)
        self._file.execute('PRAGMA journal_mode=WAL')
        self._file.execute('PRAGMA synchronous=NORMAL')
        self._file.execute(
          'CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID'
        )
        opened.pop_all()
    except sqlite3.DatabaseError as error:
      raise ValueError(
        f'{path}: no cache of replies ({error}); delete it, or name another'
      ) from error

  def get(self, key: str) -> dict[str, Any] | None:
    with contextlib.suppress(sqlite3.OperationalError):
      row = self._file.execute('SELECT record FROM replies WHERE key = ?', (key,)).fetchone()
      return json.loads(row[0]) if row else None
    return None

  def put(self, key: str, record: dict[str, Any]) -> None:
    text = json.dumps(record, allow_nan=False)  # ASCII: half of a surrogate pair is not valid UTF-8
    with contextlib.suppress(sqlite3.OperationalError):
      self._file.execute('INSERT OR REPLACE INTO replies VALUES (?, ?)', (key, text))

  def close(self) -> None:
    self._file.close()
