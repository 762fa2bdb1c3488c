"""Assembly of parameters on their devices from the tensors of files.

A stacked leaf is filled on the devices, layer by layer; of what is read, only one piece is on the
host at a time.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from lwz.model import config as config_lib
from lwz.model import qwen, sharding
from lwz.store.hf import mapping

PIECE = 1 << 26  # bytes of a tensor that are read at once


Read = Callable[[tuple[slice, ...]], np.ndarray]  # a range of a tensor, one slice per dimension


def load(
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh | None,
  dtype: np.dtype,
  reads: Mapping[str, Read],
  progress: Callable[[int, int], None] | None = None,
) -> tuple[config_lib.QwenConfig, qwen.Params]:
  """The parameters, laid over `mesh` by `sharding.TRAIN`, and their configuration in this dtype.

  `reads` has every tensor of `mapping.tensors`, by its name.
  """
  counted = itertools.count(1)

  def read():
    if progress is not None:
      progress(next(counted), len(wanted))

  wanted = mapping.tensors(config)
  leaves = {}
  for name, leaf in mapping.flatten(sharding.abstract(config, mesh, sharding.TRAIN, dtype)).items():
    parts = [(tensor, reads[tensor.name]) for tensor in wanted if tensor.leaf == name]
    leaves[name] = assemble(parts, leaf, read)
  params = flax.traverse_util.unflatten_dict(leaves, sep='.')
  return dataclasses.replace(config, dtype=dtype), params


def assemble(
  parts: Sequence[tuple[mapping.Tensor, Read]],
  wanted: jax.ShapeDtypeStruct,
  read: Callable[[], None],
) -> jax.Array:
  """Returns the leaf from its tensors: one per layer, in order, if stacked.

  Each device reads the part it holds; without a sharding in `wanted`, the first local device all.
  `read` is called after every tensor.
  """
  shape, dtype = wanted.shape, wanted.dtype
  where = wanted.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  if parts[0][0].layer is None:
    ((tensor, of),) = parts
    leaf = _part(shape, where, lambda bounds: _pieces(tensor, of, bounds, dtype))
    read()
    return leaf
  if math.prod(shape) * dtype.itemsize <= PIECE:  # it is one piece itself: nothing is compiled

    def stacked(bounds):
      layers = parts[slice(*bounds[0])]
      return np.stack([_pieces(tensor, of, bounds[1:], dtype) for tensor, of in layers])

    leaf = _part(shape, where, stacked)
    for _ in parts:
      read()
    return leaf
  zeros = jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=where)
  put = jax.jit(
    lambda leaf, layer, at: jax.lax.dynamic_update_index_in_dim(leaf, layer, at, 0),
    donate_argnums=0,
    out_shardings=where,
  )
  leaf = zeros()
  for at, (tensor, of) in enumerate(parts):
    pieces = functools.partial(_pieces, tensor, of, dtype=dtype)
    layer = _part(shape[1:], _without_layers(where), pieces)
    leaf = jax.block_until_ready(put(leaf, layer, at))  # else the host runs ahead of the devices
    del layer  # else it is held while the next one is read
    read()
  return leaf


def same(one: Read, other: Read, num_rows: int) -> bool:
  """Returns whether two tensors of `num_rows` rows are equal, read in pieces."""
  for start in range(0, num_rows, 4_096):
    rows = slice(start, min(start + 4_096, num_rows))
    first, second = (read((rows, slice(None))) for read in (one, other))
    if not np.array_equal(first, second):
      return False
  return True


def _part(shape, where, pieces: Callable[[tuple], np.ndarray]) -> jax.Array:
  held: dict[tuple, np.ndarray] = {}  # devices that hold the same part share one reading

  def part(index):
    key = tuple(dim.indices(size)[:2] for dim, size in zip(index, shape, strict=True))
    if key not in held:
      held[key] = pieces(key)
    return held[key]

  return jax.make_array_from_callback(shape, where, part)


def _pieces(tensor, read: Read, bounds, dtype) -> np.ndarray:
  """The part of a tensor between `bounds` of our dimensions, read along its own first one."""
  block = np.empty([stop - start for start, stop in bounds], dtype)
  along = next(group[0] for group in tensor.groups if group)
  start, stop = bounds[along]
  step = max(1, PIECE * (stop - start) // max(1, block.nbytes))
  for low in range(start, stop, step):
    index = [slice(*bound) for bound in bounds]
    index[along] = slice(low, min(low + step, stop))
    inside = [slice(None)] * len(bounds)
    inside[along] = slice(low - start, index[along].stop - start)
    with np.errstate(over='ignore'):  # what is infinite then is refused by `model_source.params`
      block[tuple(inside)] = mapping.to_ours(tensor, read, tuple(index))
  return block


def _without_layers(where: jax.sharding.Sharding) -> jax.sharding.Sharding:
  if isinstance(where, jax.sharding.NamedSharding):
    return jax.sharding.NamedSharding(where.mesh, jax.sharding.PartitionSpec(*where.spec[1:]))
  return where
