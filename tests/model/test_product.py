"""Products of tokens with weight matrices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from lwz.model import product


def test_products_in_bfloat16_are_added_up_in_float32_and_rounded_once():
  shapes = (2, 64, 3, 16), (3, 16, 32), (2, 64, 32)
  x_BTHC, w_HCD, dy_BTD = (
    jax.random.normal(jax.random.key(i), shape, jnp.bfloat16) for i, shape in enumerate(shapes)
  )
  y_BTD, pull = jax.vjp(lambda x, w: product.product(x, w, None), x_BTHC, w_HCD)
  exact = functools.partial(jnp.einsum, precision='highest')
  x, w, dy = (array.astype(jnp.float32) for array in (x_BTHC, w_HCD, dy_BTD))
  wanted = (
    exact('bthc,hcd->btd', x, w),
    exact('btd,hcd->bthc', dy, w),
    exact('bthc,btd->hcd', x, dy),
  )
  for found, value in zip((y_BTD, *pull(dy_BTD)), wanted, strict=True):
    assert found.dtype == jnp.bfloat16 and found.shape == value.shape
    # 2^-8 is half of the last bit; a sum in bfloat16 loses ten times as much.
    np.testing.assert_allclose(found.astype(jnp.float32), value, rtol=2**-7.99, atol=1e-4)


def test_products_in_bfloat16_take_a_cpus_fast_path():
  """Factors in bfloat16 and a result in float32, forward and backward; others are slow."""
  x, w = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((2, 64, 16), (16, 32)))
  grad = jax.grad(lambda x, w: jnp.sum(product.product(x, w, None) ** 2), argnums=(0, 1))
  text = jax.jit(grad).lower(x, w).as_text()
  types = re.findall(r'dot_general.*: \((\S+), (\S+)\) -> (\S+)', text)
  assert len(types) == 3
  assert all('xbf16' in a and 'xbf16' in b and 'xf32' in y for a, b, y in types)
