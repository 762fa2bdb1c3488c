"""Adapters that PEFT reads, and that it saved: the same logits on both sides."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import lora as lora_lib
from lwz.model import qwen
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import peft as ours
from tests import fakes

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
peft = pytest.importorskip('peft')

# What transformers deprecates, PEFT still calls.
pytestmark = pytest.mark.filterwarnings('ignore:.*:FutureWarning')

# transformers' own rule, D = H C.
CONFIG = fakes.config(vocab_size=29, head_dim=4)
IDS = np.random.default_rng(0).integers(1, 29, (2, 11))


def logits(base, adapters, lora):
  joined = lora_lib.join(adapters, base, lora=lora)
  hidden = fakes.forward(joined, jnp.asarray(IDS), CONFIG)
  return np.asarray(qwen.lm_head(joined, hidden, CONFIG))


def their_logits(model):
  with torch.no_grad():
    return model(torch.tensor(IDS)).logits.float().numpy()


@pytest.fixture
def model(tmp_path):
  hf.save(tmp_path / 'base', CONFIG, fakes.params(CONFIG))
  return transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'base', dtype=torch.float32, attn_implementation='eager'
  ).eval()


@pytest.mark.parametrize('targets', [tuple(lora_lib.TARGETS), ('q', 'v')])
def test_peft_reads_ours(model, tmp_path, targets):
  lora = lora_lib.LoRA(3, 6.0, targets)
  own = fakes.adapters(CONFIG, lora)
  ours.save(tmp_path / 'adapters', CONFIG, lora, own, str(tmp_path / 'base'))
  adapted = peft.PeftModel.from_pretrained(model, tmp_path / 'adapters')
  expected = logits(fakes.params(CONFIG), own, lora)
  np.testing.assert_allclose(their_logits(adapted.eval()), expected, atol=2e-4)


@pytest.mark.parametrize('stabilised', [False, True])
def test_we_read_what_peft_saved(model, tmp_path, stabilised):
  modules = ['q_proj', 'o_proj', 'gate_proj', 'down_proj']
  asked = peft.LoraConfig(
    r=2, lora_alpha=5, target_modules=modules, use_rslora=stabilised, task_type='CAUSAL_LM'
  )
  adapted = peft.get_peft_model(model, asked)
  torch.manual_seed(0)
  with torch.no_grad():
    for name, parameter in adapted.named_parameters():
      if 'lora_' in name:
        parameter.copy_(0.3 * torch.randn(parameter.shape))
  adapted.save_pretrained(tmp_path / 'theirs')
  lora, found = ours.load(tmp_path / 'theirs', CONFIG)
  assert dataclasses.replace(lora, alpha=0.0) == lora_lib.LoRA(2, 0.0, ('q', 'o', 'gate', 'down'))
  expected = logits(fakes.params(CONFIG), found, lora)
  np.testing.assert_allclose(their_logits(adapted.eval()), expected, atol=2e-4)
