"""The programs of a rollout: their shapes, their memory, their shardings."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import pytest

from lwz.model import config as config_lib
from lwz.model import parameters, sharding
from lwz.programs import rollout
from lwz.programs.cost import fit, topology
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib
from tests import fakes

CONFIG = fakes.config()


def spec_of(config, num_slots=4, max_prompt_tokens=40, max_tokens=500, exact=False, **changes):
  settings = {'sampling': sampler.Sampling()} | changes
  return spec_lib.EngineSpec(
    config, num_slots, max_prompt_tokens, max_tokens, exact=exact, **settings
  )


def layout(num_tokens, num_steps, **changes):
  """The cache layout for trajectories of this many tokens."""
  changes |= {'max_prompt_tokens': 8, 'max_tokens': num_tokens - 8, 'num_steps': num_steps}
  return spec_of(fakes.config(head_dim=16), **changes).cache_layout


def test_a_prefill_announces_its_shapes():
  built = rollout.prefill(spec_of(CONFIG, unstack=False), batch_size=1, num_tokens=5)
  args = (fakes.params(CONFIG), fakes.padded(fakes.texts([5], CONFIG)))
  assert fakes.fits(built, args, built.jit()(*args))


def decoding(config, *, num_slots=8, num_tokens=2_044, read_length=512, num_steps=4, **changes):
  changes |= {'max_prompt_tokens': 44, 'max_tokens': num_tokens - 44, 'num_steps': num_steps}
  spec = spec_of(config, num_slots, **changes)
  return rollout.decode(spec, batch_size=num_slots, read_length=read_length)


def bytes_of(tree):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('int8', [False, True])
def test_the_cache_is_updated_in_place(int8):
  """No copy of it: neither per step and layer nor per block, and what is read is a part."""
  config = fakes.config(num_hidden_layers=8)
  built = decoding(config, read_length=64, unstack=False, int8=int8)
  cache = bytes_of(built.abstract_args[1].cache)
  memory = built.lower().compile().memory_analysis()
  assert memory.alias_size_in_bytes >= cache
  assert memory.temp_size_in_bytes < cache / 4


def test_unstacked_layers_hold_one_copy_of_what_is_read():
  config = fakes.config(num_hidden_layers=8)
  built = decoding(config, read_length=512, unstack=True)
  cache = bytes_of(built.abstract_args[1].cache)
  memory = built.lower().compile().memory_analysis()
  assert memory.alias_size_in_bytes >= cache
  assert memory.temp_size_in_bytes < 0.4 * cache  # a quarter of it is read


@pytest.mark.parametrize('attention', ['xla', 'mosaic'])
def test_a_profile_names_cached_attention_and_the_sampler(attention):
  built = decoding(fakes.config(head_dim=16), attention=attention)
  text = built.lower().as_text(debug_info=True)
  names = ('embed', 'attention/cached_attention', 'mlp', 'sampler')
  assert all(re.search(rf'/{name}/\w', text) for name in names)


def test_no_step_of_unstacked_layers_copies_the_cache_of_its_block():
  built = decoding(fakes.config(), num_slots=8, num_steps=4, unstack=True)
  text = built.lower().compile().as_text()
  bodies = [
    text.split(f'\n%{name} (')[1].split('\n}')[0] for name in re.findall(r'body=%([\w.]+)', text)
  ]
  assert any('dynamic-update-slice' in body for body in bodies)
  copied = re.findall(r'= \w+\[([\d,]*)\]\S* copy\(', '\n'.join(bodies))
  sizes = [math.prod(int(n) for n in shape.split(',') if n) for shape in copied]
  assert max(sizes, default=0) < 8 * 2 * 4 * 6  # rows, heads, steps, head_dim


def test_a_32b_model_is_decoded_on_a_mesh_of_eight():
  """Lowered, not compiled: shapes and layouts fit together at the size of the paper."""
  config = config_lib.preset('32b')
  mesh = sharding.make_mesh((1, 2, 4))
  shape = {'num_slots': 32, 'num_tokens': 16_380, 'read_length': 1_024}
  built = decoding(config, **shape, unstack=False, mesh=mesh)
  assert 'module' in built.lower().as_text()[:200]
  (past,) = built.abstract_args[1].cache
  found = {x.sharding.shard_shape(x.shape) for x in (past.k, past.v)}
  assert found == {(64, 16, 2, 16_384, 128), (64, 16, 2, 128, 16_384)}


def test_off_a_cpu_positions_come_in_whole_tiles(monkeypatch):
  assert layout(16_048, 32) == (16_048, 16_080, 1)
  assert layout(16_048, 32, attention='mosaic') == (16_128, 16_128, 1)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  assert layout(16_048, 96) == (16_128, 16_256, 1)
  engine = rollout.engine(spec_of(CONFIG))
  assert engine.read_lengths == (128, 256, 512, 640)


def test_a_large_model_on_a_cpu_has_few_programs(monkeypatch):
  engine = spec_of(CONFIG, 16)
  assert engine.batch_sizes == (1, 2, 3, 4, 6, 8, 12, 16)
  assert engine.read_lengths == (128, 192, 256, 384, 512, 540)
  monkeypatch.setattr(spec_lib, 'LARGE_ON_CPU', parameters.num_params(CONFIG))
  assert (engine.batch_sizes, engine.read_lengths) == ((16,), (512, 540))
  assert spec_of(CONFIG, 40).batch_sizes == (16, 32, 40)
  assert spec_of(CONFIG, 2).batch_sizes == (2,)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  assert engine.batch_sizes == (1, 2, 4, 8, 16)


def test_a_gpu_reads_as_many_kv_segments_as_are_filled(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert layout(16_048, 32) == (16_384, 16_384, 8)
  assert layout(300, 32) == (384, 384, 3)
  assert layout(16_048, 3_000).capacity == 7 * 3_072  # none is shorter than a block
  assert layout(16_048, 32, int8=True) == (16_128, 16_128, 1)
  assert layout(16_048, 32, attention='triton').num_segments == 1
  engine = rollout.engine(spec_of(CONFIG))
  assert engine.read_lengths == (128, 256, 384, 512, 640)
  slots = jax.eval_shape(engine.init)
  assert [x.v.shape[3] for x in slots.cache] == [128] * 5


@pytest.mark.parametrize(
  'platform, attention, kind',
  [('tpu', 'xla', dict), ('gpu', 'xla', tuple), ('gpu', 'triton', tuple), ('cpu', 'xla', tuple)],
)
def test_layers_are_unstacked_where_a_stack_would_be_copied(monkeypatch, platform, attention, kind):
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  config = fakes.config(head_dim=16)
  engine = rollout.engine(spec_of(config, attention=attention))
  params = jax.eval_shape(engine.reshard, fakes.params(config))
  assert isinstance(params['layers'], kind)


@pytest.mark.parametrize('attention, num_calls', [('xla', 0), ('mosaic', 2), ('triton', 2)])
def test_the_kernel_that_is_named_is_what_every_layer_runs(attention, num_calls):
  config = fakes.config(head_dim=16, num_hidden_layers=2)
  spec = spec_of(config, max_tokens=50, attention=attention)
  built = rollout.decode(spec, batch_size=4, read_length=spec.read_lengths[-1])
  traced = built.jit().trace(*built.abstract_args)
  assert str(traced.jaxpr).count('pallas_call[') == num_calls


@pytest.mark.slow
@pytest.mark.parametrize('attention', ['xla', 'mosaic'])
def test_on_tpus_no_step_and_no_block_copies_the_cache(attention):
  """Compiled for 16 chips: 32 trajectories of 16K tokens by a model of 32B parameters."""
  pytest.importorskip('libtpu')
  config = config_lib.preset('32b')
  mesh = sharding.make_mesh((1, 4, 4), topology.load('v5p:2x2x4').devices)
  changes = {'num_tokens': 16_048, 'read_length': 16_128, 'num_steps': 32, 'mesh': mesh}
  built = decoding(config, num_slots=32, attention=attention, **changes)
  compiled = built.lower().compile()
  memory, cache = compiled.memory_analysis(), bytes_of(built.abstract_args[1].cache) / mesh.size
  assert memory.alias_size_in_bytes >= cache > 7 * 2**30
  assert memory.temp_size_in_bytes < cache / 20
  assert ('tpu_custom_call' in compiled.as_text()) == (attention == 'mosaic')


@pytest.mark.slow
@pytest.mark.parametrize(
  'attention, read, weights',
  [
    ('xla', 4_096, 'float'),
    ('xla', 4_096, 'int8'),
    ('xla', 16_384, 'float'),
    ('triton', 16_128, 'float'),
  ],
)
def test_on_gpus_a_step_reads_weights_and_cache_where_they_lie(attention, read, weights):
  """Compiled for one H200: 32 trajectories of 16K tokens by a model of 1.5B parameters."""
  pytest.importorskip('jax_cuda13_plugin')
  config = dataclasses.replace(config_lib.preset('1.5b'), dtype=jnp.bfloat16)
  mesh = sharding.make_mesh((1,), topology.load('gpu:h200:1x1').devices)
  changes = {'num_tokens': 16_048, 'num_steps': 32, 'read_length': read, 'mesh': mesh}
  changes |= {'unstack': True, 'attention': attention, 'weights': weights}
  built = decoding(config, num_slots=32, **changes)
  found = fit.measure(built)
  params, slots = built.abstract_args[:2]
  capacity = sum(x.v.shape[3] for x in slots.cache)
  least = bytes_of(params) + bytes_of(slots.cache) * read / capacity
  assert found.moved < 32 * 1.3 * least
  assert found.temporaries < 100 * 2**20


@pytest.mark.parametrize('weights', ['float', 'int8', 'int4'])
def test_parameters_are_cast_and_laid_out_for_decoding(weights):
  config = dataclasses.replace(fakes.config(vocab_size=16), dtype=jnp.bfloat16)
  mesh = sharding.make_mesh((1, 2, 4))
  params = jax.device_put(fakes.params(config), sharding.shardings(config, mesh, sharding.TRAIN))
  for unstack in (False, True):
    spec = spec_of(config, unstack=unstack, mesh=mesh, weights=weights)
    compiled = rollout.reshard(spec).lower().compile()
    gathered = re.findall(r'= (\w+)\[([\d,]+)\]\S* all-gather\(', compiled.as_text())
    sizes = [(dtype, math.prod(map(int, shape.split(',')))) for dtype, shape in gathered]
    if weights != 'float':  # embedding and head are, as a quarter of 16 x 16, but no matrix
      assert max(size for dtype, size in sizes if dtype[0] == 's') >= 16 * 20 // 4
      assert max(size for dtype, size in sizes if dtype[0] != 's') <= 16 * 16 // 4
    found = compiled(params)
    announced = rollout.decode_params(spec)
    assert jax.tree.structure(found) == jax.tree.structure(announced)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(announced), strict=True):
      assert (x.shape, x.dtype) == (y.shape, y.dtype)
      assert x.sharding.is_equivalent_to(y.sharding, x.ndim)


@pytest.mark.parametrize('unstack', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_weights_in_int8_take_a_byte_each_and_four_an_output(dtype, unstack):
  config = fakes.config(dtype=jnp.dtype(dtype))
  built = decoding(config, weights='int8', unstack=unstack)
  described = parameters.describe(config)
  size = 0
  for param in jax.tree.leaves(described, is_leaf=parameters.is_param):
    num = math.prod(param.shape)
    if parameters.is_matrix(param):
      _, outer = parameters.dimensions(param)
      size += num + 4 * param.shape[0] * math.prod(param.shape[i] for i in outer)
    else:
      size += num * jnp.dtype(dtype).itemsize
  assert bytes_of(built.abstract_args[0]) == size
  assert fit.bytes_per_device(built.abstract_args[0]) == size
  compiled = built.lower().compile()
  assert compiled.memory_analysis().argument_size_in_bytes == bytes_of(built.abstract_args)


@pytest.mark.parametrize('weights', ['float', 'int8'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_one_text_on_a_cpu_reads_each_weight_where_it_lies(dtype, weights):
  """As many bytes a step as the weights have, a little more for what is not a matrix."""
  config = fakes.config(hidden_size=256, intermediate_size=768, dtype=jnp.dtype(dtype))
  settings = {'num_slots': 1, 'num_tokens': 76, 'read_length': 16, 'num_steps': 4}
  built = decoding(config, **settings, weights=weights)
  found = fit.measure(built)
  assert found.moved / 4 < 1.25 * bytes_of(built.abstract_args[0])
  assert found.temporaries < bytes_of(built.abstract_args[0]) / 8
