"""Every backend is the reference, on one device and on many, and says where it cannot run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.extend import core

from lwz.model import qwen, sharding
from lwz.model.attention import chunked as chunked_attention
from lwz.model.attention import gpu as gpu_attention
from lwz.model.attention import packed as packed_attention
from lwz.model.attention import reference as reference_attention
from lwz.model.attention import splash as splash_attention
from tests import fakes


def arrays_of(num_rows, num_tokens, num_heads, num_kv_heads, head_dim=8):
  """Queries, keys, values, and what the result is multiplied by before it is summed."""
  rng = np.random.default_rng(0)
  q, weights = rng.standard_normal((2, num_rows, num_tokens, num_heads, head_dim), np.float32)
  k, v = rng.standard_normal((2, num_rows, num_kv_heads, num_tokens, head_dim), np.float32)
  return tuple(map(jnp.asarray, (q, k, v, weights)))


def packed(num_rows, num_tokens):
  """Rows of several documents, padding at their ends; the last row is all padding."""
  rng = np.random.default_rng(1)
  segments = np.sort(rng.integers(1, 5, (num_rows, num_tokens)), axis=1)
  segments[:, num_tokens - num_tokens // 9 :] = 0
  segments[-1] = 0
  return jnp.asarray(segments, jnp.int32)


def reference(q, k, v, segments):
  return reference_attention.attend(q, k, v, reference_attention.causal_mask(segments, segments))


def result(attend, inputs):
  """Output and gradients of queries, keys, values."""
  *qkv, weights = inputs

  def loss(*qkv):
    out = attend(*qkv)
    return jnp.sum(out.astype(jnp.float32) * weights), out

  grads, out = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*qkv)
  return out, *grads


def assert_same(found, expected, atol=1e-5):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize(
  'backend, num_heads, num_kv_heads',
  [
    ('chunked', 6, 2),
    ('chunked', 3, 1),
    ('splash', 4, 2),
    pytest.param('splash', 3, 1, marks=pytest.mark.slow),
    pytest.param('triton', 4, 2, marks=pytest.mark.slow),
    ('triton', 3, 1),
  ],
)
def test_a_backend_is_the_reference_on_packed_rows(backend, num_heads, num_kv_heads):
  inputs, segments = arrays_of(2, 150, num_heads, num_kv_heads), packed(2, 150)
  attend = functools.partial(packed_attention.attend_packed, segments_BS=segments, backend=backend)
  found = result(attend, inputs)
  assert all(np.isfinite(x).all() for x in found)
  assert_same(found, result(functools.partial(reference, segments=segments), inputs))


@pytest.mark.parametrize('backend', ['xla', 'chunked', 'splash', 'triton'])
def test_without_segments_a_row_is_one_document(backend):
  q, k, v, _ = arrays_of(1, 130, 2, 1)
  found = packed_attention.attend_packed(q, k, v, None, backend=backend)
  whole = jnp.zeros((1, 130), jnp.int32)
  np.testing.assert_allclose(found, reference(q, k, v, whole), atol=1e-5)


def test_short_rows_on_a_cpu_are_the_reference_to_the_last_bit():
  (q, k, v, _), segments = arrays_of(2, 40, 4, 2), packed(2, 40)
  found = packed_attention.attend_packed(q, k, v, segments)
  np.testing.assert_array_equal(found, reference(q, k, v, segments))


@pytest.mark.parametrize('block', [7, 64])
def test_no_result_depends_on_the_block(block):
  (q, k, v, _), segments = arrays_of(2, 50, 4, 2), packed(2, 50)
  found = jax.jit(chunked_attention.attend, static_argnames='block')(
    q, k, v, segments, segments, block=block
  )
  np.testing.assert_allclose(found, reference(q, k, v, segments), atol=1e-6)


def test_a_forward_pass_of_twice_the_keys_is_the_reference():
  inputs, segments = arrays_of(2, 600, 4, 2), packed(2, 600)  # the last block of keys has 88
  attend = functools.partial(
    chunked_attention.attend, q_segments_BT=segments, kv_segments_BS=segments
  )
  expected = result(functools.partial(reference, segments=segments), inputs)
  assert_same(result(attend, inputs), expected, atol=1e-4)


def test_blocks_add_their_gradients_in_float32():
  """In bfloat16 sums over many blocks would lose twice as much as the reference does."""
  *qkv, weights = arrays_of(1, 512, 4, 2, 32)
  segments = jnp.zeros((1, 512), jnp.int32)
  half = (*(x.astype(jnp.bfloat16) for x in qkv), weights)
  full = (*(x.astype(jnp.float32) for x in half[:3]), weights)
  plain = functools.partial(reference, segments=segments)
  blocks = functools.partial(
    chunked_attention.attend, q_segments_BT=segments, kv_segments_BS=segments, block=8
  )
  exact = result(plain, full)

  def errors(found):
    pairs = zip(found, exact, strict=True)
    return np.array([np.linalg.norm(a.astype(jnp.float32) - b) for a, b in pairs])

  assert (errors(result(blocks, half)) < 1.5 * errors(result(plain, half))).all()


def largest(jaxpr):
  """Elements of the largest array that a program makes, loops and calls included."""
  sizes = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars if hasattr(v.aval, 'size')]
  inner = [largest(sub) for e in jaxpr.eqns for sub in core.jaxprs_in_params(e.params)]
  return max([0, *sizes, *inner])


def long_rows(num_tokens, backend):
  """Gradients of attention, and the arguments of one long row."""
  shapes = [(1, num_tokens, 2, 8), (1, 1, num_tokens, 8), (1, 1, num_tokens, 8)]
  segments = jnp.zeros((1, num_tokens), jnp.int32)

  def loss(*qkv):
    return jnp.sum(packed_attention.attend_packed(*qkv, segments, backend=backend))

  return jax.grad(loss, (0, 1, 2)), [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


@pytest.mark.parametrize('backend, squares', [('chunked', False), ('xla', True)])
def test_the_long_path_never_holds_a_square_of_the_row_s_length(backend, squares):
  num_tokens = 8_192
  grads, args = long_rows(num_tokens, backend)
  made = largest(jax.make_jaxpr(grads)(*args).jaxpr)
  assert (made >= num_tokens**2) == squares
  assert squares or made == 2 * num_tokens * 8  # queries: more than the scores of a pair


@pytest.mark.parametrize('forward', [True, False])
def test_memory_is_linear_in_the_row_s_length(forward):
  def temporary(num_tokens):
    grads, args = long_rows(num_tokens, 'chunked')
    of = (lambda *qkv: packed_attention.attend_packed(*qkv, None)) if forward else grads
    return jax.jit(of).lower(*args).compile().memory_analysis().temp_size_in_bytes

  short, long = temporary(4_096), temporary(16_384)
  assert long < 4.1 * short
  assert long < 4 * 16_384 * 16 * (8 if forward else 16)  # of so many copies of the queries


@pytest.mark.parametrize(
  'documents, computed', [([0] * 1_024, 10), ([1] * 512 + [2] * 512, 6), ([1] * 400 + [0] * 624, 8)]
)
def test_pairs_that_see_nothing_are_left_out(documents, computed):
  """Of the 16 pairs of 256 queries and keys."""
  segments = jnp.asarray([documents], jnp.int32)
  _, (i, _, num) = chunked_attention._pairs(segments, segments, 0, (256, 256), 0)
  assert (len(i), num) == (10, computed)


def test_a_chunk_reads_no_keys_after_its_last_query():
  segments = jnp.zeros((1, 1_024), jnp.int32)
  pairs = functools.partial(chunked_attention._pairs, segments[:, :512], segments)
  _, (i, _, num) = pairs(jnp.int32(256), (256, 256), None)
  assert (len(i), num) == (8, 5)
  assert len(pairs(256, (256, 256), 256)[1][0]) == 5


def test_values_of_other_documents_are_not_read():
  (q, k, v, _), segments = (
    arrays_of(1, 1_024, 2, 1),
    jnp.asarray([[1] * 512 + [2] * 512], jnp.int32),
  )
  found = jax.jit(chunked_attention.attend)(q, k, v.at[:, :, :512].set(np.nan), segments, segments)
  assert np.isnan(found[:, :512]).all() and np.isfinite(found[:, 512:]).all()


@pytest.mark.parametrize('backend', ['xla', 'chunked', 'splash'])
@pytest.mark.parametrize('traced', [False, True])
def test_a_chunk_of_rows_is_that_part_of_them(backend, traced):
  q, k, v, _ = arrays_of(2, 160, 4, 2)
  if traced and backend == 'splash':
    k, v = k[:, :, :128], v[:, :, :128]  # one kernel for each offset, interpreted
  num_keys = k.shape[2]
  begin, segments = num_keys // 64 * 32, packed(2, num_keys)
  attend = functools.partial(packed_attention.attend_packed, segments_BS=segments, backend=backend)
  if traced:
    found = jax.jit(lambda q, begin: attend(q, k, v, offset=begin))(q[:, begin : begin + 32], begin)
  else:
    found = attend(q[:, begin : begin + 32], k, v, offset=begin)
  whole = reference(q[:, :num_keys], k, v, segments)
  np.testing.assert_allclose(found, whole[:, begin : begin + 32], atol=1e-5)


MESHES = {
  'fsdp': ('xla', (1, 8, 1)),
  'three axes': ('chunked', (2, 2, 2)),
  'more ways than key-value heads': ('xla', (1, 1, 8)),
  'context': ('chunked', (1, 1, 2, 4)),
  'context and all heads': ('xla', (1, 2, 1, 4)),
  'a kernel with its context': ('splash', (1, 1, 2, 2)),
}


@pytest.mark.parametrize('backend, sizes', MESHES.values(), ids=MESHES)
def test_a_mesh_changes_no_number(backend, sizes):
  mesh = sharding.make_mesh(sizes, jax.devices()[: np.prod(sizes)])
  inputs, segments = arrays_of(8, 24, 8, 2, 4), packed(8, 24)
  if backend == 'splash':
    inputs, segments = arrays_of(1, 24, 4, 2, 4), packed(2, 24)[:1]
  attend = functools.partial(
    packed_attention.attend_packed, segments_BS=segments, backend=backend, mesh=mesh
  )
  assert_same(
    result(attend, inputs), result(functools.partial(reference, segments=segments), inputs)
  )


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 1, 2, 4)])
@pytest.mark.parametrize('num_keys', [48, 50])  # that a mesh divides, or not
def test_a_mesh_changes_no_number_of_a_chunk(sizes, num_keys):
  mesh = sharding.make_mesh(sizes, jax.devices()[: np.prod(sizes)])
  q, k, v, _ = arrays_of(4, num_keys, 4, 2)

  @jax.jit
  def chunk(q, begin):
    return packed_attention.attend_packed(q, k, v, None, offset=begin, mesh=mesh)

  whole = reference(q, k, v, jnp.zeros((4, num_keys), jnp.int32))
  np.testing.assert_allclose(chunk(q[:, 16:32], 16), whole[:, 16:32], atol=1e-5)


def test_a_rest_of_a_prompt_may_begin_anywhere_for_a_kernel_over_a_mesh():
  mesh = sharding.make_mesh((1, 1, 1, 2), jax.devices()[:2])
  q, k, v, _ = arrays_of(1, 50, 2, 1)
  found = packed_attention.attend_packed(
    q[:, 18:], k, v, None, offset=18, backend='splash', mesh=mesh
  )
  whole = reference(q, k, v, jnp.zeros((1, 50), jnp.int32))
  np.testing.assert_allclose(found, whole[:, 18:], atol=1e-5)


@pytest.mark.parametrize('num_heads, num_kv_heads, ways', [(12, 4, 6), (6, 3, 2)])
def test_a_device_reads_the_key_value_heads_of_its_query_heads(num_heads, num_kv_heads, ways):
  """Also where a device's query heads begin in the middle of a group."""
  mesh = sharding.make_mesh((1, 1, ways), jax.devices()[:ways])
  inputs, segments = arrays_of(1, 6, num_heads, num_kv_heads, 4), packed(2, 6)[:1]
  attend = functools.partial(packed_attention.attend_packed, segments_BS=segments, mesh=mesh)
  assert_same(
    result(attend, inputs), result(functools.partial(reference, segments=segments), inputs)
  )


