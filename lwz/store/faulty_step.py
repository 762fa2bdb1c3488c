"""A training step as it went wrong, at rest: the state before it, its batch, what it gave.

faults/step-000012-0/
  batch.npz     the arrays of its batch
  state/        orbax: the state it began with
  fault.json    step, the figures, what was not finite
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from lwz import hosts
from lwz.store import atomic, record


def write(
  folder: epath.PathLike, name: str, state: Any, batch: Any, figures: Mapping[str, float]
) -> epath.Path:
  """Writes `faults/NAME` in a run's folder, over an earlier one; every process makes the call.

  Args:
    state: what the step began with, on whatever mesh.
    batch: a tree of arrays that every process has whole.
    figures: what the step gave.
  """
  target = epath.Path(folder).resolve() / 'faults' / name
  hosts.first(lambda: target.mkdir(parents=True, exist_ok=True))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(target / 'state', state, force=True)

  def finish():
    arrays = io.BytesIO()
    np.savez(arrays, **_named(batch))
    (target / 'batch.npz').write_bytes(arrays.getvalue())
    facts = {'figures': dict(figures), 'not_finite': not_finite(batch, figures)}
    atomic.write_text(target / 'fault.json', json.dumps(record.plain(facts), indent=2) + '\n')

  hosts.first(finish)
  return target


def read(target: epath.PathLike, abstract_args: tuple) -> tuple[tuple, dict[str, Any]]:
  """The arguments (state, *batch) of the step, and its fault.json.

  Args:
    abstract_args: of the program that ran it: structure, and where the state shall lie.

  Raises FileNotFoundError where `target` is no such folder.
  """
  target = epath.Path(target).expanduser().resolve()
  if not (target / 'fault.json').exists():
    raise FileNotFoundError(
      f'debug.replay={target}: no fault.json here; name a folder faults/step-... of a run'
    )
  with ocp.StandardCheckpointer() as checkpointer:
    state = checkpointer.restore(target / 'state', abstract_args[0])
  with np.load(io.BytesIO((target / 'batch.npz').read_bytes())) as found:
    arrays = dict(found)
  names = list(_named(abstract_args[1:]))
  if set(names) != set(arrays):
    raise ValueError(
      f'{target}/batch.npz holds {sorted(arrays)}, the step takes {sorted(names)}: replay with the '
      'config it was run with'
    )
  structure = jax.tree.structure(abstract_args[1:])
  batch = jax.tree.unflatten(structure, [arrays[name] for name in names])
  return (state, *batch), json.loads((target / 'fault.json').read_text())


def not_finite(batch: Any, figures: Mapping[str, float]) -> list[str]:
  """The names of figures, and of parts of the batch, that hold a NaN or an infinity."""
  found = [name for name, value in figures.items() if not np.isfinite(value)]
  for name, array in _named(batch).items():
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
      found.append(f'batch {name}')
  return found


def _named(tree: Any) -> dict[str, Any]:
  named = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): (
      leaf if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf)
    )
    for path, leaf in named
  }
