"""Matrices kept as [out, in], as a CPU reads them fast where few tokens meet them.

XLA:CPU packs the second factor of such a product into the tiles of its matrix unit, then
multiplies. In a step of decoding that factor was the weight, and packing it took most of the step.
Here it is the tokens:

    y^T = W^T x^T        W^T: [out, in], read in place        x^T: [in, tokens], packed

One token meets them in a loop that converts each weight to float32 where it is read: a step reads
the bytes that they have. For more tokens a matrix in int8 is written as one in the compute dtype,
which XLA:CPU does once, before the steps of a block: int8 then saves nothing.
"""

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.experimental import layout
from jaxtyping import Array, Float

from lwz.model import config as config_lib
from lwz.model import parameters, quantised

_ROW_MAJOR = layout.Layout(major_to_minor=(0, 1))


@flax.struct.dataclass
class Transposed:
  """A matrix [in, out] as its transpose; `outer` are its output dimensions."""

  weight_FD: Any  # or `Quantised` in int8; None of a head that is the embedding, [V, D], itself
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
    whole = x.q if quantised.is_quantised(x) else x
    weight_FD = whole.reshape(math.prod(whole.shape[: len(inner)]), -1).T
    if quantised.is_quantised(x):
      weight_FD = quantised.Quantised(weight_FD, x.scale.reshape(-1))
    return Transposed(weight_FD, whole.shape[-len(outer) :])

  layers = tuple({k: one(x, dimensions[k]) for k, x in layer.items()} for layer in params['layers'])
  head = Transposed(params['head'].T if 'head' in params else None, params['embed'].shape[:1])
  return {**params, 'layers': layers, 'head': head}


def product(x_ND: Float[Array, 'N D'], weight_FD: Any) -> Float[Array, 'N F']:
  """x W in float32, where W^T is given, [F, D], or in int8 its q and the scale of each output.

  The layouts are stated, since XLA would otherwise merge the transposes into the product.
  """
  if quantised.is_quantised(weight_FD):
    return product(x_ND, weight_FD.q) * weight_FD.scale[None, :]
  if x_ND.shape[0] == 1:
    # Tied to the token, or XLA would convert all weights before the loop over steps, and read that.
    x_ND, weight_FD = jax.lax.optimization_barrier((x_ND, weight_FD))
    return jnp.matmul(x_ND.astype(jnp.float32), weight_FD.astype(jnp.float32).T)
  x_DN = layout.with_layout_constraint(x_ND.T, _ROW_MAJOR)
  y_FN = jnp.matmul(weight_FD.astype(x_ND.dtype), x_DN, preferred_element_type=jnp.float32)
  return layout.with_layout_constraint(y_FN, _ROW_MAJOR).T
