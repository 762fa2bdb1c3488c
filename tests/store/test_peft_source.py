"""Adapters in PEFT's form, made elsewhere, open as the model that they make of their base."""

import json
import os

import jax
import numpy as np
import pytest
import safetensors.numpy

from lwz.data import tokenizer
from lwz.model import sharding
from lwz.runtime import tokenizers
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import mapping, peft
from tests import fakes

CONFIG = fakes.config(vocab_size=14)
MODULES = {'v_proj': 'self_attn.v_proj', 'down_proj': 'mlp.down_proj'}


def make(folder, base, seed=0, rank=5, **changes):
  """Adapters of v and down by torch's rules: lora_A [rank, in], lora_B [out, rank] of a layer."""
  rng = np.random.default_rng(seed)
  shapes = {
    t.name.removesuffix('.weight'): t.shape for t in mapping.tensors(CONFIG) if t.layer is not None
  }
  tensors = {}
  for name, shape in shapes.items():
    if name.endswith(tuple(MODULES.values())):
      begin = f'base_model.model.{name}'
      for letter, size in (('A', (rank, shape[1])), ('B', (shape[0], rank))):
        tensors[f'{begin}.lora_{letter}.weight'] = rng.standard_normal(size).astype(np.float32)
  folder.mkdir(exist_ok=True)
  safetensors.numpy.save_file(tensors, folder / 'adapter_model.safetensors')
  said = {'peft_type': 'LORA', 'task_type': 'CAUSAL_LM', 'base_model_name_or_path': base, 'r': rank}
  said |= {'lora_alpha': 10, 'target_modules': list(MODULES), 'bias': 'none', 'use_dora': False}
  (folder / 'adapter_config.json').write_text(json.dumps(said | changes))
  return folder


def theirs(folder, base):
  """The tensors of a model's folder with W + alpha / rank B A, as torch has them."""
  weights = safetensors.numpy.load_file(base / 'model.safetensors')
  factors = safetensors.numpy.load_file(folder / 'adapter_model.safetensors')
  for name in weights:
    begin = f'base_model.model.{name.removesuffix(".weight")}'
    if f'{begin}.lora_A.weight' in factors:
      a, b = (factors[f'{begin}.lora_{letter}.weight'] for letter in 'AB')
      weights[name] = weights[name] + 10 / 5 * b @ a
  return weights


@pytest.fixture
def base(tmp_path):
  hf.save(tmp_path / 'base', CONFIG, fakes.params(CONFIG), ends=[3, 7])
  return tmp_path / 'base'


def load(source, mesh=None):
  return model_source.params(source, CONFIG, jax.random.key(0), mesh=mesh)


@pytest.mark.parametrize('mesh', [None, (1, 2, 2)])
def test_its_parameters_are_the_base_and_the_product(base, tmp_path, mesh):
  folder = make(tmp_path / 'adapters', str(base))
  over = mesh and sharding.make_mesh(mesh)
  hf.save(tmp_path / 'merged', CONFIG, load(folder, over))
  found = safetensors.numpy.load_file(tmp_path / 'merged' / 'model.safetensors')
  wanted = theirs(folder, base)
  assert found.keys() == wanted.keys()
  for name, tensor in wanted.items():
    np.testing.assert_allclose(found[name], tensor, atol=1e-5, err_msg=name)


def test_configuration_and_ends_are_those_of_the_base(base, tmp_path):
  folder = make(tmp_path / 'adapters', '../base')
  assert model_source.config(folder) == model_source.config(base)
  assert model_source.end_ids(folder) == model_source.end_ids(base) == (3, 7)


def test_adapters_may_change_what_adapters_have_made(base, tmp_path):
  first = make(tmp_path / 'first', str(base))
  second = make(tmp_path / 'second', str(first), seed=1)
  hf.save(tmp_path / 'merged', CONFIG, load(first))
  made = load(make(tmp_path / 'other', str(tmp_path / 'merged'), seed=1))
  jax.tree.map(np.testing.assert_array_equal, load(second), made)