def test_dimensions_that_the_mesh_does_not_divide_stay_whole():
  mesh = sharding.make_mesh((1, 2, 2, 2))
  inputs, segments = arrays_of(3, 7, 3, 1, 4), packed(3, 7)
  attend = functools.partial(packed_attention.attend_packed, segments_BS=segments, mesh=mesh)
  assert_same(
    result(attend, inputs), result(functools.partial(reference, segments=segments), inputs)
  )


def test_a_refused_backend_stops_the_call():
  q, k, v, _ = arrays_of(1, 8, 2, 1)
  with pytest.raises(ValueError, match="attention backend 'cudnn': a GPU kernel, not for cpu"):
    packed_attention.attend_packed(q, k, v, None, backend='cudnn')


def shapes(num_tokens, num_heads, num_kv_heads, head_dim):
  q = jax.ShapeDtypeStruct((1, num_tokens, num_heads, head_dim), jnp.bfloat16)
  kv = jax.ShapeDtypeStruct((1, num_kv_heads, num_tokens, head_dim), jnp.bfloat16)
  return q, kv, kv, jax.ShapeDtypeStruct((1, num_tokens), jnp.int32)


def gradients(attend):
  def grads(q, k, v, segments):
    def loss(*qkv):
      return jnp.sum(attend(*qkv, segments).astype(jnp.float32))

    return jax.grad(loss, (0, 1, 2))(q, k, v)

  return jax.jit(grads)


