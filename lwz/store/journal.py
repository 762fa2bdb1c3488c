"""Journal of the finished trajectories of a step that is still being sampled.

    journal/step-000012/1767225600123456789.npz

Append-only, each file written atomically on a disk and in a bucket, by a thread: it holds the
entries that came while the one before was written, and is named by its time, in ns. A run that was
killed inside a step reads them again. A kill loses the entries of the write that it cut, and those
that waited for it: they are sampled again, by their own keys. Entries are valid only for the policy
that wrote them, identified by its `store.checksum`; others are ignored.

    writer = behind.Writer()

    entries = journal.TrajectoryJournal(run.folder, step, checksum.of(state.params), writer)
    entries.add('trajectory-00007', ids=ids, logp=logp)
    writer.flush()
    entries.read()['trajectory-00007']['ids']
    entries.clear()  # when the step is archived, see `store.rollouts`
"""

import io
import time
import zipfile
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl
from lwz.store import atomic, behind

_POLICY = 'policy'


class TrajectoryJournal:
  """The journal of one step. One process writes; all may read."""

  def __init__(self, folder: epath.PathLike, step: int, policy: int, writer: behind.Writer):
    self._root = epath.Path(folder) / 'journal'
    self._path = self._root / f'step-{step:06d}'
    self._policy, self._writer = policy, writer
    self._waiting: dict[str, dict[str, np.ndarray]] = {}  # by the name of the entry

  def add(self, name: str, **arrays: np.ndarray) -> None:
    """Adds arrays under a name, replacing earlier ones; on disk when the writer is flushed."""
    if _POLICY in arrays:
      raise ValueError(f'an array cannot be named {_POLICY!r}: the entry itself has one')
    self._waiting[name] = arrays
    self._writer.submit(self._path, self._write)

  def _write(self) -> None:
    """Writes what waits; the next call finds nothing then."""
    waiting = [self._waiting.popitem() for _ in range(len(self._waiting))]
    if not waiting:
      return
    self._path.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    entries: dict[str, Any] = {f'{n}/{k}': x for n, arrays in waiting for k, x in arrays.items()}
    entries[_POLICY] = np.uint32(self._policy)
    np.savez(data, **entries)
    atomic.write_bytes(self._path / f'{time.time_ns()}.npz', data.getvalue())  # replaces no other

  def read(self) -> dict[str, dict[str, np.ndarray]]:
    """Returns all entries of this policy, by name, without files whose checksums are wrong."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(self._path.glob('*.npz')) if self._path.exists() else ():
      try:
        jsonl.check_regular(path)
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
          entries = dict(arrays)
      except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        continue
      if int(entries.pop(_POLICY, -1)) == self._policy:
        for key, array in entries.items():
          name, _, part = key.rpartition('/')  # an older file holds one entry, of its own name
          found.setdefault(name or path.name.removesuffix('.npz'), {})[part] = array
    return found

  def clear(self) -> None:
    """Deletes the entries of all steps: a run is in one step at a time."""
    self._waiting.clear()
    if self._root.exists():
      self._root.rmtree()
