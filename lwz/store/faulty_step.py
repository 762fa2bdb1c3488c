"""A training step that was not finite, saved for replay: the state before it, batch and metrics.

faults/step-000012-0/
  batch.npz     the arrays of its batch
  state/        orbax: the state it began with
  fault.json    the metrics, and the names of what was not finite
"""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from lwz import hosts, jsonl
from lwz.store import atomic, checkpoint, checksum, record


def write(
  folder: epath.PathLike, name: str, state: Any, batch: Any, metrics: Mapping[str, float]
) -> epath.Path:
  """Writes `faults/NAME` in a run's folder, replacing an earlier one; all processes must call it.

  `state` is that before the step, on any mesh; `batch` is complete in every process.
  """
  atomic.check(epath.Path(folder) / 'faults')
  target = epath.Path(folder).resolve() / 'faults' / name

  def begin():
    target.mkdir(parents=True, exist_ok=True)
    (target / 'fault.json').unlink(missing_ok=True)  # which comes last, of state and batch together

  hosts.first(begin)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(target / 'state', state, force=True)

  def finish():
    arrays = io.BytesIO()
    np.savez(arrays, **checksum.named(batch))
    (target / 'batch.npz').write_bytes(arrays.getvalue())
    facts = {'metrics': dict(metrics), 'not_finite': not_finite(batch, metrics)}
    atomic.write_text(target / 'fault.json', json.dumps(record.plain(facts), indent=2) + '\n')

  hosts.first(finish)
  return target


def read(target: epath.PathLike, abstract_args: tuple) -> tuple[tuple, dict[str, Any]]:
  """Returns the arguments (state, *batch) of the step, and its fault.json.

  The state lies as in `abstract_args`, those of the program that ran it.

  Raises FileNotFoundError if `target` is no such folder, ValueError if its files are damaged.
  """
  target = epath.Path(target).expanduser().resolve()
  if not (target / 'fault.json').exists():
    raise FileNotFoundError(
      f'debug.replay={target}: no fault.json here; name a folder faults/step-... of a run'
    )
  remedy = 'it is damaged; replay another step'
  fault = jsonl.document(target / 'fault.json', {'not_finite': list}, remedy=remedy)
  if 'figures' in fault:  # the name of 'metrics' before 0.2
    fault['metrics'] = fault.pop('figures')
  if wrong := jsonl.faults({'metrics': None} | fault, {'metrics': dict}):
    raise ValueError(f'{target}/fault.json: {wrong[0]}; {remedy}')
  with checkpoint.reading(target / 'state'), ocp.StandardCheckpointer() as checkpointer:
    state = checkpointer.restore(target / 'state', abstract_args[0])
  try:
    with np.load(io.BytesIO((target / 'batch.npz').read_bytes())) as found:
      arrays = dict(found)
  except (ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f'{target}/batch.npz: {error}; {remedy}') from error
  names = list(checksum.named(abstract_args[1:]))
  if set(names) != set(arrays):
    raise ValueError(
      f'{target}/batch.npz holds {sorted(arrays)}, the step takes {sorted(names)}: replay with the '
      'config it was run with'
    )
  structure = jax.tree.structure(abstract_args[1:])
  batch = jax.tree.unflatten(structure, [arrays[name] for name in names])
  return (state, *batch), fault


def not_finite(batch: Any, metrics: Mapping[str, float]) -> list[str]:
  """Returns the names of metrics, and of parts of the batch, that hold a NaN or an infinity."""
  found = [name for name, value in metrics.items() if not np.isfinite(value)]
  for name, leaf in checksum.named(batch).items():
    array = np.asarray(leaf)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
      found.append(f'batch {name}')
  return found
