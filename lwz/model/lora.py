"""Low-rank adapters (LoRA, arXiv 2106.09685): what is trained in place of the matrices of layers.

    y = x W + (alpha / rank) (x A) B        A: [in, rank],  B: [rank, out]

W is frozen. B starts at 0, so that training begins with the base itself. `join` puts both into one
tree, which `qwen.forward` takes as it takes any parameters: neither W + A B nor a gradient of W is
ever formed. `merged` forms the sum, for decoding and for whoever wants a model without adapters.
"""

import dataclasses
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lwz.model import config as config_lib
from lwz.model import parameters, quantised

# What a user names, and our leaf.
TARGETS = {
  **{name: f'w{name}' for name in 'qkvo'},
  **{name: f'w_{name}' for name in ('gate', 'up', 'down')},
}


@dataclasses.dataclass(frozen=True)
class LoRA:
  """Which matrices have adapters, of which rank, and how much they weigh."""

  rank: int
  alpha: float
  targets: tuple[str, ...] = tuple(TARGETS)
  frozen: str = 'float'  # what matrices of the base are kept in: one of `quantised.KINDS`

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  @property
  def leaves(self) -> tuple[str, ...]:
    return tuple(leaf for name, leaf in TARGETS.items() if name in self.targets)


@flax.struct.dataclass
class LowRank:
  """A matrix with its adapter, the weight + scale a b; as a leaf of the model, of all layers."""

  weight: Any  # [*in, *out], or a `quantised.Quantised`
  a: Any  # [*in, rank]
  b: Any  # [rank, *out]
  scale: float = flax.struct.field(pytree_node=False)


def is_low_rank(x: Any) -> bool:
  return isinstance(x, LowRank)


def is_special(x: Any) -> bool:
  """Returns whether a leaf of the model is no plain array."""
  return is_low_rank(x) or quantised.is_quantised(x)


def describe(config: config_lib.QwenConfig, lora: LoRA | None) -> dict:
  """Returns what is trained, as `parameters.describe` does: adapters and a scalar head, or all.

  >>> describe(config_lib.preset('32b'), LoRA(8, 16.0))['layers']['wq']['b'].shape
  (64, 8, 40, 128)
  """
  described = parameters.describe(config)
  if lora is None:
    return described
  adapters = {leaf: pair(described['layers'][leaf], lora.rank) for leaf in lora.leaves}
  return {name: described[name] for name in ('score',) if name in described} | {'layers': adapters}


def pair(param: parameters.Param, rank: int) -> dict[str, parameters.Param]:
  """Returns A and B of a matrix of the layers. They are sharded like what they adapt."""
  layer, (inner, outer) = (0,), parameters.dimensions(param)

  def of(dims: tuple[int, ...], at: int, init: str) -> parameters.Param:
    shape, axes = [param.shape[i] for i in dims], [param.axes[i] for i in dims]
    shape.insert(at, rank)
    axes.insert(at, 'rank')
    return parameters.Param(tuple(shape), tuple(axes), init, decay=True)

  return {'a': of(layer + inner, len(layer + inner), 'normal'), 'b': of(layer + outer, 1, 'zeros')}


def init(key: jax.Array, config: config_lib.QwenConfig, lora: LoRA) -> parameters.Params:
  """Returns adapters that change nothing yet: B is 0, A normal with a variance of 1 / (3 in).

  That is the variance of Kaiming's uniform distribution, which PEFT samples from: learning rates
  that are known for it hold here.
  """
  described = describe(config, lora)

  def scaled(a, param):
    size = math.prod(param.shape[1:-1])
    return a * (1 / (config.initializer_range * math.sqrt(3 * size)))

  params = parameters.init_of(key, config, described)
  for leaf, one in params['layers'].items():
    one['a'] = scaled(one['a'], described['layers'][leaf]['a'])
  return params


def join(trained: parameters.Params, *base: parameters.Params, lora: LoRA | None = None) -> Any:
  """Returns the model's parameters: what is trained, or with `lora`, the base with adapters."""
  if lora is None:
    return trained
  (whole,) = base
  layers = dict(whole['layers'])
  for leaf, one in trained['layers'].items():
    layers[leaf] = LowRank(layers[leaf], one['a'], one['b'], lora.scale)
  return {**whole, **trained, 'layers': layers}


def merged(params: Any, dtype: Any) -> parameters.Params:
  """Returns the parameters in `dtype`, each matrix with its adapter added to it in float32.

  Of stacked leaves one layer after the other, so that one matrix in float32 is held at a time.
  """

  def one(leaf):
    if quantised.is_quantised(leaf):
      return quantised.dequantised(leaf, dtype)
    if not is_low_rank(leaf):
      return leaf.astype(dtype)
    if leaf.a.ndim + leaf.b.ndim == leaf.weight.ndim + 2:
      return _sum(leaf, dtype)
    return jax.lax.map(lambda layer: _sum(layer, dtype), leaf)

  return jax.tree.map(one, params, is_leaf=is_special)


def decoded(params: Any, config: config_lib.QwenConfig, kind: str) -> parameters.Params:
  """Returns `merged` parameters with the matrices of layers in `kind`, one of `quantised.KINDS`.

  Each is rounded once, from float32, and of stacked layers one layer after the other.
  """
  if kind == 'float':
    return merged(params, config.dtype)
  described = parameters.describe(config)['layers']

  def layer(leaves):
    found = merged(leaves, jnp.float32)
    return {
      name: quantised.of_layer(x, described[name], kind)
      if parameters.is_matrix(described[name])
      else x.astype(config.dtype)
      for name, x in found.items()
    }

  layers, rest = params['layers'], {n: x for n, x in params.items() if n != 'layers'}
  each = tuple(map(layer, layers)) if isinstance(layers, tuple) else jax.lax.map(layer, layers)
  return {**merged(rest, config.dtype), 'layers': each}


def _sum(leaf: LowRank, dtype: Any) -> jax.Array:
  weight = leaf.weight
  if quantised.is_quantised(weight):
    weight = quantised.dequantised(weight, jnp.float32)
  a, b = leaf.a.astype(jnp.float32), leaf.b.astype(jnp.float32)
  product = jnp.tensordot(a, b, 1, precision=jax.lax.Precision.HIGHEST)
  return (weight.astype(jnp.float32) + leaf.scale * product).astype(dtype)
