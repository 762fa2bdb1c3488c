"""Training states at rest, by orbax: the state of a step and, with it, where the data stood."""

import json
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath


class Checkpoints:
  """The checkpoints of a run, under `checkpoints/` of its folder; the newest `keep` stay.

  A step appears there only when it is written whole: one cut short by a crash is not seen.
  Every process of the mesh makes the same calls.
  """

  def __init__(self, folder: epath.PathLike, *, keep: int = 2):
    if keep < 1:
      raise ValueError(f'keep = {keep}: at least one checkpoint must stay')
    self._path = epath.Path(folder).resolve() / 'checkpoints'  # orbax wants it absolute
    self._manager = ocp.CheckpointManager(
      self._path,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep), cleanup_tmp_directories=True
      ),
      item_handlers={
        'state': ocp.StandardCheckpointHandler(),
        'extra': ocp.JsonCheckpointHandler(),
      },
    )

  def save(self, step: int, state: Any, extra: dict[str, Any]) -> None:
    """Begins to save; returns when the state is copied, so that its buffers may be donated.

    Args:
      step: later than every saved step.
      state: a pytree of jax arrays, on whatever mesh; a `TrainState`.
      extra: what JSON holds: the state of the data iterator, counters.

    Raises ValueError for a step that isn't later or an `extra` that JSON would not give back. An
    error of an earlier save that ran in the background is raised here too, or by `wait`.
    """
    latest = self.latest()
    if latest is not None and step <= latest:
      raise ValueError(f'{self._path}: cannot save step {step}, step {latest} is saved already')
    try:
      same = json.loads(json.dumps(extra)) == extra
    except TypeError as error:
      raise ValueError(f'extra: {error}; give what JSON can hold') from error
    if not same:
      raise ValueError('extra changes through JSON; use str keys, lists for tuples, and no NaN')
    self._manager.save(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra)),
      force=True,
    )

  def wait(self) -> None:
    """Returns when every save that was begun is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then ends the background threads."""
    self._manager.close()

  def latest(self) -> int | None:
    """The newest step, one that is being saved included; None where there is none."""
    return self._manager.latest_step()

  def restore(self, abstract_state: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The state and `extra` of a step, by default the newest.

    Args:
      abstract_state: the tree of `jax.ShapeDtypeStruct`, each with the sharding it is wanted in,
        which need not be the one it was saved in; without one, the first local device.

    Raises FileNotFoundError where there is no such checkpoint, ValueError where names, shapes or
    dtypes differ, naming each leaf.
    """
    self.wait()  # the newest may still be on its way
    step = _choose(self._path, self._manager, step)
    abstract = _placed(abstract_state)
    _compare(self._path / str(step), self._manager.item_metadata(step).state.tree, abstract)
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), extra=ocp.args.JsonRestore()
      ),
    )
    return restored.state, restored.extra


def load_params(folder: epath.PathLike, abstract_params: Any, step: int | None = None) -> Any:
  """The parameters of a saved `TrainState`, without reading its optimiser's state.

  Args:
    folder: the folder of the run that trained them; it is only read.
    abstract_params: the tree of `jax.ShapeDtypeStruct`, with shardings as in `restore`. A leaf is
      cast to the dtype asked for (fp32 masters to bf16).

  Raises FileNotFoundError where there is no such checkpoint, ValueError where names or shapes
  differ, naming each leaf.
  """
  path = epath.Path(folder).resolve() / 'checkpoints'  # orbax wants it absolute
  if not path.exists():
    raise FileNotFoundError(f'{path}: no checkpoints here; is this the folder of a trained run?')
  options = ocp.CheckpointManagerOptions(create=False, enable_async_checkpointing=False)
  # Without a handler for `extra`, orbax logs that it can't be read.
  handlers = {'state': ocp.PyTreeCheckpointHandler(), 'extra': ocp.JsonCheckpointHandler()}
  with ocp.CheckpointManager(path, options=options, item_handlers=handlers) as manager:
    step = _choose(path, manager, step)
    abstract = {'params': _placed(abstract_params)}
    saved = {'params': manager.item_metadata(step).state.tree.get('params', {})}
    _compare(path / str(step), saved, abstract, cast=True)
    restore = ocp.args.PyTreeRestore(
      item=abstract,
      restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
      partial_restore=True,
    )
    return manager.restore(step, args=ocp.args.Composite(state=restore)).state['params']


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
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
      jax.tree_util.keystr(key, simple=True, separator='.'): (
        list(leaf.shape),
        'of any dtype' if cast else np.dtype(leaf.dtype).name,
      )
      for key, leaf in leaves
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
