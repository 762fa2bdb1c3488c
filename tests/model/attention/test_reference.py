"""Rotation, masks and attention, each against its definition written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model.attention import reference as reference_attention


def phases(positions, head_dim, theta):
  """position * theta^(-2i/C) in float64."""
  inv_freq = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
  return np.asarray(positions, np.float64)[..., None] * inv_freq


@pytest.mark.parametrize('theta, head_dim', [(1e6, 128), (1e6, 64), (1e4, 32)])
def test_phases_hold_at_position_15000(theta, head_dim):
  positions = np.array([[0, 1, 255, 256, 257, 15_000]])
  cos, sin = reference_attention.rope_phases(jnp.asarray(positions), head_dim, theta)
  expected = phases(positions, head_dim, theta)
  # A float32 near 15,000 is 2^-10 apart from the next: half of it is lost to the product, as much
  # again to the frequency.
  np.testing.assert_allclose(cos, np.cos(expected), atol=1.5e-3)
  np.testing.assert_allclose(sin, np.sin(expected), atol=1.5e-3)
  np.testing.assert_allclose(cos[:, :5], np.cos(expected)[:, :5], atol=3e-5)
  assert cos.dtype == sin.dtype == jnp.float32


def test_rotation_is_a_product_of_complex_numbers():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 5, 3, 8), np.float32)
  positions = rng.integers(0, 50, (2, 5))
  cos, sin = reference_attention.rope_phases(jnp.asarray(positions), 8, 100.0)
  turned = np.asarray(reference_attention.rotate(jnp.asarray(x), cos, sin), np.float64)
  z = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * phases(positions, 8, 100.0))[:, :, None, :]
  np.testing.assert_allclose(turned, np.concatenate([z.real, z.imag], axis=-1), atol=1e-5)


def test_a_score_depends_on_the_distance_alone():
  q, k = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1, 4, 1, 8), np.float32))
  near = [
    reference_attention.rope_phases(jnp.array([p]), 8, 100.0) for p in ([0, 1, 2, 3], [2, 3, 4, 5])
  ]
  far = [reference_attention.rope_phases(jnp.array([p]), 8, 100.0) for p in ([40, 41, 42, 43],) * 2]
  far[1] = reference_attention.rope_phases(jnp.array([[42, 43, 44, 45]]), 8, 100.0)
  scores = [
    jnp.sum(reference_attention.rotate(q, *a) * reference_attention.rotate(k, *b), axis=-1)
    for a, b in (near, far)
  ]
  np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_rotation_keeps_the_dtype_and_turns_in_float32():
  x = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
  cos, sin = reference_attention.rope_phases(jnp.array([[257]]), 4, 100.0)
  turned = reference_attention.rotate(x, cos, sin)
  assert turned.dtype == jnp.bfloat16
  exact = reference_attention.rotate(x.astype(jnp.float32), cos, sin)
  np.testing.assert_array_equal(turned, exact.astype(jnp.bfloat16))


def test_causal_mask_is_its_definition():
  segments = np.array([[1, 1, 2, 2, 2, 0], [3, 3, 3, 3, 3, 3]])
  for first, last in ((0, 6), (2, 5)):  # all queries, and some of them
    queries = segments[:, first:last]
    mask = np.asarray(
      reference_attention.causal_mask(jnp.asarray(queries), jnp.asarray(segments), first)
    )
    assert mask.shape == (2, last - first, 6)
    for b, t, s in np.ndindex(mask.shape):
      assert mask[b, t, s] == (s <= first + t and queries[b, t] == segments[b, s])


def causal(*shape):
  """The mask of rows of one document."""
  segments = jnp.zeros(shape, jnp.int32)
  return reference_attention.causal_mask(segments, segments)


def attend(q, k, v, mask):
  """`attention.attend` on keys and values that have their heads inside, as queries have."""
  return reference_attention.attend(q, jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2), mask)


def naive(q, k, v, mask):
  """One query, one head, one key at a time."""
  B, T, H, C = q.shape
  K = k.shape[2]
  out = np.zeros((B, T, H, C))
  for b, t, h in np.ndindex(B, T, H):
    seen = np.flatnonzero(mask[b, t])
    scores = np.array([q[b, t, h] @ k[b, s, h // (H // K)] for s in seen]) / np.sqrt(C)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    out[b, t, h] = sum(w * v[b, s, h // (H // K)] for w, s in zip(weights, seen, strict=True))
  return out


@pytest.mark.parametrize('num_heads, num_kv_heads', [(4, 4), (6, 2), (3, 1)])
def test_attention_is_its_definition(num_heads, num_kv_heads):
  rng = np.random.default_rng(0)
  B, T, S, C = 2, 5, 7, 6
  q = 2 * rng.standard_normal((B, T, num_heads, C), np.float32)
  k, v = 2 * rng.standard_normal((2, B, S, num_kv_heads, C), np.float32)
  mask = rng.random((B, T, S)) < 0.5
  mask[:, :, 0] = True
  out = attend(*map(jnp.asarray, (q, k, v, mask)))
  np.testing.assert_allclose(
    out, naive(*(x.astype(np.float64) for x in (q, k, v)), mask), atol=2e-6
  )


def test_what_is_masked_has_no_influence_at_all():
  rng = np.random.default_rng(0)
  q, k, v = (jnp.asarray(rng.standard_normal((1, 4, 2, 4), np.float32)) for _ in range(3))
  mask = causal(*(1, 4))
  wild = k.at[:, 3].set(1e4), v.at[:, 3].set(1e30)
  out = attend(q, k, v, mask), attend(q, *wild, mask)
  np.testing.assert_array_equal(out[0][:, :3], out[1][:, :3])
  assert np.abs(out[0][:, 3] - out[1][:, 3]).max() > 1


def test_a_query_without_keys_gets_the_mean_of_the_values_and_a_finite_gradient():
  rng = np.random.default_rng(0)
  q, k, v = (jnp.asarray(rng.standard_normal((1, 3, 2, 4), np.float32)) for _ in range(3))
  mask = jnp.ones((1, 3, 3), bool).at[0, 1].set(False)
  out = attend(q, k, v, mask)
  np.testing.assert_allclose(out[0, 1], v[0].mean(axis=0), atol=1e-6)
  grads = jax.grad(lambda *x: jnp.sum(attend(*x, mask) ** 2), (0, 1, 2))(q, k, v)
  assert all(np.isfinite(g).all() for g in grads)


def test_in_bfloat16_scores_and_softmax_are_still_float32():
  rng = np.random.default_rng(0)
  q, k, v = (jnp.asarray(rng.standard_normal((1, 64, 2, 64)), jnp.bfloat16) for _ in range(3))
  q = q * jnp.bfloat16(16)  # scores so large that eight bits of them are too few
  mask = causal(*(1, 64))
  out = attend(q, k, v, mask)
  exact = naive(*(np.asarray(x, np.float64) for x in (q, k, v)), np.asarray(mask))
  assert out.dtype == jnp.bfloat16
  # What is left is the rounding of weights and values to eight bits.
  assert np.abs(np.asarray(out, np.float64) - exact).mean() < 1.5e-3
