"""config.json: both of its forms mean the same, and what we cannot compute is refused by name."""

import dataclasses
import json
import types

import jax.numpy as jnp
import pytest

from lwz.model import config as config_lib
from lwz.model import yarn
from lwz.store import run
from lwz.store.hf import config as hf_config

# As published with Qwen2.5-32B, written by transformers 4.
OLD = {
  'architectures': ['Qwen2ForCausalLM'],
  'attention_dropout': 0.0,
  'bos_token_id': 151643,
  'eos_token_id': 151643,
  'hidden_act': 'silu',
  'hidden_size': 5120,
  'initializer_range': 0.02,
  'intermediate_size': 27648,
  'max_position_embeddings': 131072,
  'max_window_layers': 64,
  'model_type': 'qwen2',
  'num_attention_heads': 40,
  'num_hidden_layers': 64,
  'num_key_value_heads': 8,
  'rms_norm_eps': 1e-05,
  'rope_theta': 1000000.0,
  'sliding_window': 131072,
  'tie_word_embeddings': False,
  'torch_dtype': 'bfloat16',
  'use_cache': True,
  'use_sliding_window': False,
  'vocab_size': 152064,
}
# The same from transformers 5.
NEW = {key: value for key, value in OLD.items() if key not in ('rope_theta', 'torch_dtype')} | {
  'dtype': 'bfloat16',
  'layer_types': ['full_attention'] * 64,
  'rope_parameters': {'rope_theta': 1000000.0, 'rope_type': 'default'},
  'sliding_window': None,
}


@pytest.fixture
def read(tmp_path):
  def read(raw):
    path = tmp_path / 'config.json'
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return hf_config.read(path)

  return read


def written(config, dtype='bfloat16', tokenizer=None):
  return json.loads(hf_config.text(config, jnp.dtype(dtype), tokenizer))


@pytest.mark.parametrize('raw', [OLD, NEW], ids=['old', 'new'])
def test_both_forms_are_the_32b(read, raw):
  assert read(raw) == (config_lib.preset('32b'), jnp.dtype('bfloat16'))


def test_a_number_without_a_point_is_a_float(read):
  found = read(OLD | {'rope_theta': 1_000_000})[0].rope_theta
  assert found == 1e6 and isinstance(found, float)


@pytest.mark.parametrize('size', config_lib.SIZES)
@pytest.mark.parametrize('scalar', [False, True])
@pytest.mark.parametrize('form', [('rope_theta', 'torch_dtype'), ('rope_parameters', 'dtype')])
def test_what_is_written_is_read_by_either_form_alone(read, size, scalar, form):
  config = dataclasses.replace(config_lib.preset(size), scalar_head=scalar, rope_theta=12_345.0)
  raw = written(config, 'float16')
  for key in form:
    del raw[key]
  found, dtype = read(raw)
  assert dataclasses.replace(found, dtype=config.dtype) == config
  assert dtype == jnp.dtype('float16')


def test_what_is_written_has_every_key_that_is_published():
  raw = written(config_lib.preset('32b'))
  different = {key for key in OLD if raw.get(key) != OLD[key]}
  assert different == {'sliding_window'}  # inert without use_sliding_window


def test_defaults_are_those_of_hugging_face(read):
  gone = ('tie_word_embeddings', 'initializer_range', 'hidden_act', 'torch_dtype', 'architectures')
  raw = {key: value for key, value in OLD.items() if key not in gone} | {'head_dim': None}
  assert read(raw) == (config_lib.preset('32b'), None)
  assert read(OLD | {'head_dim': 96})[0].head_dim == 96
  assert read(OLD | {'rope_scaling': None})[0] == config_lib.preset('32b')
  assert read(OLD | {'torch_dtype': 'torch.float32'})[1] == jnp.dtype('float32')


