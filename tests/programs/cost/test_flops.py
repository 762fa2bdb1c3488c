"""Counted operations equal the formulas that one writes by hand."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from lwz.model import config, kv_cache, qwen, sharding
from lwz.model.attention import decode as decode_attention
from lwz.model.attention import splash as splash_attention
from lwz.programs.cost import flops
from tests import fakes

of = jax.ShapeDtypeStruct


def counted(fn, *args, **options):
  return flops.count(jax.make_jaxpr(fn)(*args), **options)


def test_a_product_counts_two_per_multiplication_and_sum():
  assert counted(jnp.matmul, of((2, 3), jnp.float32), of((3, 5), jnp.float32)) == 2 * 2 * 3 * 5
  batched = functools.partial(jnp.einsum, 'bik,bkj->bij')
  x, y = of((7, 2, 3), jnp.float32), of((7, 3, 5), jnp.float32)
  assert counted(batched, x, y) == 7 * 2 * 2 * 3 * 5


def test_a_loop_counts_its_body_as_often_as_it_runs():
  x = of((4, 4), jnp.float32)

  def scanned(x):
    return jax.lax.scan(lambda y, _: (y @ y, None), x, length=6)[0]

  def looped(x, n):
    return jax.lax.fori_loop(0, n, lambda _, y: y @ y, x)

  def bounded(x, n):
    go_on, step = lambda c: (c[0] < n) & (c[0] < 5), lambda c: (c[0] + 1, c[1] @ c[1])
    return jax.lax.while_loop(go_on, step, (0, x))

  one = 2 * 4**3
  assert counted(scanned, x) == 6 * one
  assert counted(bounded, x, of((), jnp.int32), max_trips=9) == 5 * one
  assert counted(looped, x, of((), jnp.int32), max_trips=9) == 9 * one
  # Backward: two products for each forward one; under remat the forward is done again.
  assert counted(jax.grad(lambda x: scanned(x).sum()), x) == 6 * 3 * one
  again = jax.grad(lambda x: jax.checkpoint(scanned)(x).sum())
  assert counted(again, x) == 6 * 4 * one


def test_a_branch_counts_its_dearest_side():
  x = of((4, 4), jnp.float32)

  def pick(p, x):
    return jax.lax.cond(p, lambda x: x @ x @ x, lambda x: x @ x, x)

  assert counted(pick, of((), jnp.bool_), x) == 2 * 2 * 4**3


def test_what_runs_on_every_shard_counts_on_each():
  mesh = sharding.make_mesh((1, 4, 2))
  body = jax.shard_map(
    jnp.matmul,
    mesh=mesh,
    in_specs=(PartitionSpec('fsdp'), PartitionSpec()),
    out_specs=PartitionSpec('fsdp'),
    check_vma=False,
  )
  x = of((8, 8), jnp.float32)
  # Rows are cut 4 ways; both tensor ways do the same rows.
  assert counted(body, x, x) == 2 * (2 * 8**3)


def test_the_forward_pass_of_the_model():
  c, B, T = config.preset('micro'), 2, 16
  D, F, L, V = c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.vocab_size
  H, K, C = c.num_attention_heads, c.num_key_value_heads, c.head_dim

  def logits(params, ids):
    return qwen.lm_head(params, qwen.forward(params, ids, c), c)

  weights = L * (D * C * (2 * H + 2 * K) + 3 * D * F) + D * V
  attention = L * 4 * H * T * T * C
  expected = 2 * B * T * weights + B * attention
  ids = of((B, T), jnp.int32)
  assert counted(logits, fakes.abstract(c), ids) == expected


def test_the_splash_kernel_counts_the_half_that_it_computes():
  B, T, H, K, C = 1, 1024, 4, 2, 128
  q, k = of((B, T, H, C), jnp.bfloat16), of((B, K, T, C), jnp.bfloat16)

  def attend(q, k, v):
    return splash_attention.attend(q, k, v, None, None, interpret=True)

  assert counted(attend, q, k, k) == 4 * B * H * T * T * C / 2

  def loss(*args):
    return attend(*args).astype(jnp.float32).sum()

  both = counted(jax.grad(loss, argnums=(0, 1, 2)), q, k, k)
  # Two products forward, five backward; a row sum is a product with ones, and adds little.
  assert 0 <= both / (14 * B * H * T * T * C / 2) - 1 < 1e-3


@pytest.mark.parametrize('backend', ['mosaic', 'triton'])
def test_a_kernel_counts_what_it_states_and_its_name_says_what_it_reads(backend):
  """Whose grid is known at run time only: every token that there is, of one layer."""
  L, B, K, G, C, S, T = 3, 4, 2, 6, 128, 256, 8
  past = kv_cache.CacheSegment(
    k=of((L, B, K, C, S), jnp.bfloat16), v=of((L, B, K, S, C), jnp.bfloat16)
  )
  q, new = of((B, 1, K * G, C), jnp.bfloat16), of((B, K, T, C), jnp.bfloat16)

  def attend(past, lengths, q, k, v):
    over = decode_attention.over((past,), lengths, backend=backend, read_length=S, dtype=q.dtype)
    return jax.lax.scan(lambda _, layer: (None, over(layer, q, k, v, 1)), None, jnp.arange(L))

  closed = jax.make_jaxpr(attend)(past, of((B,), jnp.int32), q, new, new)
  assert flops.count(closed) == L * 4 * B * K * G * C * S
  assert flops.kernels(closed) == {'decode_attention': 2 * 2 * B * K * C * S}
