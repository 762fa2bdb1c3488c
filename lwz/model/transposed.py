"""Matrices kept as [out, in], as a CPU reads them fast in bfloat16 where few tokens meet them.

XLA:CPU packs the second factor of such a product into the tiles of its matrix unit, then
multiplies. In a step of decoding that factor was the weight, and packing it took most of the step.
Here it is the tokens:

    y^T = W^T x^T        W^T: [out, in], read in place        x^T: [in, tokens], packed
"""

import math
from typing import Any

import flax.struct
import jax.numpy as jnp
from jax.experimental import layout
from jaxtyping import Array, Float

from lwz.model import config as config_lib
from lwz.model import parameters

_FEWEST = 2  # tokens; with one, XLA does not take the matrix unit, and is ten times slower
_ROW_MAJOR = layout.Layout(major_to_minor=(0, 1))


@flax.struct.dataclass
class Transposed:
  """A matrix [in, out] as its transpose; `outer` are its output dimensions."""

  weight_FD: Any  # None of a head that is the embedding, [V, D], itself
  outer: tuple[int, ...] = flax.struct.field(pytree_node=False)


def is_transposed(x: Any) -> bool:
  return isinstance(x, Transposed)


def of(params: parameters.Params, config: config_lib.QwenConfig) -> parameters.Params:
  """Returns the parameters, unstacked, with the matrices of layers and the head transposed."""
  dimensions = parameters.matrices(parameters.describe(config))['layers']

  def one(x, dims):
    if dims is None:
      return x
    inner, outer = dims
    size = math.prod(x.shape[: len(inner)])
    return Transposed(x.reshape(size, -1).T, x.shape[-len(outer) :])

  layers = tuple({k: one(x, dimensions[k]) for k, x in layer.items()} for layer in params['layers'])
  head = Transposed(params['head'].T if 'head' in params else None, params['embed'].shape[:1])
  return {**params, 'layers': layers, 'head': head}


def product(x_ND: Float[Array, 'N D'], weight_FD: Float[Array, 'F D']) -> Float[Array, 'N F']:
  """x W in float32, where W^T is given.

  The layouts are stated, since XLA would otherwise merge the transposes into the product.
  """
  N = x_ND.shape[0]
  x_ND = jnp.pad(x_ND, ((0, max(0, _FEWEST - N)), (0, 0)))
  x_DN = layout.with_layout_constraint(x_ND.T, _ROW_MAJOR)
  y_FN = jnp.matmul(weight_FD, x_DN, preferred_element_type=jnp.float32)
  return layout.with_layout_constraint(y_FN, _ROW_MAJOR).T[:N]
