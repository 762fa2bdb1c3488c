"""Our engine behind the interface of a writer: prompts of any length in, trajectories out."""

import jax.numpy as jnp
import numpy as np
import pytest

from lwz import types
from lwz.programs import rollout as program
from lwz.rollout import local, sampler
from tests import fakes

CONFIG = fakes.config()
PARAMS = fakes.params(CONFIG)
GENERATE = program.generate(
  CONFIG,
  num_prompts=2,
  num_samples=3,
  max_prompt_tokens=5,
  max_tokens=7,
  temperature=0.9,
  stop_id=4,
).jit()


def write(prompts, **changes):
  settings = {'num_samples': 3, 'max_prompt_tokens': 5, 'seed': 1, 'step': 2} | changes
  return local.write(GENERATE, PARAMS, prompts, **settings)


def test_prompts_are_padded_and_every_row_has_the_key_that_names_it():
  prompts = fakes.texts([2, 5], CONFIG)
  found = write(prompts)
  keys = sampler.trajectory_keys(1, 2, jnp.repeat(jnp.arange(2), 3), jnp.tile(jnp.arange(3), 2))
  direct = GENERATE(PARAMS, fakes.padded(prompts), np.array([2, 5], np.int32), keys)
  for name in ('ids', 'logp', 'lengths', 'finished'):
    array = getattr(found, name)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, getattr(direct, name))
  assert len({tuple(row) for row in found.ids.tolist()}) > 3


def test_seed_and_step_name_the_draws():
  prompts = fakes.texts([2, 5], CONFIG)
  first = write(prompts).ids
  np.testing.assert_array_equal(write(prompts).ids, first)
  assert (write(prompts, seed=2).ids != first).any() and (write(prompts, step=3).ids != first).any()


@pytest.mark.parametrize('length', [0, 6])
def test_a_prompt_that_does_not_fit_is_named(length):
  with pytest.raises(ValueError, match=rf'prompt 1 has {length} tokens.*max_prompt_tokens=5'):
    write(fakes.texts([2, length], CONFIG))


def test_texts_are_cut_at_their_length_and_lose_the_stop_token_alone():
  rollout = types.Rollout(
    ids=np.array([[1, 2, 9, 9], [1, 2, 3, 4], [9, 9, 9, 9], [1, 2, 3, 9]]),
    logp=np.zeros((4, 4), np.float32),
    lengths=np.array([3, 4, 1, 4], np.int32),
    finished=np.array([True, False, True, True]),
  )
  texts = local.decode(rollout, lambda batch: [''.join(map(str, ids)) for ids in batch])
  assert texts == ['12', '1234', '', '123']
