"""Sharding as tables: which mesh axis each logical axis of a parameter lies along.

The same model code runs on one device and on a pod; only the table and the mesh differ. Logical
axes are those of `qwen.describe`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from lwz import types
from lwz.model import config as config_lib
from lwz.model import qwen

Table = Mapping[str, str | tuple[str, ...] | None]

# Training: matrices are cut along both of their large dimensions, and gathered layer by layer.
TRAIN: Table = {
  'layers': None,
  'embed': 'fsdp',
  'vocab': 'tensor',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'head_dim': None,
  'mlp': 'tensor',
}
# Decoding: one token per step would gather every weight per step, so width stays whole.
DECODE: Table = {**TRAIN, 'embed': None}


def make_mesh(
  shape: Sequence[int], devices: Sequence[jax.Device] | np.ndarray | None = None
) -> Mesh:
  """A mesh over `types.AXES`, outermost first; missing trailing sizes are 1.

  `make_mesh((1, 4, 2))` has 4-way fsdp and 2-way tensor on 8 devices. Raises ValueError where the
  sizes do not multiply to the number of devices.
  """
  sizes = (*shape, *(1,) * (len(types.AXES) - len(shape)))
  devices = np.asarray(jax.devices() if devices is None else devices)
  if len(sizes) > len(types.AXES) or int(np.prod(sizes)) != devices.size:
    named = ', '.join(f'{axis}={size}' for axis, size in zip(types.AXES, sizes, strict=False))
    raise ValueError(f'a mesh of {named} does not fit {devices.size} devices')
  auto = (AxisType.Auto,) * len(types.AXES)
  return Mesh(devices.reshape(sizes), types.AXES, axis_types=auto)


def spec(name: str, param: qwen.Param, table: Table, mesh: Mesh | AbstractMesh) -> PartitionSpec:
  """How one parameter is cut.

  Key-value heads that are fewer than the ways of their axis, and divide it, are replicated: each
  device then holds the whole of them (K = 2 on 8-way tensor). Any other dimension that its axis
  does not divide is refused by name.
  """
  parts: list[Any] = []
  for size, logical in zip(param.shape, param.axes, strict=True):
    axis = table[logical]
    ways = int(np.prod([mesh.shape[a] for a in ((axis,) if isinstance(axis, str) else axis or ())]))
    if size % ways == 0:
      parts.append(axis if ways > 1 else None)
    elif logical == 'kv_heads' and ways % size == 0:
      parts.append(None)
    else:
      raise ValueError(
        f'{name}: dimension {logical!r} of {size} is not divisible by the {ways} ways of mesh axis '
        f'{axis!r}: choose a mesh whose {axis!r} divides it'
      )
  return PartitionSpec(*parts)


def shardings(
  config: config_lib.QwenConfig, mesh: Mesh | AbstractMesh, table: Table
) -> qwen.Params:
  """A `NamedSharding` for every parameter, in the structure of `qwen.describe(config)`."""

  def place(path, param):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    return NamedSharding(mesh, spec(name, param, table, mesh))

  return jax.tree_util.tree_map_with_path(place, qwen.describe(config), is_leaf=qwen.is_param)