UNSUPPORTED = {
  "model_type = 'mistral'": {'model_type': 'mistral'},
  "architectures = 'Qwen2ForCausalLM'": {'model_type': 'qwen3'},
  "architectures = 'Qwen2ForProcessRewardModel'": {'architectures': ['Qwen2ForProcessRewardModel']},
  'use_mrope = True': {'use_mrope': True},
  'num_experts = 60': {'num_experts': 60},
  'is_causal = False': {'is_causal': False},
  'attention_bias = False': {'attention_bias': False},
  'mlp_bias = True': {'mlp_bias': True},
  "dual_chunk_attention_config = {'chunk_size': 262144}": {
    'dual_chunk_attention_config': {'chunk_size': 262144}
  },
  'attn_logit_softcapping = 50.0': {'attn_logit_softcapping': 50.0},
  'rope_scaling.mrope_section = [16, 24]': {
    'rope_scaling': {'type': 'default', 'mrope_section': [16, 24]}
  },
  "architectures = 'Qwen2ForRewardModel'": {'architectures': ['Qwen2ForRewardModel']},
  "hidden_act = 'gelu'": {'hidden_act': 'gelu'},
  "rope_type = 'longrope'": {'rope_scaling': {'type': 'longrope', 'factor': 4.0}},
  'rope_scaling.mscale = 0.7': {'rope_scaling': {'type': 'yarn', 'factor': 4.0, 'mscale': 0.7}},
  "rope_type = 'dynamic'": {'rope_scaling': {'rope_type': 'dynamic', 'factor': 4.0}},
  "rope_type = 'linear'": {'rope_parameters': {'rope_type': 'linear', 'rope_theta': 1e6}},
  'partial_rotary_factor = 0.5': {
    'rope_parameters': {'partial_rotary_factor': 0.5, 'rope_theta': 1e6}
  },
  'use_sliding_window = True': {'use_sliding_window': True},
  'partial_rotary_factor = 0.25': {'partial_rotary_factor': 0.25},
  "layer_types = ['full_attention', 'sliding_attention']": {
    'layer_types': ['full_attention', 'sliding_attention']
  },
  "dtype = 'float8_e4m3fn'": {'torch_dtype': 'float8_e4m3fn'},
  "quantization_config = {'bits': 4}": {'quantization_config': {'bits': 4}},
}


