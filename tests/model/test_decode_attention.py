"""Attention over two parts is attention over one: what was written earlier, and the block's own."""

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import attention, cache, decode_attention


@pytest.mark.parametrize('lengths', [[4, 0, 7], [0, 0, 0]])
def test_it_is_plain_attention_over_what_a_row_has(lengths):
  B, K, H, C, S, T, written = 3, 2, 6, 4, 7, 5, 3
  rng = np.random.default_rng(0)
  q, k, v = (
    jnp.asarray(rng.standard_normal(shape, np.float32))
    for shape in ((B, 1, H, C), (B, K, S + T, C), (B, K, S + T, C))
  )
  past = cache.Past(k=k[:, :, :S].swapaxes(2, 3), v=v[:, :, :S])
  found = decode_attention.attend(
    q, past, jnp.array(lengths), k[:, :, S:], v[:, :, S:], jnp.arange(T) < written
  )
  slot = jnp.arange(S + T)[None, :]
  seen = (slot < jnp.array(lengths)[:, None]) | ((slot >= S) & (slot < S + written))
  expected = attention.attend(q, k, v, seen[:, None, :])
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_a_past_the_block_is_all():
  rng = np.random.default_rng(0)
  q, k = (jnp.asarray(rng.standard_normal(s, np.float32)) for s in ((2, 1, 4, 6), (2, 2, 3, 6)))
  past = cache.Past(k=jnp.zeros((2, 2, 6, 0)), v=jnp.zeros((2, 2, 0, 6)))
  found = decode_attention.attend(q, past, jnp.array([0, 0]), k, k, jnp.ones(3, bool))
  expected = attention.attend(q, k, k, jnp.ones((2, 1, 3), bool))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('num_tiles', [1, 3])
def test_tiles_change_nothing(num_tiles):
  S = num_tiles * decode_attention.TILE
  rng = np.random.default_rng(0)
  q, k, v, block = (
    jnp.asarray(rng.standard_normal(shape, np.float32))
    for shape in ((2, 1, 6, 4), (2, 2, 4, S), (2, 2, S, 4), (2, 2, 3, 4))
  )
  past, lengths = cache.Past(k=k, v=v), jnp.array([S, S - 5])
  tiled = decode_attention.tile(past)
  assert tiled.k.shape == (2, 2, num_tiles, 4, decode_attention.TILE)
  found, expected = (
    decode_attention.attend(q, x, lengths, block, block, jnp.ones(3, bool)) for x in (tiled, past)
  )
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_does_not_come_out_even_is_not_tiled():
  past = cache.Past(k=jnp.zeros((1, 1, 4, 96)), v=jnp.zeros((1, 1, 96, 4)))
  assert decode_attention.tile(past) is past
