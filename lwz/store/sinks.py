"""Sinks: where metrics and samples go besides the files of a run, chosen by `log.sinks`."""

import hashlib
import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from etils import epath

from lwz.store import atomic


class Sink(Protocol):
  """A receiver of each step that `metrics.Writer` writes."""

  def write(self, step: int, values: Mapping[str, float], samples: Sequence[dict]) -> None:
    """`values` are finite; `samples` are those of `store.samples` that this step has, if any."""

  def late(self, step: int, values: Mapping[str, float]) -> None:
    """Gets more values of an earlier step, those of its evaluation."""

  def close(self) -> None: ...


class TensorBoard:
  """Event files in `tensorboard/` of the run's folder."""

  def __init__(self, folder: epath.Path, start_step: int):
    import tensorboardX

    # Files are named by the second, and one of the same name would be overwritten.
    self._board = tensorboardX.SummaryWriter(
      os.fspath(folder / 'tensorboard'),
      purge_step=start_step,
      filename_suffix=f'.{time.time_ns()}',
    )

  def write(self, step: int, values: Mapping[str, float], samples: Sequence[dict]) -> None:
    for name, value in values.items():
      self._board.add_scalar(name, value, step)
    for i, sample in enumerate(samples):
      self._board.add_text(f'samples/{i}', f'**{sample["prompt"]}**\n\n{sample["text"]}', step)
    self._board.flush()

  def late(self, step: int, values: Mapping[str, float]) -> None:
    self.write(step, values, [])

  def close(self) -> None:
    self._board.close()


class Tracker:
  """A run of the project `lwz` in Weights & Biases or trackio, which share these calls.

  A resumed run goes on there. Both work offline: WANDB_MODE=offline, and trackio by default.
  """

  def __init__(self, module: str, folder: epath.Path, config: Mapping[str, Any]):
    if module == 'wandb':
      import wandb as found
    else:
      import trackio as found
    self._module = found
    given: dict[str, Any] = {'name': folder.name, 'config': dict(config), 'resume': 'allow'}
    if module == 'wandb':  # trackio knows a run by its name
      given['id'] = hashlib.sha256(os.path.abspath(os.fspath(folder)).encode()).hexdigest()[:16]
      given['dir'] = None if atomic.is_remote(folder) else os.fspath(folder)
    self._run = self._module.init(project='lwz', **given)
    self._late: list[dict[str, Any]] = []
    self._step = 0

  def write(self, step: int, values: Mapping[str, float], samples: Sequence[dict]) -> None:
    record: dict[str, Any] = {**(self._late.pop(0) if self._late else {}), **values}
    self._step = step
    if samples:
      rewards = list(samples[0]['rewards'])
      rows = [[s['prompt'], s['text'], *(s['rewards'][r] for r in rewards)] for s in samples]
      record['samples'] = self._module.Table(columns=['prompt', 'text', *rewards], data=rows)
    self._run.log(record, step=step)

  def late(self, step: int, values: Mapping[str, float]) -> None:
    """Keeps the values for a `write` to come, as steps must not fall; 'eval/step' is theirs."""
    self._late.append({**values, 'eval/step': step})

  def close(self) -> None:
    for i, values in enumerate(self._late):  # two of one step would be one record
      self._run.log(values, step=self._step + i)
    self._run.finish()


SINKS = ('tensorboard', 'wandb', 'trackio')


def check(names: Sequence[str]) -> None:
  """Raises ImportError if a sink needs a package that is not installed."""
  for name in names:
    if name != 'tensorboard' and importlib.util.find_spec(name) is None:
      raise ImportError(f'log.sinks: {name} is not installed; pip install {name}')


def make(name: str, folder: epath.PathLike, *, start_step: int, config: Mapping[str, Any]) -> Sink:
  """Returns the sink of a name of `SINKS`; `start_step` is the first step that it will get."""
  folder = epath.Path(folder)
  return TensorBoard(folder, start_step) if name == 'tensorboard' else Tracker(name, folder, config)
