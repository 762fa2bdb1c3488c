"""Checkpoints, by orbax: the training state of a step and the state of its data iterator."""

import contextlib
import json
import os
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from lwz import hosts
from lwz.store import atomic, checksum

# In a path TensorStore takes the first for a slash, and orbax the second for a pattern.
UNSAFE = ('\\', '[')
REFUSED = 'refused'  # in the run's folder: checkpoints that could not be restored


class Checkpoints:
  """The checkpoints of a run, under `checkpoints/` of its folder.

  A step appears there only when it is complete: one cut short by a crash is not seen. The newest
  `keep` are kept and, of saves with a `metric`, the `keep_best` with the highest. Every process of
  the mesh must make the same calls.
  """

  def __init__(self, folder: epath.PathLike, *, keep: int = 2, keep_best: int = 0):
    if keep < 1:
      raise ValueError(f'keep = {keep}: at least one checkpoint must be kept')
    self._folder = epath.Path(folder)
    self._path = _checkpoints(folder)
    policies = ocp.checkpoint_managers
    best = policies.BestN(
      get_metric_fn=_metric, n=keep_best, keep_checkpoints_without_metrics=False
    )
    newest = policies.LatestN(keep)
    handlers: dict[str, Any] = {
      'state': ocp.StandardCheckpointHandler(),
      'extra': ocp.JsonCheckpointHandler(),
      'sums': ocp.JsonCheckpointHandler(),
    }
    self._keep_best = keep_best
    self._manager = ocp.CheckpointManager(
      self._path,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=(
          policies.AnyPreservationPolicy([newest, best]) if keep_best else newest
        ),
        best_fn=_metric if keep_best else None,
        cleanup_tmp_directories=True,
      ),
      item_handlers=handlers,
    )

  def save(
    self, step: int, state: Any, extra: dict[str, Any], *, metric: float | None = None
  ) -> None:
    """Starts to save; returns when the state is copied, so that its buffers may be donated.

    `state` is a pytree of jax arrays, on whatever mesh; `extra` is JSON, such as the state of the
    data iterator; `metric` the quality of the state, if known; higher is better.

    Raises ValueError if the step isn't later than every saved one or `extra` changes through JSON,
    and OSError, naming the last complete step, if the disk is full or may not be written. An error
    of an earlier save that ran in the background is raised here too, or by `check` or `wait`.
    """
    atomic.check(self._folder / 'checkpoints')
    latest = self.latest()
    if latest is not None and step <= latest:
      raise ValueError(f'{self._path}: cannot save step {step}, step {latest} is saved already')
    try:
      same = json.loads(json.dumps(extra)) == extra
    except TypeError as error:
      raise ValueError(f'extra: {error}; give what JSON can hold') from error
    if not same:
      raise ValueError('extra changes through JSON; use str keys, lists for tuples, and no NaN')
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      extra=ocp.args.JsonSave(extra),
      sums=ocp.args.JsonSave({**checksum.leaves(state), 'extra': _crc(extra)}),
    )
    metrics = {'metric': metric} if self._keep_best and metric is not None else None
    with self._writing():
      self._manager.save(step, args=items, metrics=metrics, force=True)

  def check(self) -> None:
    """Raises the error of a save that has failed in the background, without waiting for others."""
    if not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Waits until every save is on disk."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then ends the background threads."""
    with self._writing():
      self._manager.close()

  def latest(self) -> int | None:
    """Returns the newest step, including one that is being saved, or None."""
    return self._manager.latest_step()

  def restore(self, abstract_state: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Returns the state and `extra` of a step, verified; by default the newest that is intact.

    A newer one that is not (cut short, foreign, other bits than were saved) is named in a warning
    and moved to `refused/` of the run's folder. Leaves lie as the `jax.ShapeDtypeStruct`s of
    `abstract_state` say, whatever the mesh of the save; without a sharding, on the first local
    device.

    Raises FileNotFoundError if there is no such checkpoint, ValueError if none is intact, naming
    each leaf whose name, shape or dtype differs.
    """
    self.wait()  # the newest may still be being written
    newest = _choose(self._path, self._manager, step)
    abstract = _placed(abstract_state)
    steps = [s for s in sorted(self._manager.all_steps(), reverse=True) if s <= newest]
    refused: dict[int, ValueError] = {}
    for chosen in steps if step is None else [newest]:
      found, error = None, None
      try:
        found = self._read(chosen, abstract)
      except ValueError as raised:
        error = raised
      if hosts.all_gather(np.bool_(error is None)).all():
        assert found is not None
        self._move_refused(refused, chosen)
        return found
      refused[chosen] = error or ValueError(f'{self._path / str(chosen)}: refused elsewhere')
    raise refused[newest]

  def _read(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
    where = self._path / str(step)
    _compare(where, _shapes(where, self._manager, step), abstract)
    items = ocp.args.Composite(
      state=ocp.args.StandardRestore(abstract),
      extra=ocp.args.JsonRestore(),
      sums=ocp.args.JsonRestore(),
    )
    with reading(where):
      restored = self._manager.restore(step, args=items)
    sums = checksum.leaves(restored.state)
    if 'extra' in restored.sums:  # which older checkpoints do not hold
      sums['extra'] = _crc(restored.extra)
    if restored.extra.get('step', step) != step:
      raise ValueError(f'{where}: its extra is of another step, {restored.extra["step"]}')
    if other := [name for name, value in sums.items() if restored.sums.get(name) != value]:
      raise ValueError(f'{where}: other bits than were saved, in {", ".join(other)}')
    return restored.state, restored.extra

  def _move_refused(self, refused: dict[int, ValueError], chosen: int) -> None:
    """Moves newer checkpoints away, so that their steps can be saved again."""
    for step, error in refused.items():
      target = self._path.parent / REFUSED / str(step)
      logging.warning('%s\nmoved to %s; resuming from step %d', error, target, chosen)

      def move(step=step, target=target):
        if target.exists():
          target.rmtree()
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._path / str(step)).rename(target)

      hosts.first(move)
    if refused:
      self._manager.reload()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Raises any error of the disk as an OSError that names the complete steps."""
    try:
      yield
    except Exception as error:
      complete = sorted(int(p.name) for p in self._path.glob('*') if p.name.isdigit())
      raise OSError(
        f'{self._path}: a checkpoint could not be written: {error}\n'
        f'complete steps: {complete or "none"}; make room, or the folder writable, and run the '
        'same command again'
      ) from error


@contextlib.contextmanager
def reading(where: epath.Path) -> Iterator[None]:
  """Inside, an error of what reads a checkpoint is a ValueError that names it."""
  try:
    yield
  except Exception as error:  # orbax and TensorStore have errors of many types
    why = str(error).split(' [tensorstore_spec')[0]
    raise ValueError(f'{where}: cannot be read, a file is broken or missing: {why}') from error


def _shapes(where: epath.Path, manager: ocp.CheckpointManager, step: int) -> Any:
  """Returns the state of a step as shapes; raises ValueError if there is none."""
  with reading(where):
    saved = manager.item_metadata(step).state
  if saved is None or saved.tree is None:
    raise ValueError(f'{where}: no training state in it; it was not written by this program')
  return saved.tree


def _crc(extra: dict[str, Any]) -> int:
  return zlib.crc32(json.dumps(extra, sort_keys=True).encode())


def _metric(metrics: dict[str, float]) -> float:
  return next(iter(metrics.values()))  # the only one; its name was another in older checkpoints


def load_params(
  folder: epath.PathLike,
  abstract_params: Any,
  step: int | None = None,
  *,
  left: Collection[str] = (),
) -> Any:
  """Returns the parameters of a saved `TrainState`, without reading its optimiser's state.

  The folder of the run that trained them is only read. A leaf is cast to its dtype in
  `abstract_params` (fp32 masters to bf16), and lies as in `restore`. Those named `left`, if they
  were saved, are left behind.

  Raises FileNotFoundError if there is no such checkpoint, ValueError if it is broken or, naming
  each leaf, if names or shapes differ.
  """
  path = _checkpoints(folder)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no checkpoints here; is this the folder of a trained run?')
  options = ocp.CheckpointManagerOptions(create=False, enable_async_checkpointing=False)
  # Without a handler for the rest, orbax logs that it can't be read.
  rest = {name: ocp.JsonCheckpointHandler() for name in ('extra', 'sums', 'metrics')}
  handlers = {'state': ocp.PyTreeCheckpointHandler(), **rest}
  with ocp.CheckpointManager(path, options=options, item_handlers=handlers) as manager:
    step = _choose(path, manager, step)
    abstract, where = {'params': _placed(abstract_params)}, path / str(step)
    saved = _shapes(where, manager, step).get('params', {})
    saved = {name: leaf for name, leaf in saved.items() if name not in left}
    _compare(where, {'params': saved}, abstract, cast=True)
    restore = ocp.args.PyTreeRestore(
      item=abstract,
      restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
      partial_restore=True,
    )
    with reading(where):
      return manager.restore(step, args=ocp.args.Composite(state=restore)).state['params']


def _checkpoints(folder: epath.PathLike) -> epath.Path:
  path = epath.Path(folder).resolve() / 'checkpoints'  # orbax wants it absolute
  if found := [char for char in UNSAFE if char in os.fspath(path)]:
    raise ValueError(f'{path}: checkpoints cannot be kept under a name with {found[0]}; rename it')
  return path


def _choose(path: epath.Path, manager: ocp.CheckpointManager, step: int | None) -> int:
  steps = sorted(manager.all_steps())
  if not steps:
    raise FileNotFoundError(f'{path}: no complete checkpoint here; the run must save one first')
  if step is not None and step not in steps:
    raise FileNotFoundError(f'{path}: no checkpoint of step {step}; there are {steps}')
  return steps[-1] if step is None else step


def _placed(tree: Any) -> Any:
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def place(leaf):
    sharding = getattr(leaf, 'sharding', None) or here
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(place, tree)


def _compare(where: epath.Path, saved: Any, wanted: Any, *, cast: bool = False) -> None:
  def describe(tree):
    return {
      name: (list(leaf.shape), 'of any dtype' if cast else np.dtype(leaf.dtype).name)
      for name, leaf in checksum.named(tree).items()
    }

  old, new = describe(saved), describe(wanted)
  lines = []
  for name in sorted(old.keys() | new.keys()):
    if old.get(name) != new.get(name):
      there, here = old.get(name, ('absent',)), new.get(name, ('absent',))
      lines.append(
        f'  {name}: {" ".join(map(str, there))} saved, {" ".join(map(str, here))} wanted'
      )
  if lines:
    raise ValueError(
      f'{where} is of another model or optimiser:\n'
      + '\n'.join(lines)
      + '\nrestore with the config it was saved with'
    )
