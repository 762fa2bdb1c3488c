"""How far a run is, as its folder shows it to another process."""

import math
import os
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from lwz import jsonl
from lwz.store import atomic, evaluations, lock, metrics

_TAIL = 1 << 16  # bytes of metrics.jsonl, and of evaluations.jsonl, that are read
_BEGINNING = (
  *('config.json', 'inputs.jsonl', 'LOCK', 'tokenizer', 'model.json', 'adapters.json'),
  *('tensorboard', 'wandb', 'metrics.jsonl'),
)
_RECENT = 10  # records whose mean time a step is expected to take


class Status(NamedTuple):
  """state: complete, running, interrupted, unreadable, or empty where there is no work in it."""

  state: str
  step: int | None = None  # steps that are done; None of a stage without steps
  num_steps: int | None = None
  left: float = math.nan  # seconds
  last: Mapping[str, Any] = types.MappingProxyType({})  # the latest metrics, of the latest records
  config: Mapping[str, Any] = types.MappingProxyType({})

  @property
  def progress(self) -> str:
    """'12/170', or ''."""
    return f'{self.step}/{self.num_steps}' if self.step is not None and self.num_steps else ''


def read(folder: epath.PathLike) -> Status:
  """Returns the status of a run's folder; one without config.json, or none at all, is empty."""
  folder = epath.Path(folder)
  held = lock.holder(folder / 'LOCK')
  done = _document(folder / 'DONE').get('config')
  config = _document(folder / 'config.json').get('config')
  if not isinstance(config, dict):
    unreadable = (folder / 'config.json').exists()
    return Status('running' if held else 'unreadable' if unreadable else 'empty')
  num_steps = _num_steps(config)
  records = _tail(folder / 'metrics.jsonl')
  evaluated = _tail(folder / 'evaluations.jsonl')
  last = (evaluations.of(evaluated[-1]) if evaluated else {}) | (records[-1] if records else {})
  step = last['step'] + 1 if records else None
  if held:
    state = 'running'
  elif isinstance(done, dict) and _num_steps(done) == num_steps:
    state = 'complete'
  else:
    state = 'interrupted' if step is not None or _has_more(folder) else 'empty'
  return Status(state, step, num_steps, _left(records, num_steps), last, config)


def _num_steps(config: dict[str, Any]) -> int | None:
  train = config.get('train')
  found = train.get('num_steps') if isinstance(train, dict) else None
  return found if isinstance(found, int) else None


def _left(records: Sequence[dict[str, Any]], num_steps: int | None) -> float:
  """Returns the seconds until `num_steps` are done, at the pace of the latest records."""
  taken = [r['seconds'] for r in records[-_RECENT:] if isinstance(r.get('seconds'), int | float)]
  if not taken or num_steps is None:
    return math.nan
  return max(0, num_steps - records[-1]['step'] - 1) * sum(taken) / len(taken)


def _has_more(folder: epath.Path) -> bool:
  """Whether there is more in the folder than what a start writes before its work begins."""
  return any(
    path.name not in _BEGINNING and (path.name != 'checkpoints' or any(path.iterdir()))
    for path in folder.iterdir()
  )


def _document(path: epath.Path) -> dict[str, Any]:
  try:
    return jsonl.document(path, remedy='delete it')
  except (OSError, ValueError):
    return {}


def _tail(path: epath.Path) -> list[dict[str, Any]]:
  """Returns the last records of a file that another process may be writing."""
  try:
    if atomic.is_remote(path):
      data = path.read_bytes()
    else:
      with open(path, 'rb') as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        data = file.read()
  except OSError:
    return []
  records = [line.record for line in jsonl.scan(data[-_TAIL:].split(b'\n')) if not line.fault]
  return [
    {metrics.current_name(name): value for name, value in record.items()}
    for record in records
    if isinstance(record.get('step'), int)
  ]
