"""The cache: where a token is written, who sees it, and that decoding with it changes nothing."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from lwz.model import activations, kv_cache, qwen, sharding
from lwz.model.attention import reference as reference_attention
from tests import fakes

CONFIG = fakes.config()


def test_it_begins_as_zeros_of_the_compute_dtype():
  cache = kv_cache.init(fakes.config(dtype=jnp.bfloat16), batch_size=3, num_positions=5)
  for leaf in (cache.k, cache.v):
    assert leaf.shape == (2, 3, 2, 5, 6) and leaf.dtype == jnp.bfloat16 and not leaf.any()


def test_append_writes_these_positions_of_this_layer_and_no_others():
  cache = kv_cache.init(CONFIG, batch_size=4, num_positions=5)
  k, v = np.random.default_rng(0).standard_normal((2, 4, 2, 3, 6), np.float32)
  cache = kv_cache.append(cache, jnp.array(1), 2, jnp.asarray(k), jnp.asarray(v))
  expected = np.zeros((2, 2, 4, 2, 5, 6), np.float32)
  expected[:, 1, :, :, 2:5] = k, v
  np.testing.assert_array_equal((cache.k, cache.v), expected)


def visible(prompt_lengths_B, prompt_positions, num_new, num_positions):
  """Positions that a new token sees: its own prompt, and the `num_new` tokens written so far."""
  position_S = jnp.arange(num_positions)
  prompt_BS = position_S[None, :] < prompt_lengths_B[:, None]
  new_S = (position_S >= prompt_positions) & (position_S < prompt_positions + num_new)
  return (prompt_BS | new_S[None, :])[:, None, :]


def test_cached_decoding_is_the_full_forward_at_every_position():
  """Prompts of different lengths, then token by token, against the whole sequences, uncached."""
  params = fakes.params(CONFIG)
  lengths, prompt_positions, num_new = [2, 5, 1], 5, 6
  sequences = fakes.texts([n + num_new for n in lengths], CONFIG)
  prompts_BT = np.full((3, prompt_positions), 9, np.int32)
  for row, ids, n in zip(prompts_BT, sequences, lengths, strict=True):
    row[:n] = ids[:n]
  lengths_B = jnp.array(lengths)
  num_positions = prompt_positions + num_new
  cache = kv_cache.init(CONFIG, 3, num_positions)
  causal = jnp.arange(num_positions)[None, None] <= jnp.arange(prompt_positions)[None, :, None]

  @functools.partial(jax.jit, static_argnums=2)
  def step(*arguments, mask_BTS, **options):
    def attend(_, q, k, v):
      return reference_attention.attend(q, k, v, mask_BTS)

    return qwen.forward_cached(*arguments, attend=attend, **options)

  hidden, cache = step(
    params,
    jnp.asarray(prompts_BT),
    CONFIG,
    cache,
    position=0,
    phases_BTc=qwen.phases(jnp.tile(jnp.arange(prompt_positions)[None], (3, 1)), CONFIG),
    mask_BTS=jnp.tile(causal, (3, 1, 1)),
  )
  found = [[hidden[b, :n]] for b, n in enumerate(lengths)]
  for t in range(num_new):
    ids = jnp.array([[s[n + t]] for s, n in zip(sequences, lengths, strict=True)])
    hidden, cache = step(
      params,
      ids,
      CONFIG,
      cache,
      position=jnp.array(prompt_positions + t),
      phases_BTc=qwen.phases((lengths_B + t)[:, None], CONFIG),
      mask_BTS=visible(lengths_B, prompt_positions, jnp.array(t + 1), num_positions),
    )
    for b in range(3):
      found[b].append(hidden[b])
  full = fakes.forward(params, fakes.padded(sequences), CONFIG)
  for ids, parts, row in zip(sequences, found, full, strict=True):
    np.testing.assert_allclose(jnp.concatenate(parts), row[: len(ids)], atol=1e-5)


def random_cache(rows, positions, seed=0):
  k, v = np.random.default_rng(seed).standard_normal((2, 2, rows, 2, positions, 6), np.float32)
  return kv_cache.Cache(k=jnp.asarray(k), v=jnp.asarray(v))


def values(past):
  """[L, B, K, S, C] of keys and of values."""
  return past.k.swapaxes(3, 4), past.v


def test_a_block_is_stored_at_each_rows_own_place():
  whole, block = random_cache(4, 9), random_cache(3, 2, seed=1)
  starts = [5, 0, 7]
  (stored,) = jax.jit(kv_cache.store_block)((kv_cache.to_segment(whole),), block, jnp.array(starts))
  found = values(stored)
  for old, new, result in zip((whole.k, whole.v), (block.k, block.v), found, strict=True):
    expected = np.array(old)
    for b, start in enumerate(starts):
      expected[:, b, :, start : start + 2] = new[:, b]
    np.testing.assert_array_equal(result, expected)


def in_segments(cache, size):
  """A segment split into segments of this size."""
  axes = kv_cache.CacheSegment(k=4, v=3, k_scale=3, v_scale=3)
  axes = axes if cache.k_scale is not None else axes.replace(k_scale=None, v_scale=None)
  cut = jax.tree.map(lambda x, axis: jnp.split(x, x.shape[axis] // size, axis), cache, axes)
  parts = [getattr(cut, name) for name in ('k', 'v', 'k_scale', 'v_scale')]
  lists = [part or [None] * len(parts[0]) for part in parts]
  return tuple(kv_cache.CacheSegment(*each) for each in zip(*lists, strict=True))


@pytest.mark.parametrize('int8', [False, True])
def test_segments_are_filled_as_one(int8):
  """Blocks over an edge, up to one, from one and to the end; a prompt over two edges."""
  whole = kv_cache.to_segment(random_cache(5, 16), int8=int8)
  prompt, block = random_cache(1, 10, seed=1), random_cache(4, 3, seed=2)

  def fill(segments):
    segments = kv_cache.store_prompt(segments, prompt, jnp.array(3))
    return jax.jit(kv_cache.store_block)(segments, block, jnp.array([3, 5, 8, 13]))

  (expected,) = fill((whole,))
  found, expected = fill(in_segments(whole, 4)), in_segments(expected, 4)
  assert len(found) == 4
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_on_a_mesh_each_device_stores_its_own_rows():
  mesh = sharding.make_mesh((2, 2, 2))
  past, block = (
    in_segments(kv_cache.to_segment(random_cache(4, 12)), 6),
    random_cache(4, 2, seed=1),
  )
  starts_B = jnp.array([5, 0, 7, 3])
  alone = kv_cache.store_block(past, block, starts_B)
  where = jax.tree.map(
    lambda x: NamedSharding(mesh, activations.spec(mesh, x.shape, kv_cache.DIMENSIONS)), past
  )
  store = jax.jit(lambda past, block, starts: kv_cache.store_block(past, block, starts, mesh))
  arguments = jax.device_put(past, where), block, starts_B
  jax.tree.map(np.testing.assert_array_equal, store(*arguments), alone)
  assert 'all-gather' not in store.lower(*arguments).compile().as_text()


def test_a_prompt_is_stored_at_the_start_of_its_row():
  whole, prefix = random_cache(3, 7), random_cache(1, 4, seed=1)
  (placed,) = kv_cache.store_prompt((kv_cache.to_segment(whole),), prefix, jnp.array(2))
  k, v = values(placed)
  np.testing.assert_array_equal(k[:, 2, :, :4], prefix.k[:, 0])
  np.testing.assert_array_equal(v[:, 2, :, 4:], whole.v[:, 2, :, 4:])
  np.testing.assert_array_equal(k[:, :2], whole.k[:, :2])


def test_a_layer_is_read_up_to_these_rows_and_positions():
  cache = random_cache(4, 9)
  past = kv_cache.read_layer(
    kv_cache.to_segment(cache), 1, num_rows=3, num_positions=5, dtype=jnp.float32
  )
  np.testing.assert_array_equal(past.v, cache.v[1, :3, :, :5])
  np.testing.assert_array_equal(past.k, cache.k[1, :3, :, :5].swapaxes(2, 3))


def test_int8_is_off_by_half_a_scale_at_most():
  cache = random_cache(3, 5)
  cache = cache.replace(v=cache.v.at[0, 0, 0, 0].set(0.0))
  rounded = kv_cache.to_segment(cache, int8=True)
  assert rounded.k.dtype == rounded.v.dtype == jnp.int8
  for layer in range(2):
    past = kv_cache.read_layer(rounded, layer, num_rows=3, num_positions=5, dtype=jnp.float32)
    for found, exact, scale in (
      (past.k.swapaxes(2, 3), cache.k[layer], rounded.k_scale[layer]),
      (past.v, cache.v[layer], rounded.v_scale[layer]),
    ):
      assert (np.abs(found - exact) <= 0.5001 * np.asarray(scale)[..., None]).all()
      assert np.abs(found - exact).max() > 0


def test_an_empty_segment_is_that_of_zeros():
  for int8 in (False, True):
    zeros = kv_cache.to_segment(kv_cache.init(CONFIG, 3, 5), int8=int8)
    found = kv_cache.empty_segment(CONFIG, 3, 5, int8=int8)
    assert fakes.shapes(found) == fakes.shapes(zeros)
    jax.tree.map(np.testing.assert_array_equal, found, zeros)


def test_int8_is_filled_as_any_other():
  found = []
  for int8 in (False, True):
    past = (kv_cache.to_segment(kv_cache.init(CONFIG, 2, 8), int8=int8),)
    past = kv_cache.store_prompt(past, random_cache(1, 3), jnp.array(1))
    past = kv_cache.store_block(past, random_cache(2, 2, seed=1), jnp.array([0, 3]))
    found.append(kv_cache.read_layer(past[0], 0, num_rows=2, num_positions=8, dtype=jnp.float32))
  np.testing.assert_allclose(found[1].v, found[0].v, atol=2e-2)
  np.testing.assert_allclose(found[1].k, found[0].k, atol=2e-2)


def test_bfloat16_is_written_in_place():
  """XLA:CPU would convert a whole cache to float32, and back."""
  config = fakes.config(dtype=jnp.bfloat16)
  whole, block = (kv_cache.init(config, 4, num) for num in (4_096, 2))
  segments = (kv_cache.to_segment(whole),)
  one = jax.tree.map(lambda x: x[0], whole)
  new = jnp.ones((4, 2, 1, 6), jnp.bfloat16)
  for fn, args in (
    (kv_cache.store_block, (segments, block, jnp.array([3, 5, 8, 13]))),
    (lambda cache, at: kv_cache.append(cache, 0, at, new, new), (one, jnp.int32(7))),
  ):
    compiled = jax.jit(fn, donate_argnums=0).lower(*args).compile()
    assert not re.search(r'f32\[[\d,]*4096', compiled.as_text())
    assert compiled.memory_analysis().temp_size_in_bytes < whole.k.nbytes / 20
  stored = jax.jit(kv_cache.append)(one, 0, jnp.int32(7), new, 2 * new)
  assert (stored.k[:, :, 7] == 1).all() and (stored.v[:, :, 7] == 2).all()
  assert float(jnp.sum(stored.k)) == 48 and float(jnp.sum(stored.v)) == 96
