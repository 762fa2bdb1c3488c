"""Sharding as tables: which mesh axis each logical axis of a parameter lies along.

The same model code runs on one device and on a pod; only the table and the mesh differ. Logical
axes are those of `parameters.describe`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from lwz import types
from lwz.model import config as config_lib
from lwz.model import lora, parameters, quantised

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
  'rank': None,
}
# Decoding: one token per step would gather every weight per step, so width stays whole.
DECODE: Table = {**TRAIN, 'embed': None}


def make_mesh(
  shape: Sequence[int], devices: Sequence[jax.Device] | np.ndarray | None = None
) -> Mesh:
  """A mesh over `types.AXES`, outermost first; missing trailing sizes are 1, a -1 is what remains.

  `make_mesh((1, 4, 2))` has 4-way fsdp and 2-way tensor. Sizes that multiply to fewer than there
  are take the first devices, in one process; to more, or in several processes, they are refused.
  """
  sizes = [*shape, *(1,) * (len(types.AXES) - len(shape))]
  devices = np.asarray(jax.devices() if devices is None else devices).reshape(-1)
  named = ', '.join(f'{axis}={size}' for axis, size in zip(types.AXES, sizes, strict=False))
  known = math.prod(size for size in sizes if size != -1)
  if sizes.count(-1) == 1 and known > 0 and devices.size % known == 0:
    sizes[sizes.index(-1)] = devices.size // known
  num = math.prod(sizes)
  wasted = num != devices.size and jax.process_count() > 1
  if len(sizes) > len(types.AXES) or min(sizes) < 1 or num > devices.size or wasted:
    raise ValueError(f'a mesh of {named} does not fit {devices.size} devices')
  ordered = mesh_utils.create_device_mesh(
    sizes, devices[:num].tolist(), allow_split_physical_axes=True
  )
  return Mesh(ordered, types.AXES, axis_types=(AxisType.Auto,) * len(types.AXES))


def spec(
  name: str, param: parameters.Param, table: Table, mesh: Mesh | AbstractMesh
) -> PartitionSpec:
  """Returns how one parameter is cut. An axis that the mesh lacks counts as one of size 1.

  Key-value heads that are fewer than the ways of their axis, and divide it, are replicated: each
  device then holds the whole of them (K = 2 on 8-way tensor). Any other dimension that its axis
  does not divide is refused by name.
  """
  parts: list[Any] = []
  for size, logical in zip(param.shape, param.axes, strict=True):
    axis = table[logical]
    ways = math.prod(
      mesh.shape.get(a, 1) for a in ((axis,) if isinstance(axis, str) else axis or ())
    )
    if size % ways == 0:
      parts.append(axis if ways > 1 else None)
    elif param.of_groups or (logical == 'kv_heads' and ways % size == 0):
      parts.append(None)
    else:
      raise ValueError(
        f'{name}: dimension {logical!r} of {size} is not divisible by the {ways} ways of mesh axis '
        f'{axis!r}: choose a mesh whose {axis!r} divides it'
      )
  return PartitionSpec(*parts)


def shardings(
  config: config_lib.QwenConfig, mesh: Mesh | AbstractMesh, table: Table
) -> parameters.Params:
  """A `NamedSharding` for every parameter, in the structure of `parameters.describe(config)`."""
  return shardings_of(parameters.describe(config), mesh, table)


def shardings_of(described: dict, mesh: Mesh | AbstractMesh, table: Table) -> parameters.Params:
  """A `NamedSharding` for every parameter that is described."""

  def place(path, param):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    return NamedSharding(mesh, spec(name, param, table, mesh))

  return jax.tree_util.tree_map_with_path(place, described, is_leaf=parameters.is_param)


def abstract(
  config: config_lib.QwenConfig, mesh: Mesh | AbstractMesh | None, table: Table, dtype: Any
) -> parameters.Params:
  """Returns the parameters as shapes of one dtype, which say where they lie if there is a mesh."""
  return abstract_of(parameters.describe(config), mesh, table, dtype)


def abstract_of(
  described: dict, mesh: Mesh | AbstractMesh | None, table: Table, dtype: Any = None
) -> parameters.Params:
  """Returns what is described as `abstract` does; without a `dtype`, each in its own."""

  def one(param, where=None):
    return jax.ShapeDtypeStruct(param.shape, dtype or param.dtype, sharding=where)

  where = () if mesh is None else (shardings_of(described, mesh, table),)
  return jax.tree.map(one, described, *where, is_leaf=parameters.is_param)


def gather_layer(
  weights: Any, config: config_lib.QwenConfig, mesh: Mesh | AbstractMesh | None
) -> Any:
  """The weights of one layer in the compute dtype, whole along `fsdp`, as its products need them.

  The cast comes first, so half of the bytes travel. Backward, the gradient of a weight is cut along
  `fsdp` again at once (a reduce-scatter, in the compute dtype) and never whole in float32.
  """
  cast = jax.tree.map(
    lambda leaf: leaf if quantised.is_quantised(leaf) else leaf.astype(config.dtype),
    weights,
    is_leaf=quantised.is_quantised,
  )
  if mesh is None or mesh.size == 1:
    return cast
  described = parameters.describe(config)['layers']

  def gather(name, param, leaf):
    if lora.is_low_rank(leaf):
      parts = {'weight': param, **lora.pair(param, leaf.b.shape[0])}
    elif quantised.is_quantised(leaf):
      parts = vars(quantised.pair(param, leaf.q.dtype.name))
    if not isinstance(leaf, jax.Array):
      return leaf.replace(
        **{part: gather(f'{name}.{part}', one, getattr(leaf, part)) for part, one in parts.items()}
      )
    one = dataclasses.replace(param, shape=param.shape[1:], axes=param.axes[1:])
    cut, whole = (NamedSharding(mesh, spec(name, one, table, mesh)) for table in (TRAIN, DECODE))
    return _gather(leaf, whole, cut)

  return {name: gather(name, described[name], leaf) for name, leaf in cast.items()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(weight, whole: NamedSharding, cut: NamedSharding):
  return jax.lax.with_sharding_constraint(weight, whole)


def _gather_forward(weight, whole, cut):
  return _gather(weight, whole, cut), None


def _gather_backward(whole, cut, _, cotangent):
  return (jax.lax.with_sharding_constraint(cotangent, cut),)


_gather.defvjp(_gather_forward, _gather_backward)
