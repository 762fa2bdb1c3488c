"""Products of tokens with weights, as each platform and each kind of leaf has them fast."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from lwz.model import lora, quantised, transposed
from lwz.model.attention import packed as packed_attention


def product(x: Any, weight: Any, mesh: Mesh | AbstractMesh | None) -> jax.Array:
  """x [B, T, ...] times a weight, contracted over all dimensions of x but B and T.

  On one CPU as a product of two matrices: the gradient of the weight then contracts one dimension,
  read in place. To contract B and T separately, a CPU first writes both factors transposed, a
  quarter of the time of an update. A TPU copies more that way, and a mesh shards B and T apart.
  """
  if lora.is_low_rank(weight):
    low = product(product(x, weight.a, mesh), weight.b, mesh)
    return product(x, weight.weight, mesh) + weight.scale * low
  if quantised.is_quantised(weight):
    if weight.q.dtype == jnp.int8 and x.shape[1] == 1:
      return _scaled_product(x, weight, mesh)
    return jax.checkpoint(functools.partial(_dequantised_product, mesh=mesh))(x, weight)
  num_inner = x.ndim - 2
  if transposed.is_transposed(weight):
    y = transposed.product(x.reshape(math.prod(x.shape[:2]), -1), weight.weight_FD)
    return y.astype(x.dtype).reshape(*x.shape[:2], *weight.outer)
  one = mesh is None or mesh.size == 1
  if not one or packed_attention.platform_of(mesh) != 'cpu':
    return jnp.tensordot(x, weight, num_inner)
  shape, size = x.shape[:2], math.prod(weight.shape[:num_inner])
  x, num_outer = x.reshape(-1, size), weight.shape[num_inner:]
  multiply = _short_product if x.dtype == jnp.bfloat16 else jnp.matmul
  return multiply(x, weight.reshape(size, -1)).reshape(*shape, *num_outer)


def _dequantised_product(x, weight, mesh):
  """A product whose backward pass makes the matrix again: kept, it would be of all layers."""
  return product(x, quantised.dequantised(weight, x.dtype), mesh)


def _scaled_product(x, weight, mesh):
  """(x q) scale, a step of decoding by int8: a GPU converts q where it reads it.

  A matrix that is scaled first it writes out and reads again, five bytes of a weight in place of
  one.
  """
  y = product(x, weight.q.astype(x.dtype), mesh).astype(jnp.float32)
  return (y * weight.scale.reshape(1, 1, *y.shape[2:])).astype(x.dtype)


@jax.custom_vjp
def _short_product(x_ND, w_DF):
  """x w in bfloat16, as XLA:CPU multiplies fast: into float32, rounded then, here and backwards.

  Asked for a result in bfloat16, it multiplies in float32, five times slower where there is AMX.
  `train.remat='dots'` computes it again: a stack of bfloat16 over the layers is slower to keep.
  """
  return jnp.matmul(x_ND, w_DF, preferred_element_type=jnp.float32).astype(x_ND.dtype)


def _short_product_forward(x_ND, w_DF):
  return _short_product(x_ND, w_DF), (x_ND, w_DF)


def _short_product_backward(saved, dy_NF):
  x_ND, w_DF = saved
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  dx_ND = product('nf,df->nd', dy_NF, w_DF)
  # With a second dimension to contract XLA transposes x first, which the fast product needs.
  dw_DF = product('bnd,bnf->df', x_ND[None], dy_NF[None])
  return dx_ND.astype(x_ND.dtype), dw_DF.astype(w_DF.dtype)


_short_product.defvjp(_short_product_forward, _short_product_backward)
