"""The program of writing is the engine, with its numbers bound."""

import jax
import jax.numpy as jnp
import numpy as np

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
