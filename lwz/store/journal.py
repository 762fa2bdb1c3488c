"""Journal of the finished trajectories of a step that is still being sampled.

    journal/step-000012/trajectory-00007.npz

Append-only, one file per entry, each written atomically on a disk and in a bucket. A run that was
killed inside a step reads them again. Entries are valid only for the policy that wrote them,
identified by its `store.checksum`; others are ignored.

    entries = journal.TrajectoryJournal(run.folder, step, checksum.of(state.params))
    entries.add('trajectory-00007', ids=ids, logp=logp)
    entries.read()['trajectory-00007']['ids']
    entries.clear()  # when the step is archived, see `store.rollouts`
"""

import io
import zipfile
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl
from lwz.store import atomic

_POLICY = 'policy'


class TrajectoryJournal:
  """The journal of one step. One process writes; all may read."""

  def __init__(self, folder: epath.PathLike, step: int, policy: int):
    self._root = epath.Path(folder) / 'journal'
    self._path = self._root / f'step-{step:06d}'
    self._policy = policy

  def add(self, name: str, **arrays: np.ndarray) -> None:
    """Writes arrays under a name, replacing earlier ones; on disk when it returns."""
    if _POLICY in arrays:
      raise ValueError(f'an array cannot be named {_POLICY!r}: the entry itself has one')
    self._path.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    entry: dict[str, Any] = {**arrays, _POLICY: np.uint32(self._policy)}
    np.savez(data, **entry)
    atomic.write_bytes(self._path / f'{name}.npz', data.getvalue())

  def read(self) -> dict[str, dict[str, np.ndarray]]:
    """Returns all entries of this policy, by name, without files whose checksums are wrong."""
    found = {}
    for path in sorted(self._path.glob('*.npz')) if self._path.exists() else ():
      try:
        jsonl.check_regular(path)
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
          entry = dict(arrays)
      except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        continue
      if int(entry.pop(_POLICY, -1)) == self._policy:
        found[path.name.removesuffix('.npz')] = entry
    return found

  def clear(self) -> None:
    """Deletes the entries of all steps: a run is in one step at a time."""
    if self._root.exists():
      self._root.rmtree()
