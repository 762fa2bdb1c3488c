"""Chunked log-probabilities equal the dense ones, with their gradients, in a part of the memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.learn import logprob

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