@pytest.mark.parametrize('fault, changes', UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_what_the_model_cannot_do_is_refused_by_name(read, tmp_path, fault, changes):
  with pytest.raises(ValueError) as caught:
    read(OLD | changes)
  assert str(caught.value).startswith(f'{tmp_path / "config.json"}: {fault} is not supported')


# As published: Qwen3-0.6B-Base and Llama-3.2-1B, what differs from `OLD` in kind.
QWEN3 = {key: value for key, value in OLD.items() if key != 'sliding_window'} | {
  **{'architectures': ['Qwen3ForCausalLM'], 'model_type': 'qwen3', 'attention_bias': False},
  **{'head_dim': 128, 'hidden_size': 1024, 'intermediate_size': 3072, 'max_window_layers': 28},
  **{'num_attention_heads': 16, 'num_hidden_layers': 28, 'rms_norm_eps': 1e-6},
  **{'max_position_embeddings': 32768, 'vocab_size': 151936, 'tie_word_embeddings': True},
}
LLAMA = {key: OLD[key] for key in OLD if 'window' not in key} | {
  **{'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'attention_bias': False},
  **{'mlp_bias': False, 'pretraining_tp': 1, 'rope_theta': 500000.0},
  'rope_scaling': {
    **{'factor': 32.0, 'high_freq_factor': 4.0, 'low_freq_factor': 1.0, 'rope_type': 'llama3'},
    'original_max_position_embeddings': 8192,
  },
}


def test_families_are_told_by_their_type_and_written_as_such(read):
  qwen3, llama = read(QWEN3)[0], read(LLAMA)[0]
  assert qwen3 == config_lib.preset('qwen3-0.6b')
  assert read({k: v for k, v in QWEN3.items() if k != 'head_dim'})[0].head_dim == 128
  assert (llama.qkv_bias, llama.qk_norm, llama.head_dim) == (False, False, 128)
  assert llama.rope_scaling == yarn.Llama3(32.0, 1.0, 4.0, 8_192)
  assert llama.num_positions == 131_072  # the scaling is within them
  for config, raw in ((qwen3, QWEN3), (llama, LLAMA)):
    again = written(config)
    assert read(again)[0] == config
    assert {key for key in raw if again.get(key) != raw[key]} <= {'pretraining_tp', 'rope_scaling'}
    assert ('max_window_layers' in again) == ('max_window_layers' in raw)
  old = {k: v for k, v in LLAMA.items() if k not in ('rope_theta', 'rope_scaling')}
  assert read(old)[0].rope_theta == 10_000  # as of the first of them
  del old['num_key_value_heads']
  assert read(old)[0].num_key_value_heads == LLAMA['num_attention_heads']


@pytest.mark.parametrize(
  'raw, fault',
  [
    (QWEN3 | {'attention_bias': True}, 'attention_bias = True is not supported'),
    (QWEN3 | {'layer_types': ['sliding_attention']}, 'layer_types = '),
    (LLAMA | {'attention_bias': True}, 'attention_bias = True is not supported'),
    (LLAMA | {'mlp_bias': True}, 'mlp_bias = True is not supported'),
    (LLAMA | {'sliding_window': 4096}, 'sliding_window = 4096 is not supported'),
    (LLAMA | {'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0}}, 'low_freq_factor is mis'),
    (LLAMA | {'rope_scaling': LLAMA['rope_scaling'] | {'low_freq_factor': 8}}, 'must exceed'),
  ],
)
def test_what_a_family_cannot_do_is_refused_by_name(read, raw, fault):
  with pytest.raises(ValueError, match=f'config.json: .*{fault}'):
    read(raw)


YARN = {'factor': 4.0, 'original_max_position_embeddings': 32_768}
STRETCHED = {
  'as the model cards say': (OLD | {'rope_scaling': YARN | {'type': 'yarn'}}, {}),
  'under its later name': (OLD | {'rope_scaling': YARN | {'rope_type': 'yarn'}}, {}),
  'new': (NEW | {'rope_parameters': YARN | {'rope_type': 'yarn', 'rope_theta': 1e6}}, {}),
  'both, and the old one is heard': (NEW | {'rope_scaling': YARN | {'type': 'yarn'}}, {}),
  'with numbers of its own': (
    OLD | {'rope_scaling': YARN | {'type': 'yarn', 'beta_fast': 16, 'attention_factor': 1.5}},
    {'beta_fast': 16.0, 'attention_factor': 1.5},
  ),
  'trained to the length of the model': (
    OLD | {'rope_scaling': {'type': 'yarn', 'factor': 4.0}},
    {'original_max_position_embeddings': 131_072},
  ),
  'with a null, which counts as absent': (
    OLD | {'rope_scaling': YARN | {'type': 'yarn', 'partial_rotary_factor': None}},
    {},
  ),
}


@pytest.mark.parametrize('raw, changes', STRETCHED.values(), ids=STRETCHED)
def test_yarn_is_read_in_every_form_and_written_in_both(read, raw, changes):
  expected = dataclasses.replace(
    config_lib.preset('32b'), rope_scaling=yarn.Yarn(**(YARN | changes))
  )
  assert read(raw)[0] == expected
  again = written(expected)
  assert read(again)[0] == expected
  del again['rope_scaling']
  assert read(again)[0] == expected


@pytest.mark.parametrize(
  'scaling, fault',
  [
    ({'type': 'yarn'}, 'rope_scaling.factor is missing'),
    ({'type': 'yarn', 'factor': 0.5}, 'rope_scaling.factor = 0.5 is outside'),
    ({'type': 'yarn', 'factor': 2.0, 'beta_fast': 1}, 'beta_fast=1.0 must exceed beta_slow=1.0'),
    ({'type': 'yarn', 'factor': 2.0, 'original_max_position_embeddings': 0}, '= 0 is outside of 1'),
  ],
)
def test_a_yarn_that_cannot_be_is_refused(read, scaling, fault):
  with pytest.raises(ValueError, match=f'config.json: .*{fault}'):
    read(OLD | {'rope_scaling': scaling})


def test_every_missing_key_is_named(read):
  raw = {k: v for k, v in OLD.items() if k not in ('vocab_size', 'rms_norm_eps', 'rope_theta')}
  with pytest.raises(ValueError, match=r'vocab_size is .*; rms_norm_eps is .*; rope_theta is'):
    read(raw | {'use_sliding_window': True})


@pytest.mark.parametrize(
  'raw, fault',
  [
    ('{', 'not JSON'),
    ('[]', 'expected a JSON object, found list'),
    (OLD | {'num_key_value_heads': 3}, 'multiple'),
  ],
)
def test_a_broken_file_is_named(read, tmp_path, raw, fault):
  with pytest.raises(ValueError, match=f'config.json: .*{fault}'):
    read(raw)


@pytest.mark.parametrize(
  'ids, bos, eos',
  [
    ((None, 151_643, 151_643), 151_643, 151_643),  # Qwen2.5 base
    ((None, 151_643, 151_645), 151_643, 151_645),  # Qwen2.5 instruct
    ((7, 8, 9), 7, 9),
    ((None, None, 9), 9, 9),
  ],
)
def test_bos_and_eos_are_the_tokenizer_s(ids, bos, eos):
  names = ('bos_token_id', 'pad_token_id', 'eos_token_id')
  tokenizer = types.SimpleNamespace(**dict(zip(names, ids, strict=True)))
  raw = written(config_lib.preset('32b'), tokenizer=tokenizer)
  assert (raw['bos_token_id'], raw['eos_token_id']) == (bos, eos)


def test_without_a_tokenizer_eos_is_qwen_s_where_the_vocabulary_has_it():
  raw = written(config_lib.preset('0.5b'))
  assert raw['bos_token_id'] == raw['eos_token_id'] == 151_643
  raw = written(config_lib.preset('tiny'))
  assert raw['bos_token_id'] is raw['eos_token_id'] is None


SIZES = list(hf_config.SIZES)
NO_SIZE = ['2', 2.5, 2.0, 0, -1, 10**10, 10**400, True, [2], {}, float('nan'), float('inf')]
NO_NUMBER = ['1e-6', -1e-6, 0, True, [1e-6], {}, float('nan'), float('inf'), 10**400]
# A value of every kind that a key's own kind is not; null counts as absent.
MISSHAPEN = [
  *[(key, value) for key in (*SIZES, 'head_dim') for value in NO_SIZE],
  *[(key, value) for key in ('rms_norm_eps', 'rope_theta') for value in NO_NUMBER],
  *[('initializer_range', value) for value in ('0.02', -1, float('inf'), [])],
  *[('tie_word_embeddings', value) for value in ('no', 'false', 0, 1, [], {})],
  *[('use_sliding_window', value) for value in ('no', 1, [])],
  *[('architectures', value) for value in ({}, 'Qwen2ForCausalLM', [1], [None], [[]], 7)],
  *[('rope_scaling', value) for value in ([1], 'yarn', 4.0, True)],
  *[('rope_parameters', value) for value in ([], 'default', 1)],
  *[('layer_types', value) for value in ('full_attention', {}, [1], [['full_attention']])],
  *[
    (key, value)
    for key in ('torch_dtype', 'dtype', 'hidden_act', 'model_type')
    for value in ([], 1)
  ],
  *[('quantization_config', value) for value in ([], 'gptq', 4)],
]


@pytest.mark.parametrize('key, value', MISSHAPEN, ids=lambda x: repr(x)[:30])
def test_a_value_that_no_model_has_is_refused_by_its_key(read, key, value):
  with pytest.raises(ValueError, match=rf'config\.json: .*{key}') as caught:
    read(OLD | {key: value})
  assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
  'key, value',
  [
    *[('factor', value) for value in ('4', [], True, float('inf'), 10**400, -1)],
    *[('original_max_position_embeddings', value) for value in ('32768', 2.5, -1, 10**400)],
    *[('beta_fast', value) for value in ('32', float('nan'), [])],
    *[('attention_factor', value) for value in (0, '1', float('inf'))],
    *[('truncate', value) for value in ('no', 1)],
    *[('rope_type', value) for value in (1, [], {})],
  ],
  ids=lambda x: repr(x)[:30],
)
def test_a_yarn_of_another_shape_is_refused_by_its_key(read, key, value):
  scaling = {'rope_type': 'yarn', 'factor': 4.0, key: value}
  with pytest.raises(ValueError, match=rf'config\.json: .*rope_scaling\.{key} = '):
    read(OLD | {'rope_scaling': scaling})


@pytest.mark.parametrize(
  'raw', ['', 'null', '7', '"x"', '[' * 100_000, '{"a":' * 100_000, '{"a": ' + '9' * 5_000 + '}']
)
def test_a_file_that_holds_no_object_is_refused(read, raw):
  with pytest.raises(ValueError, match=r'config\.json: .*; download it again'):
    read(raw)


def test_the_config_of_a_run_without_a_model_is_told_from_that_of_a_model(tmp_path):
  opened = run.open_run(tmp_path, {}, identity=run.Identity(lambda key: True), command=[])
  opened.close()
  with pytest.raises(ValueError, match=r'config\.json: is of a run that has no model'):
    hf_config.read(tmp_path / 'config.json')
