"""Models that transformers saved, and that it loads: the same logits on both sides."""

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import qwen
from lwz.model.attention import decode as decode_attention
from lwz.programs import rollout as program
from lwz.rollout import local, sampler
from lwz.rollout import spec as spec_lib
from lwz.store.hf import checkpoint as hf
from tests import fakes

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

SIZES = {
  'vocab_size': 29,
  'hidden_size': 16,
  'intermediate_size': 24,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 8_192,
  'rope_theta': 1e6,
  'tie_word_embeddings': False,
}


def theirs(kind='ForCausalLM', dtype=torch.float32, family='Qwen2', **changes):
  """A random model of theirs, in which no bias is 0 and no norm's weight is 1."""
  torch.manual_seed(0)
  config = getattr(transformers, family + 'Config')(
    **(SIZES | changes), num_labels=1, pad_token_id=0, attn_implementation='eager'
  )
  model = getattr(transformers, family + kind)(config)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.copy_(0.3 * torch.randn(parameter.shape) + ('norm' in name))
  return model.to(dtype).eval()


def ids_of(num_tokens, seed=0):
  return np.random.default_rng(seed).integers(1, SIZES['vocab_size'], (1, num_tokens))


def logits_of(model, ids):
  with torch.no_grad():
    return model(torch.tensor(ids)).logits.float().numpy()


def logits(params, config, ids):
  hidden = fakes.forward(params, jnp.asarray(ids), config)
  return np.asarray(
    (qwen.score_head if config.scalar_head else qwen.lm_head)(params, hidden, config)
  )


def tensors_of(model):
  state = {name: value.contiguous() for name, value in model.state_dict().items()}
  return {name: (str(t.dtype), t.view(torch.uint8).numpy().tobytes()) for name, t in state.items()}


CASES = {
  'two heads share keys': {},
  'each head has its own keys': {'num_key_value_heads': 4},
  'all heads share keys': {'num_key_value_heads': 1},
  'seven share, heads wider than the model': {'num_attention_heads': 14, 'head_dim': 6},
  'tied': {'tie_word_embeddings': True},
  'theta of 100': {'rope_theta': 100.0},
  'a large eps': {'rms_norm_eps': 0.05},
  'yarn': {
    'rope_theta': 100.0,
    'rope_scaling': {
      'rope_type': 'yarn',
      'factor': 4.0,
      'original_max_position_embeddings': 512,
    },
  },
  'norms of q and k, heads wider than the model': {'family': 'Qwen3', 'head_dim': 10},
  'norms of q and k, heads narrower, tied': {
    **{'family': 'Qwen3', 'head_dim': 2, 'num_key_value_heads': 4},
    'tie_word_embeddings': True,
  },
  'no biases': {'family': 'Llama'},
  'no biases, heads wider than the model, tied': {
    **{'family': 'Llama', 'head_dim': 6, 'num_attention_heads': 8},
    'tie_word_embeddings': True,
  },
  'scaled as Llama 3 is': {
    'family': 'Llama',
    'head_dim': 16,
    'rope_theta': 100.0,
    'rope_scaling': {
      **{'rope_type': 'llama3', 'factor': 8.0, 'original_max_position_embeddings': 64},
      **{'low_freq_factor': 1.0, 'high_freq_factor': 4.0},
    },
  },
  'yarn with numbers of its own': {
    'rope_scaling': {
      'rope_type': 'yarn',
      'factor': 2.5,
      'original_max_position_embeddings': 64,
      'attention_factor': 1.2,
      'beta_fast': 8.0,
      'beta_slow': 0.5,
      'truncate': False,
    },
  },
}


@pytest.mark.parametrize('changes', CASES.values(), ids=CASES)
def test_there_and_back(tmp_path, changes):
  model = theirs(**changes)
  model.save_pretrained(tmp_path / 'theirs')
  config, params = hf.load(tmp_path / 'theirs')
  ids = ids_of(24)
  expected = logits_of(model, ids)
  assert config.dtype == jnp.float32 and np.abs(expected).max() > 1
  np.testing.assert_allclose(logits(params, config, ids), expected, atol=1e-4)
  hf.save(tmp_path / 'ours', config, params)
  again = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'ours', attn_implementation='eager'
  )
  assert type(again) is type(model) and again.dtype == torch.float32
  assert tensors_of(again) == tensors_of(model)
  np.testing.assert_array_equal(logits_of(again, ids), expected)