# Rows, heads, key-value heads and head width of 32b, 0.5b, and rows that fill no whole block.
REAL = [(16_384, 40, 8, 128), (16_384, 14, 2, 64), (1_000, 12, 2, 128)]


@pytest.mark.parametrize('case', REAL)
def test_splash_lowers_for_tpus(case):
  def attend(q, k, v, segments):
    return splash_attention.attend(q, k, v, segments, segments)

  exported = export.export(gradients(attend), platforms=['tpu'])(*shapes(*case))
  assert exported.mlir_module().count('tpu_custom_call') == 2  # forward and fused backward


@pytest.mark.parametrize('case', REAL)
def test_triton_lowers_for_gpus(case):
  with fakes.h100():
    traced = gradients(gpu_attention.triton).trace(*shapes(*case))
    text = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert text.count('custom_call @__gpu$xla.gpu.triton') == 3  # forward; delta; backward


@pytest.mark.parametrize('with_segments', [True, False])
def test_cudnn_is_given_a_mask_or_causality(monkeypatch, with_segments):
  """Its kernel cannot be lowered without cuDNN: XLA's stands in behind the same call."""
  theirs = jax.nn.dot_product_attention
  called = {}

  def stand_in(*args, implementation, **kwargs):
    called.update(kwargs, implementation=implementation)
    return theirs(*args, implementation='xla', **kwargs)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', stand_in)
  (q, k, v, _), segments = arrays_of(2, 40, 4, 2), packed(2, 40)
  segments = segments if with_segments else None
  found = gpu_attention.cudnn(q, k, v, segments, segments)
  whole = jnp.zeros((2, 40), jnp.int32) if segments is None else segments
  np.testing.assert_allclose(found, reference(q, k, v, whole), atol=1e-5)
  assert called['implementation'] == 'cudnn'
  assert called['is_causal'] != with_segments
  assert (called['mask'] is not None) == with_segments


def test_a_model_may_be_told_its_backend():
  config = fakes.config()
  params, ids = fakes.params(config), jnp.asarray(np.stack(fakes.texts([20, 20], config)))
  forward = jax.jit(qwen.forward, static_argnames=('config', 'attention'))
  found = forward(params, ids, config, attention='chunked', segments_BT=packed(2, 20))
  expected = forward(params, ids, config, attention='xla', segments_BT=packed(2, 20))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  with pytest.raises(ValueError, match="attention backend 'cudnn'"):
    forward(params, ids, config, attention='cudnn')
