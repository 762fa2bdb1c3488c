"""A run of adapters opens as the model that they make of their base, and of no other."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz import types
from lwz.model import lora as lora_lib
from lwz.store import adapters, checkpoint, model_source
from lwz.store.hf import checkpoint as hf
from tests import fakes

CONFIG = fakes.config(vocab_size=14)
LORA = lora_lib.LoRA(rank=3, alpha=6.0)
KEY = jax.random.key(0)


def own(seed=1):
  return fakes.adapters(CONFIG, LORA, seed)


def make(folder, base, params, seed=1, lora=LORA):
  """A run's folder with adapters of these parameters, whose source is `base`."""
  folder.mkdir()
  model_source.keep(folder, CONFIG)
  adapters.keep(folder, adapters.of(lora, base, params))
  saved = checkpoint.Checkpoints(folder)
  saved.save(1, types.TrainState(jnp.int32(1), own(seed), ()), {'step': 1})
  saved.close()
  return folder


def load(source, dtype=jnp.float32):
  return model_source.params(source, CONFIG, KEY, dtype=dtype)


@pytest.fixture
def run(tmp_path):
  hf.save(tmp_path / 'base', CONFIG, fakes.params(CONFIG))
  return make(tmp_path / 'run', '../base', fakes.params(CONFIG))


def merged(base, seed=1, dtype=jnp.float32):
  return lora_lib.merged(lora_lib.join(own(seed), base, lora=LORA), dtype)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_its_parameters_are_the_base_and_the_adapters(run, dtype):
  found, wanted = load(run, dtype), merged(fakes.params(CONFIG), dtype=dtype)
  assert fakes.shapes(found) == fakes.shapes(wanted)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize('kind', [pytest.param('int8', marks=pytest.mark.slow), 'int4'])
def test_a_quantised_base_is_made_again_as_the_run_has_kept_it(run, tmp_path, kind):
  lora = dataclasses.replace(LORA, frozen=kind)
  again = make(tmp_path / kind, '../base', fakes.params(CONFIG), lora=lora)
  bases = [adapters.freeze(fakes.params(CONFIG), CONFIG, lora, None) for _ in range(2)]
  jax.tree.map(np.testing.assert_array_equal, *bases)
  wanted = merged(bases[0])
  jax.tree.map(np.testing.assert_array_equal, load(again), wanted)
  assert float(jnp.abs(wanted['layers']['wq'] - merged(fakes.params(CONFIG))['layers']['wq']).max())


def test_a_reward_model_opens_with_the_head_that_was_trained(run):
  """Of a base without one a new head is sampled each time, which is no part of its checksum."""
  model = dataclasses.replace(CONFIG, scalar_head=True)
  base = model_source.params(run.parent / 'base', model, jax.random.key(5))
  own = fakes.adapters(model, LORA)
  folder = run.parent / 'reward'
  folder.mkdir()
  model_source.keep(folder, model)
  adapters.keep(folder, adapters.of(LORA, '../base', base))
  saved = checkpoint.Checkpoints(folder)
  saved.save(1, types.TrainState(jnp.int32(1), own, ()), {'step': 1})
  saved.close()
  found = model_source.params(folder, model, jax.random.key(6))
  np.testing.assert_array_equal(found['score'], own['score'])
  wanted = lora_lib.merged(lora_lib.join(own, base, lora=LORA), jnp.float32)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_folder_of_before_quantised_bases_is_read(run):
  path = run / adapters.KEPT
  said = json.loads(path.read_text())
  assert said.pop('frozen') == 'float'
  path.write_text(json.dumps(said))
  assert adapters.read(run).lora == LORA
  path.write_text(json.dumps(said | {'frozen': 'int3'}))
  with pytest.raises(ValueError, match=r"frozen = 'int3' is none of float, int8, int4"):
    adapters.read(run)


def test_adapters_may_change_a_run_of_adapters(run, tmp_path):
  first = merged(fakes.params(CONFIG))
  second = make(tmp_path / 'second', '../run', first, seed=2)
  jax.tree.map(np.testing.assert_array_equal, load(second), merged(first, seed=2))


def test_another_base_is_refused(run, tmp_path):
  hf.save(tmp_path / 'base', CONFIG, fakes.params(CONFIG, seed=5))
  with pytest.raises(ValueError, match=r'its adapters change .*base, which holds other weights'):
    load(run)


def test_a_base_that_is_gone_is_named(run, tmp_path):
  (tmp_path / 'base').rename(tmp_path / 'elsewhere')
  with pytest.raises(FileNotFoundError, match=r'its adapters change .*base, which is not there'):
    load(run)


def test_its_folders_may_be_moved_together(run, tmp_path):
  (tmp_path / 'other').mkdir()
  for name in ('base', 'run'):
    (tmp_path / name).rename(tmp_path / 'other' / name)
  load(tmp_path / 'other' / 'run')


def test_its_checkpoint_holds_no_base(run):
  with pytest.raises(ValueError, match=r'embed: absent saved'):
    checkpoint.load_params(run, fakes.abstract(CONFIG))
