"""Assembly of a leaf on its devices from tensors of safetensors files.

A stacked leaf is filled on the devices, layer by layer; of what is read, only one piece is on the
host at a time.
"""

import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lwz.store.hf import mapping, safetensors

PIECE = 1 << 26  # bytes of a tensor that are read at once


def assemble(
  parts: Sequence[tuple[mapping.Tensor, pathlib.Path]],
  wanted: jax.ShapeDtypeStruct,
  read: Callable[[], None],
) -> jax.Array:
  """Returns the leaf from its tensors and their files: one per layer, in order, if stacked.

  Each device reads the part it holds; without a sharding in `wanted`, the first local device all.
  `read` is called after every tensor.
  """
  shape, dtype = wanted.shape, wanted.dtype
  where = wanted.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  if parts[0][0].layer is None:
    ((tensor, file),) = parts
    leaf = _part(tensor, file, shape, dtype, where)
    read()
    return leaf
  zeros = jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=where)
  put = jax.jit(
    lambda leaf, layer, at: jax.lax.dynamic_update_index_in_dim(leaf, layer, at, 0),
    donate_argnums=0,
    out_shardings=where,
  )
  leaf = zeros()
  for at, (tensor, file) in enumerate(parts):
    layer = _part(tensor, file, shape[1:], dtype, _without_layers(where))
    leaf = jax.block_until_ready(put(leaf, layer, at))  # else the host runs ahead of the devices
    read()
  return leaf


def same(one: tuple[str, pathlib.Path], other: tuple[str, pathlib.Path], num_rows: int) -> bool:
  """Returns whether two tensors (name, file) of `num_rows` rows are equal, read in pieces."""
  for start in range(0, num_rows, 4_096):
    rows = slice(start, min(start + 4_096, num_rows))
    first, second = (_read(file, name, (rows, slice(None))) for name, file in (one, other))
    if not np.array_equal(first, second):
      return False
  return True


def _part(tensor, file, shape, dtype, where) -> jax.Array:
  held: dict[tuple, np.ndarray] = {}  # devices that hold the same part share one reading

  def part(index):
    key = tuple(dim.indices(size)[:2] for dim, size in zip(index, shape, strict=True))
    if key not in held:
      held[key] = _pieces(tensor, file, key, dtype)
    return held[key]

  return jax.make_array_from_callback(shape, where, part)


def _pieces(tensor, file, bounds, dtype) -> np.ndarray:
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
      block[tuple(inside)] = mapping.to_ours(
        tensor, lambda ranges: _read(file, tensor.name, ranges), tuple(index)
      )
  return block


def _read(file: pathlib.Path, name: str, ranges: tuple[slice, ...]) -> np.ndarray:
  # Opened for each piece: the pages of a mapped file that were read would count as ours till then.
  with safetensors.opened(file) as opened:
    return opened.get_slice(name)[ranges]


def _without_layers(where: jax.sharding.Sharding) -> jax.sharding.Sharding:
  if isinstance(where, jax.sharding.NamedSharding):
    return jax.sharding.NamedSharding(where.mesh, jax.sharding.PartitionSpec(*where.spec[1:]))
  return where
