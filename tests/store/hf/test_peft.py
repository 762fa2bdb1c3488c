"""Adapters in PEFT's form: its names, its shapes, its product."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lwz.model import lora as lora_lib
from lwz.model import sharding
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import peft
from tests import fakes

CONFIG = fakes.config(vocab_size=14)
LORA = lora_lib.LoRA(rank=3, alpha=6.0)


def own(lora=LORA, seed=1):
  return fakes.adapters(CONFIG, lora, seed)


@pytest.fixture
def folder(tmp_path):
  peft.save(tmp_path, CONFIG, LORA, own(), 'org/model')
  return tmp_path


def tensors_of(folder):
  return safetensors.numpy.load_file(folder / peft.WEIGHTS)


def edit(folder, **changes):
  path = folder / peft.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_names_and_shapes_are_those_of_peft(folder):
  """As peft 0.17 names them for Qwen2: torch's [out, in] of each factor."""
  found = {name: array.shape for name, array in tensors_of(folder).items()}
  begin = 'base_model.model.model.layers.1'
  assert len(found) == 2 * 7 * 2
  assert found[f'{begin}.self_attn.q_proj.lora_A.weight'] == (3, 16)
  assert found[f'{begin}.self_attn.q_proj.lora_B.weight'] == (24, 3)
  assert found[f'{begin}.self_attn.o_proj.lora_A.weight'] == (3, 24)
  assert found[f'{begin}.mlp.down_proj.lora_B.weight'] == (16, 3)
  said = json.loads((folder / peft.CONFIG).read_text())
  assert (said['peft_type'], said['r'], said['lora_alpha']) == ('LORA', 3, 6.0)
  assert said['target_modules'] == [
    *('down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj'),
  ]


def test_their_product_is_what_a_merged_model_adds(folder, tmp_path):
  """W + alpha / r B A in their files is our merged matrix in their form."""
  base = fakes.params(CONFIG)
  merged = lora_lib.merged(lora_lib.join(own(), base, lora=LORA), jnp.float32)
  hf.save(tmp_path / 'base', CONFIG, base)
  hf.save(tmp_path / 'merged', CONFIG, merged)
  before, after = (
    safetensors.numpy.load_file(tmp_path / name / 'model.safetensors')
    for name in ('base', 'merged')
  )
  factors, changed = tensors_of(folder), 0
  for name, weight in before.items():
    module = f'base_model.model.{name.removesuffix(".weight")}'
    if f'{module}.lora_A.weight' in factors:
      a, b = (factors[f'{module}.lora_{letter}.weight'] for letter in 'AB')
      weight, changed = weight + 2.0 * b @ a, changed + 1
    np.testing.assert_allclose(after[name], weight, atol=1e-6)
  assert changed == 14


@pytest.mark.parametrize('mesh', [None, (1, 2, 2)])
def test_what_was_saved_comes_back(folder, mesh):
  over = mesh and sharding.make_mesh(mesh)
  lora, found = peft.load(folder, CONFIG, over)
  assert lora == LORA
  jax.tree.map(np.testing.assert_array_equal, found, own())
  if over:
    assert not found['layers']['w_up']['a'].sharding.is_fully_replicated


def test_a_save_that_is_cut_short_leaves_no_adapters_of_another_scale(folder, monkeypatch):
  def die(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(peft.atomic, 'write_text', die)
  other = lora_lib.LoRA(rank=3, alpha=12.0)
  with pytest.raises(KeyboardInterrupt):
    peft.save(folder, CONFIG, other, own(other, seed=2), 'org/model')
  assert peft.locate(folder) is None


def test_targets_are_those_of_the_file(tmp_path):
  lora = lora_lib.LoRA(3, 6.0, ('q', 'down'))
  peft.save(tmp_path, CONFIG, lora, own(lora), 'org/model')
  assert peft.load(tmp_path, CONFIG)[0] == lora


def test_rank_stabilised_adapters_weigh_alpha_by_the_root_of_the_rank(folder):
  edit(folder, use_rslora=True)
  assert peft.load(folder, CONFIG)[0].scale == pytest.approx(6.0 / 3**0.5)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'use_dora': True}, 'use_dora=True is not supported'),
    ({'modules_to_save': ['lm_head']}, r"modules_to_save=\['lm_head'\] is not supported"),
    ({'peft_type': 'IA3'}, 'peft_type=IA3 is not supported'),
    ({'r': 4}, r'q_proj.lora_A.weight has shape \[3, 16\], not \[4, 16\]'),
    ({'r': '4'}, "r = '4' is no whole number"),
  ],
)
def test_what_this_model_cannot_do_is_named(folder, changes, message):
  edit(folder, **changes)
  with pytest.raises(ValueError, match=message):
    peft.load(folder, CONFIG)


def test_a_tensor_that_is_missing_or_strange_is_named(folder):
  found = tensors_of(folder)
  name = 'base_model.model.model.layers.0.mlp.up_proj.lora_B.weight'
  found['base_model.model.lm_head.lora_A.weight'] = found.pop(name)
  safetensors.numpy.save_file(found, folder / peft.WEIGHTS)
  with pytest.raises(ValueError, match=r'lm_head\.lora_A\.weight is no adapter') as raised:
    peft.load(folder, CONFIG)
  assert f'{name} is missing' in str(raised.value)
