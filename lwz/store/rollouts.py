"""Every trajectory of a run, by step: TensorStore arrays (zarr3), one chunk of each per step.

    rollouts/{ids,logp,lengths,finished,scores,valid,policy}

Where a step may sample again, "step" is the number of the round, step * (1 + rl.max_resamples) + k.
A step that is repeated after a resume is read from here instead of being sampled again; any zarr3
reader reads it. Lengths are written last: a step with lengths is complete.
"""

import os
from typing import Any

import numpy as np
import tensorstore as ts
from etils import epath

from lwz import types
from lwz.store import atomic

_CODECS = [
  {'name': 'bytes', 'configuration': {'endian': 'little'}},
  {'name': 'zstd', 'configuration': {'level': 1}},
  {'name': 'crc32c'},
]


class Archive:
  """The rollouts of one run. One process writes; all may read.

  `num_steps` is that of the run as known now; a later one may be longer. The other sizes are P, G
  (with B = P * G), T and R.
  """

  def __init__(
    self,
    folder: epath.PathLike,
    *,
    num_steps: int,
    num_prompts: int,
    num_samples: int,
    max_tokens: int,
    num_rewards: int,
  ):
    self._path = epath.Path(folder) / 'rollouts'
    self._num_steps = num_steps
    self._opened: dict[tuple[str, bool], ts.TensorStore] = {}
    P, G = num_prompts, num_samples
    B = P * G
    self._parts: dict[str, tuple[tuple[int, ...], str]] = {
      'policy': ((), 'uint32'),
      'ids': ((B, max_tokens), 'int32'),
      'logp': ((B, max_tokens), 'float32'),
      'finished': ((B,), 'bool'),
      'scores': ((P, G, num_rewards), 'float32'),
      'valid': ((P, G), 'bool'),
      'lengths': ((B,), 'int32'),
    }

  def write(self, step: int, policy: int, rollout: types.Rollout, scores: types.Scores) -> None:
    """Writes a step, replacing an earlier one; on disk when it returns.

    `policy` is the checksum of the parameters that sampled it.
    """
    atomic.check(self._path)
    values = {
      'policy': np.uint32(policy),
      **{name: getattr(rollout, name) for name in ('ids', 'logp', 'finished')},
      'scores': scores.values,
      'valid': scores.valid,
      'lengths': rollout.lengths,
    }
    self._open('lengths', create=True)[step].write(np.zeros_like(rollout.lengths)).result()
    for name, value in values.items():
      self._open(name, create=True)[step].write(np.asarray(value)).result()

  def read(self, step: int, policy: int | None = None) -> tuple[types.Rollout, types.Scores] | None:
    """Returns the rollout and scores of a step by that policy, or any, bit for bit, or None."""
    if not (self._path / 'lengths' / 'zarr.json').exists():
      return None
    lengths = self._open('lengths', create=False)
    if step >= lengths.shape[0] or not _any(lengths[step].read()):
      return None  # after a kill, the other arrays may be missing, or shorter
    try:
      opened = {name: self._open(name, create=False) for name in self._parts}
      found = {name: np.asarray(array[step].read().result()) for name, array in opened.items()}
    except ValueError:  # a chunk is broken: its checksum says so
      return None
    if policy is not None and int(found['policy']) != policy:
      return None
    rollout = types.Rollout(found['ids'], found['logp'], found['lengths'], found['finished'])
    return rollout, types.Scores(found['scores'], found['valid'])

  def drop(self, step: int, policy: int) -> None:
    """Drops a step, unless this policy has sampled it."""
    if self.read(step) and not self.read(step, policy):
      lengths = self._open('lengths', create=True)
      lengths[step].write(np.zeros(lengths.shape[1:], np.int32)).result()

  def written(self) -> list[int]:
    """Returns the steps that are there, in order; one whose lengths are broken is not."""
    if not (self._path / 'lengths' / 'zarr.json').exists():
      return []
    lengths = self._open('lengths', create=False)
    read = [lengths[step].read() for step in range(lengths.shape[0])]
    return [step for step, future in enumerate(read) if _any(future)]

  def _open(self, name: str, *, create: bool) -> ts.TensorStore:
    if (name, create) not in self._opened:
      spec = {'driver': 'zarr3', 'kvstore': _place(os.fspath(self._path / name))}
      self._opened[name, create] = self._create(spec, name) if create else _existing(spec)
    return self._opened[name, create]

  def _create(self, spec: dict[str, Any], name: str) -> ts.TensorStore:
    """Opens an array of the archive, creating it if missing and extending it to `num_steps`."""
    shape, dtype = self._parts[name]
    metadata = {
      'shape': [self._num_steps, *shape],
      'data_type': dtype,
      'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [1, *shape]}},
      'codecs': _CODECS,
    }
    if not (self._path / name / 'zarr.json').exists():
      return ts.open(spec | {'metadata': metadata}, create=True).result()
    opened = _existing(spec)
    if opened.shape[1:] != shape:
      raise ValueError(f'{self._path / name} has steps of shape {opened.shape[1:]}, not {shape}')
    if opened.shape[0] < self._num_steps:
      opened = opened.resize(exclusive_max=[self._num_steps, *shape]).result()
      self._opened.pop((name, False), None)  # it would keep the old number of steps
    return opened


def _any(future: ts.Future) -> bool:
  """Whether a chunk can be read, and has a number other than 0."""
  try:
    return bool(future.result().any())
  except ValueError:  # its checksum says that it is broken
    return False


def _place(path: str) -> dict[str, Any]:
  """Where TensorStore keeps an array. A URL would give '%', '?', '#' and '|' a meaning."""
  if not atomic.is_remote(path):
    return {'driver': 'file', 'path': f'{os.path.abspath(path)}/'}
  kind, _, rest = path.partition('://')
  bucket, _, inside = rest.partition('/')
  return {'driver': {'gs': 'gcs'}.get(kind, kind), 'bucket': bucket, 'path': f'{inside}/'}


def _existing(spec: dict[str, Any]) -> ts.TensorStore:
  return ts.open(spec, open=True).result()
