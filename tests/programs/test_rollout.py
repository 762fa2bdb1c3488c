"""The program of writing is the engine, with its numbers bound."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import config as config_lib
from lwz.model import sharding
from lwz.programs import rollout
from lwz.rollout import engine, sampler
from tests import fakes

CONFIG = fakes.config()
SETTINGS = {'num_samples': 3, 'max_tokens': 7, 'temperature': 0.9, 'stop_id': 4}


def test_it_is_the_engine_and_announces_its_shapes():
  built = rollout.generate(CONFIG, num_prompts=2, max_prompt_tokens=5, **SETTINGS)
  params, prompts = fakes.params(CONFIG), fakes.texts([2, 5], CONFIG)
  keys = sampler.trajectory_keys(0, 0, jnp.repeat(jnp.arange(2), 3), jnp.tile(jnp.arange(3), 2))
  args = (params, fakes.padded(prompts), jnp.array([2, 5]), keys)
  result = built.jit()(*args)
  assert fakes.fits(built, args, result)
  direct = jax.jit(lambda *args: engine.generate(*args, CONFIG, **SETTINGS))(*args)
  jax.tree.map(np.testing.assert_array_equal, result, direct)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(args))


def decoding(config, *, num_slots=8, capacity=2_048, read=512, num_steps=4, **changes):
  kind = {name: changes.pop(name) for name in ('written_out', 'mesh') if name in changes}
  slots = rollout.abstract_slots(
    config, num_slots=num_slots, capacity=capacity, mesh=kind.get('mesh'), **changes
  )
  return rollout.decode(
    config,
    slots,
    num_rows=num_slots,
    read=read,
    num_steps=num_steps,
    sampling=sampler.Sampling(),
    **kind,
  )


def bytes_of(tree):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('int8', [False, True])
def test_the_cache_is_updated_in_place(int8):
  """No copy of it: neither per step and layer nor per block, and what is read is a part."""
  config = fakes.config(num_hidden_layers=8)
  built = decoding(config, read=64, written_out=False, int8=int8)
  cache = bytes_of(built.abstract_args[1].past)
  memory = built.lower().compile().memory_analysis()
  assert memory.alias_size_in_bytes >= cache
  assert memory.temp_size_in_bytes < cache / 4


def test_written_out_layers_hold_one_copy_of_what_is_read():
  config = fakes.config(num_hidden_layers=8)
  built = decoding(config, read=512, written_out=True)
  cache = bytes_of(built.abstract_args[1].past)
  memory = built.lower().compile().memory_analysis()
  assert memory.alias_size_in_bytes >= cache
  assert memory.temp_size_in_bytes < 0.4 * cache  # a quarter of it is read


def test_a_32b_model_is_decoded_on_a_mesh_of_eight():
  """Lowered, not compiled: shapes and layouts fit together at the size of the paper."""
  config = config_lib.preset('32b')
  mesh = sharding.make_mesh((1, 2, 4))
  built = decoding(config, num_slots=32, capacity=16_384, read=1_024, mesh=mesh)
  assert 'module' in built.lower().as_text()[:200]
  past = built.abstract_args[1].past
  found = {x.sharding.shard_shape(x.shape) for x in (past.k, past.v)}
  assert found == {(64, 16, 2, 16_384, 128), (64, 16, 2, 128, 16_384)}


def test_parameters_are_cast_and_laid_out_for_decoding():
  config = dataclasses.replace(fakes.config(vocab_size=16), dtype=jnp.bfloat16)
  mesh = sharding.make_mesh((1, 2, 4))
  params = jax.device_put(fakes.params(config), sharding.shardings(config, mesh, sharding.TRAIN))
  for written_out in (False, True):
    found = rollout.reshard(config, written_out=written_out, mesh=mesh).jit()(params)
    announced = rollout.decode_params(config, written_out, mesh)
    assert jax.tree.structure(found) == jax.tree.structure(announced)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(announced), strict=True):
      assert (x.shape, x.dtype) == (y.shape, y.dtype)
      assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
