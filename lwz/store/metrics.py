"""Metrics of a run: a record per step in metrics.jsonl, and the same scalars for its sinks."""

import collections
import numbers
import os
import time
from collections.abc import Sequence
from typing import Any

from absl import logging
from etils import epath

from lwz import jsonl
from lwz.store import atomic, evaluations, record, samples
from lwz.store import sinks as sinks_lib

_SHOWN = 5  # steps that a message names

# Names that older versions wrote, mapped when a file is read; one that ends in '/' is a prefix.
_RENAMED = {
  'learn/clip_low': 'learn/clip_frac_low',
  'learn/clip_high': 'learn/clip_frac_high',
  'learn/weight': 'learn/tis_weight',
  'draws/num': 'sampling/rounds',
  'draws/teaching': 'sampling/informative_groups',
  'rollout/slots_in_use': 'rollout/active_slots',
  'no_spread/': 'zero_variance/',
  'eval/whole/': 'eval/words_finished/',
}


class Writer:
  """Appends records to a run's metrics.jsonl; on disk when `write` returns.

  A run that was killed after a record and before its checkpoint repeats the steps in between: the
  records from `start_step` on are dropped when the file is opened, so each step is there once.
  Raises ValueError if one before is missing or doubled. A file that was moved away begins anew.

      with metrics.Writer(run.folder, start_step=0) as writer:
        writer.write(0, {'loss': 2.5})
  """

  def __init__(
    self, folder: epath.PathLike, *, start_step: int, sinks: Sequence[sinks_lib.Sink] = ()
  ):
    self._folder, self._sinks = epath.Path(folder), list(sinks)
    self._path = self._folder / 'metrics.jsonl'
    self._path.parent.mkdir(parents=True, exist_ok=True)
    kept = [r for r in _records(self._path) if r['step'] < start_step]
    _check_steps(self._path, [r['step'] for r in kept], start_step)
    self._text = ''.join(map(record.encode, kept))
    atomic.write_text(self._path, self._text)
    self._file = None if atomic.is_remote(self._path) else self._path.open('ab')

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes `{"step", "time", **sorted values}`, time in seconds since 1970.

    NaN and infinities are null in the file and absent from the sinks, which get the step's samples,
    too, where those are on disk.
    Raises ValueError for a value that is no scalar, or one named step or time.
    """
    if reserved := {'step', 'time'} & values.keys():
      raise ValueError(f'metric {sorted(reserved)}: the name is taken by the record itself')
    scalars = {}
    for name in sorted(values):
      scalars[name] = record.plain(values[name])
      if not isinstance(scalars[name], (int, float, type(None))):
        raise ValueError(f'metric {name!r} = {values[name]!r} is no scalar')
    atomic.check(self._path)
    now = time.time()
    line = record.encode({'step': int(step), 'time': now, **scalars})
    if self._file is None:  # an object can't be appended to, so it is written again
      self._text += line
      atomic.write_text(self._path, self._text)
    else:
      try:
        self._file.write(line.encode())
        self._file.flush()
      except OSError as error:
        why = f'{error.strerror}; fix that, and run the same command again'
        raise OSError(error.errno, why, str(self._path)) from error
    finite = {name: value for name, value in scalars.items() if value is not None}
    shown = samples.read_step(self._folder, int(step)) if self._sinks else []
    for sink in self._sinks:
      sink.write(int(step), finite, shown)

  def late(self, step: int, values: dict[str, float | None]) -> None:
    """Gives the sinks the finite ones of more metrics of a step that is written already."""
    finite = {name: value for name, value in record.plain(values).items() if value is not None}
    for sink in self._sinks:
      sink.late(int(step), finite)

  def sync(self) -> None:
    """Has the records survive a loss of power: call it before a checkpoint that counts on them."""
    if self._file:
      os.fsync(self._file.fileno())

  def close(self) -> None:
    if self._file:
      self._file.close()
    for sink in self._sinks:
      sink.close()

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *error) -> None:
    self.close()


def read(folder: epath.PathLike) -> list[dict[str, Any]]:
  """Returns the records of a run, oldest first, under today's names; a null is None.

  Those of evaluated steps have the metrics of evaluations.jsonl, too, which come later. A torn last
  line is left out. Raises FileNotFoundError if the run has no metrics.jsonl, ValueError for a
  broken line.
  """
  path = epath.Path(folder) / 'metrics.jsonl'
  if not path.exists():
    raise FileNotFoundError(f'{path}: no metrics here; is this the folder of a run that started?')
  found = evaluations.metrics(folder)
  return [record | found.get(record['step'], {}) for record in _records(path)]


def current_name(name: str) -> str:
  """Returns today's name of a metric that may have an old one."""
  for old, new in _RENAMED.items():
    if name == old or (old.endswith('/') and name.startswith(old)):
      return new + name[len(old) :]
  return name


def _records(path: epath.Path) -> list[dict[str, Any]]:
  records = jsonl.read(path, _checked, skip='last')[0] if path.exists() else []
  return [{current_name(name): value for name, value in record.items()} for record in records]


def _checked(found: dict[str, Any]) -> dict[str, Any]:
  """The record, if it has a step and its values are numbers or null."""
  jsonl.field(found, 'step', int)
  for name, value in found.items():
    if value is not None:
      jsonl.field(found, name, numbers.Real)
  return found


def _check_steps(path: epath.Path, steps: list[int], start: int) -> None:
  if steps != list(range(start - len(steps), start)):
    times = collections.Counter(steps)
    missing = [step for step in range(start) if step not in times]
    doubled = [step for step, num in times.items() if num > 1]
    what = {'missing': missing, 'there more than once': doubled, 'out of order': steps}
    why, which = next((why, found) for why, found in what.items() if found)
    more = ', ...' if len(which) > _SHOWN else ''
    raise ValueError(
      f'{path}: of the steps before {start}, each should be there once: '
      f'{", ".join(map(str, which[:_SHOWN]))}{more} {"is" if len(which) == 1 else "are"} {why}; '
      'put the lines back, or move the file away to go on without them'
    )
  if len(steps) < start:
    logging.warning('%s: steps 0 to %d are not there', path, start - len(steps) - 1)