def test_its_tokenizer_is_its_own_or_that_of_the_base(base, tmp_path):
  folder = make(tmp_path / 'adapters', str(base))
  tok = tokenizer.train(['the sea is wide'] * 9, 300)
  tokenizer.save(tok, base)
  assert model_source.tokenizer(folder) == str(base)
  assert tokenizers.load(folder).get_vocab() == tok.get_vocab()
  tokenizer.save(tok, folder)
  assert model_source.tokenizer(folder) == str(folder)


def test_a_whole_model_beside_adapters_is_the_model(base):
  assert peft.locate(base) is None
  make(base, 'org/other')
  assert peft.locate(base) is None
  jax.tree.map(np.testing.assert_array_equal, load(base), fakes.params(CONFIG))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'use_dora': True}, r'use_dora=True is not supported here; merge the adapters into'),
    ({'bias': 'all'}, r"bias='all' is not supported"),
    ({'alpha_pattern': {'v_proj': 3}}, r"alpha_pattern=\{'v_proj': 3\} is not supported"),
    ({'modules_to_save': ['lm_head']}, r"modules_to_save=\['lm_head'\] is not supported"),
    ({'init_lora_weights': 'pissa'}, r"init_lora_weights='pissa' is not supported"),
    ({'revision': 'v2'}, r"revision='v2' is not supported"),
    ({'base_model_name_or_path': None}, r'base_model_name_or_path is missing; write the folder'),
    ({'r': 0}, r'r = 0'),
    ({'lora_alpha': float('nan')}, r'lora_alpha = nan'),
  ],
)
def test_what_is_not_supported_is_said_before_weights_are_read(base, tmp_path, changes, message):
  folder = make(tmp_path / 'adapters', str(base), **changes)
  with pytest.raises(ValueError, match=message):
    model_source.config(folder)


def test_what_is_missing_is_named(base, tmp_path):
  folder = make(tmp_path / 'adapters', str(base))
  make(folder, str(folder))
  with pytest.raises(ValueError, match=r'base_model_name_or_path leads back to .*/adapters, so'):
    model_source.config(folder)
  make(folder, str(base))
  base.rename(tmp_path / 'elsewhere')
  with pytest.raises(FileNotFoundError, match=r'its adapters change .*base, which is not there'):
    model_source.config(folder)
  (tmp_path / 'elsewhere').rename(base)
  os.remove(folder / peft.WEIGHTS)
  with pytest.raises(FileNotFoundError, match=r'no adapter_model.safetensors beside'):
    model_source.config(folder)


@pytest.mark.parametrize('length', [2, 3])
def test_adapters_that_name_each_other_change_no_model(tmp_path, length):
  for number in range(length):
    make(tmp_path / f'{number}', str(tmp_path / f'{(number + 1) % length}'))
  make(tmp_path / 'beside', str(tmp_path / '0'))  # it leads to them, not back to itself
  for folder in (tmp_path / '0', tmp_path / 'beside'):
    for read in (model_source.config, model_source.end_ids, model_source.tokenizer, load):
      with pytest.raises(ValueError, match=r'leads back to .*/0, so .* change no model; name'):
        read(folder)


def test_adapters_of_some_layers_alone_are_to_be_merged(base, tmp_path):
  folder = make(tmp_path / 'adapters', str(base))
  tensors = safetensors.numpy.load_file(folder / peft.WEIGHTS)
  first = {name: tensor for name, tensor in tensors.items() if '.layers.0.' in name}
  safetensors.numpy.save_file(first, folder / peft.WEIGHTS)
  with pytest.raises(ValueError, match=r'every layer .* or merge .*\n .*layers\.1.* is missing'):
    model_source.config(folder)


def test_a_matrix_of_another_size_is_named(base, tmp_path):
  folder = make(tmp_path / 'adapters', str(base))
  other = fakes.config(vocab_size=14, intermediate_size=24)
  hf.save(base, other, fakes.params(other))
  with pytest.raises(ValueError, match=r'down_proj.lora_A.weight has shape \[5, 20\], not \[5, 24'):
    model_source.config(folder)
