"""Attention over two parts is attention over one: what was written earlier, and the block's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import kv_cache, sharding
from lwz.model.attention import decode as decode_attention
from lwz.model.attention import decode_mosaic, decode_triton
from lwz.model.attention import reference as reference_attention
from tests import fakes

KERNELS = ('mosaic', 'triton')


@pytest.mark.parametrize('lengths', [[4, 0, 7], [0, 0, 0]])
def test_it_is_plain_attention_over_what_a_row_has(lengths):
  B, K, H, C, S, T, written = 3, 2, 6, 4, 7, 5, 3
  rng = np.random.default_rng(0)
  q, k, v = (
    jnp.asarray(rng.standard_normal(shape, np.float32))
    for shape in ((B, 1, H, C), (B, K, S + T, C), (B, K, S + T, C))
  )
  past = kv_cache.CacheSegment(k=k[:, :, :S].swapaxes(2, 3), v=v[:, :, :S])
  found = decode_attention.attend(q, [past], jnp.array(lengths), k[:, :, S:], v[:, :, S:], written)
  position = jnp.arange(S + T)[None, :]
  cached = position < jnp.array(lengths)[:, None]
  seen = cached | ((position >= S) & (position < S + written))
  expected = reference_attention.attend(q, k, v, seen[:, None, :])
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_with_an_empty_cache_the_block_is_all():
  rng = np.random.default_rng(0)
  q, k = (jnp.asarray(rng.standard_normal(s, np.float32)) for s in ((2, 1, 4, 6), (2, 2, 3, 6)))
  past = kv_cache.CacheSegment(k=jnp.zeros((2, 2, 6, 0)), v=jnp.zeros((2, 2, 0, 6)))
  found = decode_attention.attend(q, [past], jnp.array([0, 0]), k, k, 3)
  expected = reference_attention.attend(q, k, k, jnp.ones((2, 1, 3), bool))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('num_tiles', [1, 3])
def test_tiles_change_nothing(num_tiles):
  S = num_tiles * decode_attention.TILE
  rng = np.random.default_rng(0)
  q, k, v, block = (
    jnp.asarray(rng.standard_normal(shape, np.float32))
    for shape in ((2, 1, 6, 4), (2, 2, 4, S), (2, 2, S, 4), (2, 2, 3, 4))
  )
  past, lengths = kv_cache.CacheSegment(k=k, v=v), jnp.array([S, S - 5])
  tiled = decode_attention.tile(past)
  assert tiled.k.shape == (2, 2, num_tiles, 4, decode_attention.TILE)
  found, expected = (
    decode_attention.attend(q, [x], lengths, block, block, 3) for x in (tiled, past)
  )
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_segments_are_attended_as_one():
  """Rows that end within the first, with it, within the last and with nothing."""
  q, past, lengths, *new = arrays_of([5, 8, 22, 0], S=24, L=1)
  past = jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 1.0), past)
  over = functools.partial(decode_attention.over, read_length=24, dtype=q.dtype)
  parts = (slice(0, 8), slice(8, 16), slice(16, 24))
  segments = tuple(kv_cache.CacheSegment(k=past.k[..., at], v=past.v[..., at, :]) for at in parts)
  expected = over((past,), lengths)(0, q, *new, 4)
  np.testing.assert_allclose(over(segments, lengths)(0, q, *new, 4), expected, atol=1e-6)
  near = jnp.minimum(lengths, 16)
  expected = over((past,), near)(0, q, *new, 4)
  segments = (*segments[:2], jax.tree.map(lambda x: x * jnp.nan, segments[2]))  # is not read
  found = decode_attention.over(segments, near, read_length=16, dtype=q.dtype)(0, q, *new, 4)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_does_not_come_out_even_is_not_tiled():
  past = kv_cache.CacheSegment(k=jnp.zeros((1, 1, 4, 96)), v=jnp.zeros((1, 1, 96, 4)))
  assert decode_attention.tile(past) is past


def arrays_of(lengths, *, S, K=2, G=3, C=16, T=5, L=2, dtype=jnp.float32):
  """(q, past of all layers, lengths, keys and values of the block); past its end a row is wild."""
  rng, B = np.random.default_rng(0), len(lengths)
  shapes = (B, 1, K * G, C), (B, K, T, C), (B, K, T, C), (L, B, K, C, S), (L, B, K, S, C)
  q, k_new, v_new, k, v = (rng.standard_normal(shape, np.float32) for shape in shapes)
  for b, length in enumerate(lengths):
    k[:, b, ..., length:], v[:, b, :, length:] = np.nan, np.inf
  q, k_new, v_new, k, v = (jnp.asarray(x, dtype) for x in (q, k_new, v_new, k, v))
  return q, kv_cache.CacheSegment(k=k, v=v), jnp.array(lengths), k_new, v_new


def reference(q, past, lengths, k_new, v_new, num_new, layer):
  seen = jnp.arange(past.v.shape[3])[None] < lengths[:, None]
  one = kv_cache.CacheSegment(
    k=jnp.where(seen[:, None, None, :], past.k[layer], 0),
    v=jnp.where(seen[:, None, :, None], past.v[layer], 0),
  )
  return decode_attention.attend(q, [one], lengths, k_new, v_new, num_new)


@functools.partial(jax.jit, static_argnames=('num_new', 'backend', 'mesh'))
def in_place(q, past, lengths, k_new, v_new, num_new, layer, backend, mesh=None):
  attend = decode_attention.over(
    (past,), lengths, backend=backend, read_length=past.v.shape[3], dtype=q.dtype, mesh=mesh
  )
  return attend(layer, q, k_new, v_new, num_new)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('backend', KERNELS)
def test_a_kernel_sees_what_a_row_has_and_nothing_beyond(monkeypatch, backend, dtype):
  """Rows of no token, of one, that end with a block, of all; and a cache that ends within one."""
  monkeypatch.setattr(decode_mosaic, 'BLOCK', 256)
  monkeypatch.setattr(decode_triton, 'PROGRAMS', 20)  # 2 for each row and head
  arrays = arrays_of([0, 1, 256, 300, 384], S=384, dtype=dtype)
  for layer, num_new in ((1, 1), (0, 5)):
    found = in_place(*arrays, num_new, layer, backend)
    expected = reference(*arrays, num_new, layer)
    assert found.dtype == dtype
    np.testing.assert_allclose(
      np.asarray(found, np.float32),
      np.asarray(expected, np.float32),
      atol=1e-6 if dtype == jnp.float32 else 2e-2,
    )


@pytest.mark.parametrize('backend', KERNELS)
def test_one_row_of_several_and_one_head_are_enough(backend):
  q, past, lengths, *new = arrays_of([100, 9], S=128, K=1, G=1, L=1, T=1)
  arrays = q[:1], past, lengths[:1], *(x[:1] for x in new)
  found = in_place(*arrays, 1, 0, backend)
  first = kv_cache.CacheSegment(k=past.k[:, :1], v=past.v[:, :1])
  expected = reference(arrays[0], first, *arrays[2:], 1, 0)
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('shape', [(2, 2, 2), (1, 1, 4), (1, 1, 1)])
@pytest.mark.parametrize('backend', KERNELS)
def test_on_a_mesh_each_device_reads_its_rows_and_heads(backend, shape):
  """Of two heads none is cut four ways: every device then reads them all."""
  mesh = sharding.make_mesh(shape, jax.devices()[: np.prod(shape)])
  arrays = arrays_of([0, 1, 70, 128], S=128)
  found = in_place(*arrays, 4, 1, backend, mesh)
  traced = jax.make_jaxpr(lambda *xs: in_place(*xs, 4, 1, backend, mesh))(*arrays)
  assert 'shard_map' in str(traced)  # of one device, too: by it Triton knows what to lower for
  np.testing.assert_allclose(found, reference(*arrays, 4, 1), atol=1e-6)


def test_rows_that_are_sharded_are_read_all():
  mesh = sharding.make_mesh((2, 2, 2))
  q, past, lengths, *new = arrays_of([0, 1, 70, 128], S=128)
  with pytest.raises(ValueError, match='2 rows of 4, sharded over the mesh'):
    in_place(q[:2], past, lengths[:2], *(x[:2] for x in new), 4, 1, 'mosaic', mesh)


def test_work_is_the_blocks_that_are_filled(monkeypatch):
  monkeypatch.setattr(decode_mosaic, 'BLOCK', 128)
  past = kv_cache.CacheSegment(k=jnp.zeros((1, 4, 2, 16, 512)), v=jnp.zeros((1, 4, 2, 512, 16)))
  _, rows, blocks, num = decode_mosaic.work(past, jnp.array([129, 0, 512, 128]), read_length=512)
  assert num.tolist() == [8] and len(rows) == 16
  assert rows[:8].tolist() == [0, 0, 1, 2, 2, 2, 2, 3]
  assert blocks[:8].tolist() == [0, 1, 0, 0, 1, 2, 3, 0]


REFUSED = [
  ('flash', 'cpu', 128, {}, 'no such backend; choose one of auto, xla, mosaic, triton'),
  ('mosaic', 'gpu', 128, {}, 'a kernel for tpu, not for gpu'),
  ('triton', 'tpu', 128, {}, 'a kernel for gpu, not for tpu'),
  ('mosaic', 'tpu', 128, {'int8': True}, 'kept in int8; choose xla'),
  ('mosaic', 'tpu', 64, {}, 'a head_dim of 64, no multiple of 128'),
  ('triton', 'gpu', 96, {}, 'a power of two from 16 on, not 96'),
  ('triton', 'cpu', 8, {}, 'a power of two from 16 on, not 8'),
]


@pytest.mark.parametrize('backend, platform, head_dim, more, reason', REFUSED)
def test_a_backend_that_cannot_run_says_why(backend, platform, head_dim, more, reason):
  assert reason in decode_attention.refusal(backend, platform, head_dim, **more)


def test_what_is_asked_for_runs_or_is_refused(monkeypatch):
  for backend, expected in (('auto', 'xla'), ('xla', 'xla'), ('mosaic', 'mosaic')):
    assert decode_attention.choose(backend, None, 16) == expected
  assert decode_attention.choose('xla', None, 6, int8=True) == 'xla'
  with pytest.raises(ValueError, match="'triton' cannot decode here: its head_dim"):
    decode_attention.choose('triton', None, 6)
  monkeypatch.setattr(decode_triton, 'has_backend', lambda: False)
  assert 'no longer compiles it' in decode_attention.refusal('triton', 'gpu', 128)


# Rows, key-value heads, queries of each, head width and positions: of 32b on one of four devices,
# alone on a device, of 1.5b, of 0.5b.
REAL = [
  (16, 2, 5, 128, 16_128),
  (1, 8, 5, 128, 16_128),
  (32, 2, 6, 128, 2_176),
  (2, 2, 3, 128, 384),
]


def lowered(kernel, case, platform, dtype=jnp.bfloat16):
  B, K, G, C, S = case
  shapes = (B, K, G, C), (64, B, K, C, S), (64, B, K, S, C), (B, K, 32, C), (B, K, 32, C)
  lengths, scalar = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((B,), ()))

  def attend(q, k, v, k_new, v_new, lengths, layer, num_new):
    past = kv_cache.CacheSegment(k=k, v=v)
    return kernel.attend(q, past, kernel.work(past, lengths, S), layer, k_new, v_new, num_new)

  arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
  traced = jax.jit(attend).trace(*arrays, lengths, scalar, scalar)
  return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize('case', [*REAL, (32, 2, 7, 64, 2_176)])
def test_triton_lowers_for_gpus(case):
  with fakes.h100():
    text = lowered(decode_triton, case, 'cuda')
  assert text.count('custom_call @__gpu$xla.gpu.triton') == 1


@pytest.mark.parametrize('case', REAL)
def test_mosaic_lowers_for_tpus(case):
  assert lowered(decode_mosaic, case, 'tpu').count('tpu_custom_call') == 1
