"""Chunked log-probabilities equal the dense ones, with their gradients, in a part of the memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util
from jax.sharding import NamedSharding, PartitionSpec

from lwz.learn import logprob
from lwz.model import sharding

B, T, D, V = 2, 5, 4, 11

token_logprob = jax.jit(logprob.token_logprob, static_argnames=('temperature', 'chunk'))


def case(seed=0):
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(B, T, D)).astype(np.float32)
  head = rng.normal(size=(D, V)).astype(np.float32)
  return hidden, head, rng.integers(0, V, (B, T)).astype(np.int32)


def dense(hidden, head, targets, temperature):
  """The definition, with the logits of every token at once."""
  logp_all = jax.nn.log_softmax(jnp.einsum('btd,dv->btv', hidden, head) / temperature)
  logp = jnp.take_along_axis(logp_all, targets[..., None], axis=-1)[..., 0]
  return logp, -jnp.sum(jnp.exp(logp_all) * logp_all, axis=-1)


# Chunks of one token, that divide 10 tokens and that do not, of all, and larger than all.
@pytest.mark.parametrize(
  ('chunk', 'temperature'), [(1, 0.7), (3, 0.3), (5, 1), (7, 2.5), (10, 0.7), (64, 1.0)]
)
def test_chunked_is_dense_in_values_and_gradients(chunk, temperature):
  args = case()
  mix = np.random.default_rng(1).normal(size=(2, B, T)).astype(np.float32)

  def evaluate(function):
    def loss(hidden, head, targets):
      logp, entropy = function(hidden, head, targets)
      return jnp.sum(mix[0] * logp) + jnp.sum(mix[1] * entropy), (logp, entropy)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(*args)

  chunked = functools.partial(logprob.token_logprob, temperature=temperature, chunk=chunk)
  actual = evaluate(chunked)
  expected = evaluate(functools.partial(dense, temperature=temperature))
  assert all(x.dtype == jnp.float32 and x.shape == (B, T) for x in actual[1])
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), actual, expected
  )


def test_by_hand():
  # Logits log 1, log 2, log 5: probabilities 1/8, 2/8, 5/8.
  hidden, head = jnp.ones((1, 1, 1)), jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
  logp, entropy = logprob.token_logprob(hidden, head, jnp.array([[2]]), temperature=1.0, chunk=1)
  shares = np.array([1, 2, 5]) / 8
  np.testing.assert_allclose(logp, np.log(5 / 8), rtol=1e-6)
  np.testing.assert_allclose(entropy, -(shares * np.log(shares)).sum(), rtol=1e-6)
  # At temperature 1/2 the odds are squared: 1, 4, 25 of 30.
  logp, _ = logprob.token_logprob(hidden, head, jnp.array([[2]]), temperature=0.5, chunk=1)
  np.testing.assert_allclose(logp, np.log(25 / 30), rtol=1e-6)


def test_the_probabilities_of_all_tokens_sum_to_one():
  hidden, head, _ = case()
  total = 0.0
  for token in range(V):
    targets = np.full((B, T), token, np.int32)
    total += np.exp(token_logprob(hidden, head, targets, temperature=0.9, chunk=4)[0])
  np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_entropy_is_between_zero_and_that_of_the_uniform():
  hidden, head, targets = case()
  _, uniform = token_logprob(hidden, 0 * head, targets, temperature=1.0, chunk=4)
  np.testing.assert_allclose(uniform, np.log(V), rtol=1e-6)
  _, sharp = token_logprob(hidden, head, targets, temperature=1e-3, chunk=4)
  np.testing.assert_allclose(sharp, 0, atol=1e-3)  # logits of some 1000, rounded at 1e-4


def test_large_logits_stay_finite():
  hidden, head, targets = case()

  def loss(hidden):
    logp, entropy = token_logprob(1e4 * hidden, head, targets, temperature=1.0, chunk=4)
    return jnp.sum(logp) + jnp.sum(entropy)

  value, gradient = jax.value_and_grad(loss)(hidden)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_targets_of_padding_may_be_anything_and_touch_no_other_token():
  hidden, head, targets = case()
  mask = np.arange(T)[None, :] < np.array([[3], [5]])

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1))
  def loss(hidden, head, targets):
    logp, entropy = logprob.token_logprob(hidden, head, targets, temperature=1.0, chunk=4)
    return jnp.sum(jnp.where(mask, logp, 0.0)) + jnp.sum(jnp.where(mask, entropy, 0.0))

  expected = loss(hidden, head, targets)
  for junk in (-100, -1, V, 2**31 - 1):
    actual = loss(hidden, head, np.where(mask, targets, np.int32(junk)))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_bfloat16_states_give_float32_probabilities():
  hidden, head, targets = case()
  halves = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(head, jnp.bfloat16)
  actual = token_logprob(*halves, targets, temperature=1.0, chunk=4)
  singles = (x.astype(jnp.float32) for x in halves)
  expected = token_logprob(*singles, targets, temperature=1.0, chunk=4)
  for x, y in zip(actual, expected, strict=True):
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_a_head_of_another_precision_gets_a_gradient_of_its_own():
  hidden, head, targets = case()

  @functools.partial(jax.grad, argnums=(0, 1))
  def gradient(hidden, head):
    return jnp.sum(token_logprob(hidden, head, targets, temperature=1.0, chunk=4)[0])

  dhidden, dhead = gradient(jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(head))
  assert (dhidden.dtype, dhead.dtype) == (jnp.bfloat16, jnp.float32)
  expected = gradient(jnp.asarray(hidden), jnp.asarray(head))
  np.testing.assert_allclose(dhead, expected[1], rtol=0.02, atol=0.02 * np.abs(expected[1]).max())


def test_the_gradients_agree_with_finite_differences():
  hidden, head, targets = case(3)
  mix = np.random.default_rng(4).normal(size=(2, B, T)).astype(np.float32)

  def loss(hidden, head):
    logp, entropy = token_logprob(hidden, head, targets, temperature=1.3, chunk=4)
    return jnp.sum(mix[0] * logp) + jnp.sum(mix[1] * entropy)

  test_util.check_grads(
    loss, (hidden, head), order=1, modes=('rev',), eps=1e-2, rtol=1e-2, atol=1e-2
  )


def test_logits_are_computed_once_forward_and_once_more_backward():
  def value(hidden, head, targets):
    return jnp.sum(logprob.token_logprob(hidden, head, targets, temperature=1.0, chunk=4)[0])

  products = [
    str(jax.make_jaxpr(function)(*case())).count('dot_general')
    for function in (value, jax.grad(value, argnums=(0, 1)))
  ]
  assert products == [1, 4]  # logits; logits, again, and the two gradients


MESHES = [(2, 2, 2, 1), (1, 2, 2, 2), (1, 1, 8, 1), (2, 1, 1, 4)]


def on_mesh(shape, num_rows, num_tokens, temperature=0.7):
  """(function, its arguments laid out, the plain ones), with gradients, of a vocabulary of 48."""
  rng = np.random.default_rng(7)
  mesh = sharding.make_mesh(shape)
  plain = (
    rng.normal(size=(num_rows, num_tokens, 8)).astype(np.float32),
    rng.normal(size=(8, 48)).astype(np.float32),
    rng.integers(0, 48, (num_rows, num_tokens)).astype(np.int32),
  )
  mix = rng.normal(size=(2, num_rows, num_tokens)).astype(np.float32)

  def evaluate(mesh, hidden, head, targets):
    def loss(hidden, head):
      results = logprob.token_logprob(
        hidden, head, targets, temperature=temperature, chunk=3, mesh=mesh
      )
      return jnp.sum(mix[0] * results[0]) + jnp.sum(mix[1] * results[1]), results

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(hidden, head)

  head = NamedSharding(mesh, PartitionSpec('fsdp', 'tensor'))
  laid = plain[0], jax.device_put(plain[1], head), plain[2]
  return functools.partial(evaluate, mesh), laid, functools.partial(evaluate, None), plain


@pytest.mark.parametrize('shape', MESHES, ids=str)
@pytest.mark.parametrize('tokens', [(4, 8), (3, 5)], ids=['cut', 'whole'])
def test_on_a_mesh_it_is_what_it_is_on_one_device(shape, tokens):
  function, laid, plain_function, plain = on_mesh(shape, *tokens)
  actual, expected = jax.jit(function)(*laid), jax.jit(plain_function)(*plain)

  def close(x, y):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * np.abs(y).max())

  jax.tree.map(close, actual, expected)


def test_no_device_ever_holds_the_whole_vocabulary():
  function, laid, *_ = on_mesh((1, 2, 4, 1), 4, 8)
  text = jax.jit(function).lower(*laid).compile().as_text()
  assert 'all-reduce' in text and 'all-gather' in text
  assert '48' not in {
    size for sizes in re.findall(r'[a-z]\d+\[([\d,]+)\]', text) for size in sizes.split(',')
  }


def test_a_vocabulary_that_the_mesh_does_not_divide_is_refused():
  hidden, head, targets = case()
  with pytest.raises(ValueError, match='a head of 4 x 11 is not divisible by a mesh of fsdp=1 and'):
    mesh = sharding.make_mesh((4, 1, 2))
    logprob.token_logprob(hidden, head, targets, temperature=1.0, chunk=4, mesh=mesh)


def temporary_bytes(num_tokens, chunk, width=8, vocabulary=4096):
  """What the compiled gradient holds besides its arguments and results."""

  def loss(hidden, head, targets):
    logp, entropy = logprob.token_logprob(hidden, head, targets, temperature=1.0, chunk=chunk)
    return jnp.sum(logp) + jnp.sum(entropy)

  args = (
    jax.ShapeDtypeStruct((1, num_tokens, width), jnp.float32),
    jax.ShapeDtypeStruct((width, vocabulary), jnp.float32),
    jax.ShapeDtypeStruct((1, num_tokens), jnp.int32),
  )
  compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*args).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_memory_of_the_gradient_grows_with_the_chunk_and_not_with_the_batch():
  chunk, logits = 64, 64 * 4096 * 4  # bytes of the logits of one chunk
  few, many = temporary_bytes(4 * chunk, chunk), temporary_bytes(64 * chunk, chunk)
  # Of 60 chunks more there are states, targets and results, never logits.
  assert many - few < logits
  assert many < 6 * logits
  assert temporary_bytes(64 * chunk, 4 * chunk) - many > logits


@pytest.mark.parametrize('temperature', [0, 0.0, -1.0, float('nan')])
def test_a_temperature_that_defines_no_distribution_is_refused(temperature):
  with pytest.raises(ValueError, match='temperature='):
    logprob.token_logprob(*case(), temperature=temperature, chunk=4)


@pytest.mark.parametrize('chunk', [0, -1])
def test_a_chunk_without_tokens_is_refused(chunk):
  with pytest.raises(ValueError, match='chunk='):
    logprob.token_logprob(*case(), temperature=1.0, chunk=chunk)