DECODED = [
  *[('Qwen2', backend) for backend in ('xla', 'triton')],
  *[('Qwen3', backend) for backend in decode_attention.BACKENDS],
  *[('Llama', backend) for backend in decode_attention.BACKENDS],
]


@pytest.mark.parametrize('family, backend', DECODED, ids=lambda x: x)
def test_what_is_written_with_a_cache_is_as_likely_to_them(tmp_path, family, backend):
  model = theirs(family=family, head_dim=16)
  model.save_pretrained(tmp_path)
  config, params = hf.load(tmp_path)
  sampling = sampler.Sampling(num_ids=config.vocab_size)
  spec = spec_lib.EngineSpec(config, 2, 8, 12, sampling, exact=True, num_steps=4, attention=backend)
  engine = program.engine(spec)
  prompts = [ids_of(n, seed=n)[0].astype(np.int32) for n in (8, 5)]
  asked = local.requests(prompts, num_samples=1, max_tokens=12, seed=0, step=0)
  for written in local.stream(engine, engine.reshard(params), asked, decode=str):
    prompt = prompts[written.index]
    ids = np.concatenate([prompt, written.ids])[None].astype(int)
    logp = torch.log_softmax(torch.tensor(logits_of(model, ids)[0]), -1).numpy()
    expected = logp[np.arange(len(prompt) - 1, ids.shape[1] - 1), written.ids]
    np.testing.assert_allclose(written.logp, expected, atol=1e-4)


@pytest.mark.parametrize('changes', [{}, CASES['yarn']], ids=['plain', 'yarn'])
def test_far_positions_agree(tmp_path, changes):
  model = theirs(num_hidden_layers=1, **changes)
  model.save_pretrained(tmp_path)
  config, params = hf.load(tmp_path, dtype=jnp.float32)
  ids = ids_of(4_100)
  np.testing.assert_allclose(logits(params, config, ids), logits_of(model, ids), atol=1e-4)


def test_in_bfloat16_and_in_many_files(tmp_path):
  model = theirs(dtype=torch.bfloat16)
  model.save_pretrained(tmp_path / 'theirs', max_shard_size=2_000)
  assert len(list((tmp_path / 'theirs').glob('*.safetensors'))) > 3
  config, params = hf.load(tmp_path / 'theirs')
  assert config.dtype == params['layers']['wq'].dtype == jnp.bfloat16
  hf.save(tmp_path / 'ours', config, params, shard_bytes=3_000)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours')
  assert again.dtype == torch.bfloat16
  assert tensors_of(again) == tensors_of(model)
  exact, wide = hf.load(tmp_path / 'theirs', dtype=jnp.float32)
  ids = ids_of(24)
  np.testing.assert_allclose(logits(wide, exact, ids), logits_of(model.float(), ids), atol=1e-4)


@pytest.mark.parametrize(
  'tied, family', [(False, 'Qwen2'), (True, 'Qwen2'), (False, 'Qwen3'), (True, 'Llama')]
)
def test_a_reward_model_there_and_back(tmp_path, tied, family):
  kind = 'ForSequenceClassification'
  model = theirs(kind, tie_word_embeddings=tied, family=family)
  model.save_pretrained(tmp_path / 'theirs')
  config, params = hf.load(tmp_path / 'theirs')
  ids = ids_of(24)
  expected = logits_of(model, ids)[:, 0]
  assert config.scalar_head and params['score'].shape == (16,)
  np.testing.assert_allclose(logits(params, config, ids)[:, -1], expected, atol=1e-4)
  hf.save(tmp_path / 'ours', config, params)
  again = transformers.AutoModelForSequenceClassification.from_pretrained(
    tmp_path / 'ours', attn_implementation='eager'
  )
  assert again.num_labels == 1 and tensors_of(again) == tensors_of(model)
  np.testing.assert_array_equal(logits_of(again, ids)[:, 0], expected)
