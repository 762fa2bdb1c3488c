"""Quantised weights: matrices of the layers in int8 or int4, frozen, or while text is written.

    W = scale q          int8: one scale per output channel, max |W| / 127
                         int4: one per output channel and group of 64 inputs

Rounded to the nearest, without an offset. In int8 the error of a weight is at most half of its
scale. With the 16 values of int4 it pays to cut the largest weights off: of scales between 0.6 and
1 times the one that cuts nothing, a group takes that of the least squared error. The largest weight
may be the -8, of which there is no positive, so that scales have signs. Norms, biases, embeddings
and heads stay what they are. A matrix of n weights and m outputs takes

    int8: n + 4 m bytes          int4: n / 2 + 4 n / 64 = 0.5625 n bytes

(float32 has 4 n, bfloat16 2 n). Groups lie along the last input dimension; where 64 does not divide
it, they have the size of its largest divisor below 64. A product makes W in the compute dtype and
forgets it, backward as well: see `product`.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lwz.model import parameters

KINDS = ('float', 'int8', 'int4')  # 'float': as they are, in the compute dtype
_GROUP = 64
_CUTS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)  # int4: scales tried, of the one that cuts nothing


@flax.struct.dataclass
class Quantised:
  """A matrix, the weight q * scale; as a leaf of the model, of all layers."""

  q: Any  # [*in, *out]
  scale: Any  # as many dimensions, those of the inputs 1; of groups, the last input's shorter

  @property
  def ndim(self) -> int:
    return self.q.ndim

  @property
  def sharding(self) -> Any:
    return self.q.sharding


def is_quantised(x: Any) -> bool:
  return isinstance(x, Quantised)


def describe(described: dict, kind: str, dtype: Any) -> dict:
  """Returns parameters as they are frozen: matrices in `kind`, the rest in `dtype`."""

  def one(param):
    if kind != 'float' and parameters.is_matrix(param):
      return pair(param, kind)
    return dataclasses.replace(param, dtype=dtype)

  return jax.tree.map(one, described, is_leaf=parameters.is_param)


def pair(param: parameters.Param, kind: str) -> Quantised:
  """Returns the two parts of a matrix of the layers, sharded as the matrix is."""
  (*others, last), _ = parameters.dimensions(param)
  shape = list(param.shape)
  if kind == 'int4':
    shape[last] //= group_size(shape[last])
  else:
    for dimension in (*others, last):
      shape[dimension] = 1
  scale = dataclasses.replace(param, shape=tuple(shape), dtype=jnp.float32, of_groups=True)
  return Quantised(dataclasses.replace(param, dtype=jnp.dtype(kind)), scale)


def group_size(size: int) -> int:
  """Returns the number of inputs that share a scale, of a dimension of `size`."""
  return max(n for n in range(1, min(_GROUP, size) + 1) if size % n == 0)


def quantise(weight: jax.Array, param: parameters.Param, kind: str) -> Quantised:
  """Returns a matrix of all layers, one layer after the other so that one is held in float32."""
  return jax.lax.map(functools.partial(of_layer, param=param, kind=kind), weight)


def of_layer(weight: jax.Array, param: parameters.Param, kind: str) -> Quantised:
  """Returns a matrix of one layer; `param` describes that of all layers."""
  wanted = pair(param, kind).scale
  split, groups = _split(weight.shape, wanted.shape[1:])
  w = weight.astype(jnp.float32).reshape(split)
  within = tuple(i for i, n in enumerate(groups) if n != split[i])
  largest = jnp.max(jnp.abs(w), axis=within, keepdims=True)
  if kind == 'int4':
    scale = _least_error(w, jnp.where(largest > 0, largest, 1.0), within)
  else:
    scale = jnp.where(largest > 0, largest / 127, 1.0)
  q = _rounded(w, scale, kind).astype(kind)
  return Quantised(q.reshape(weight.shape), scale.reshape(wanted.shape[1:]))


def _rounded(w: jax.Array, scale: jax.Array, kind: str) -> jax.Array:
  info = jnp.iinfo(kind)
  return jnp.clip(jnp.round(w / scale), info.min, info.max)


def _least_error(w: jax.Array, largest: jax.Array, within: tuple[int, ...]) -> jax.Array:
  """Returns, of the scales tried for int4, that of the least squared error in each group."""
  sign = jnp.where(jnp.max(w, axis=within, keepdims=True) == largest, -1.0, 1.0)
  tried = jnp.array([(cut / 7, cut / 8) for cut in _CUTS], jnp.float32)

  def better(best, cut):
    for scale in (cut[0] * largest, sign * cut[1] * largest):
      error = w - _rounded(w, scale, 'int4') * scale
      error = jnp.sum(jnp.square(error), axis=within, keepdims=True)
      best = jax.tree.map(functools.partial(jnp.where, error < best[1]), (scale, error), best)
    return best, None

  start = largest, jnp.full_like(largest, jnp.inf)
  return jax.lax.scan(better, start, tried)[0][0]


def dequantised(leaf: Quantised, dtype: Any) -> jax.Array:
  """Returns q * scale, the product in float32, in `dtype`."""
  split, groups = _split(leaf.q.shape, leaf.scale.shape)
  w = leaf.q.astype(jnp.float32).reshape(split) * leaf.scale.reshape(groups)
  return w.reshape(leaf.q.shape).astype(dtype)


def _split(shape: tuple[int, ...], scales: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
  """Returns both shapes with the dimension of the groups, if there is one, as (groups, members).

  >>> _split((128, 3), (2, 3))
  ((2, 64, 3), (2, 1, 3))
  """
  cut = [i for i, (n, m) in enumerate(zip(shape, scales, strict=True)) if 1 < m < n]
  if not cut:
    return shape, scales
  (i,) = cut
  split = (*shape[:i], scales[i], shape[i] // scales[i], *shape[i + 1 :])
  return split, (*scales[: i + 1], 1, *scales[i + 1 :])
