"""Sharding of activations: the mesh axes of each of their dimensions.

Rows are sharded over data and fsdp; inside a block heads, feed-forward and vocabulary over tensor.
Between blocks, where nothing mixes tokens, the time dimension takes tensor instead (sequence
parallelism, arXiv 2205.05198), so that residuals of the backward pass are sharded over all axes.
"""

import math

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

LAYOUT: dict[str | None, tuple[str, ...]] = {
  None: (),
  'rows': ('data', 'fsdp'),
  'time': ('context',),
  'residual': ('context', 'tensor'),  # time, between blocks
  'heads': ('tensor',),
  'kv_heads': ('tensor',),
  'mlp': ('tensor',),
  'vocab': ('tensor',),
}


def spec(
  mesh: Mesh | AbstractMesh, shape: tuple[int, ...], logical: tuple[str | None, ...]
) -> PartitionSpec:
  """The axes of each dimension; replicated if they do not divide it (T = 1 in decoding)."""
  parts: list[tuple[str, ...] | None] = []
  for size, name in zip(shape, logical, strict=True):
    axes = tuple(axis for axis in LAYOUT[name] if mesh.shape[axis] > 1)
    fits = axes and size % math.prod(mesh.shape[axis] for axis in axes) == 0
    parts.append(axes if fits else None)
  return PartitionSpec(*parts)


def constrain(x: jax.Array, mesh: Mesh | AbstractMesh | None, *logical: str | None) -> jax.Array:
  """Constrains the sharding of `x` by the names of its dimensions; without a mesh, returns `x`.

  `constrain(x_BTD, mesh, 'rows', 'residual', None)` names the dimensions B, T and D.
  """
  if mesh is None:
    return x
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(mesh, x.shape, logical)))
