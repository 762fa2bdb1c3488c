"""config.json of Hugging Face's Qwen2 <-> `QwenConfig`, in the keys of transformers 4 and of 5."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lwz import jsonl
from lwz.model import config as config_lib
from lwz.model import yarn as yarn_lib

CAUSAL, SCALAR = 'Qwen2ForCausalLM', 'Qwen2ForSequenceClassification'
END = 151_643  # <|endoftext|>, bos and eos of the base models

# The sizes have the same name on both sides, and no default.
SIZES: dict[str, type | jsonl.Span] = {
  'vocab_size': jsonl.Span(int, 1, 10**7),
  'hidden_size': jsonl.Span(int, 1, 10**6),
  'intermediate_size': jsonl.Span(int, 1, 10**7),
  'num_hidden_layers': jsonl.Span(int, 1, 10**4),
  'num_attention_heads': jsonl.Span(int, 1, 10**4),
  'num_key_value_heads': jsonl.Span(int, 1, 10**4),
  'max_position_embeddings': jsonl.Span(int, 1, 10**9),
}
FIELDS: jsonl.Fields = SIZES | {
  'architectures': list,
  'dtype': str,
  'head_dim': jsonl.Span(int, 2, 10**4),
  'hidden_act': str,
  'initializer_range': jsonl.Span(float, 0, 10),
  'layer_types': list,
  'model_type': str,
  'quantization_config': dict,
  'rms_norm_eps': jsonl.Span(float, 1e-20, 1),
  'rope_parameters': dict,
  'rope_scaling': dict,
  'rope_theta': jsonl.Span(float, 2, 1e12),
  'tie_word_embeddings': bool,
  'torch_dtype': str,
  'use_sliding_window': bool,
}
ROPE_FIELDS: jsonl.Fields = {
  'attention_factor': jsonl.Span(float, 1e-3, 1e3),
  'beta_fast': jsonl.Span(float, 1e-3, 1e6),
  'beta_slow': jsonl.Span(float, 1e-3, 1e6),
  'factor': jsonl.Span(float, 1, 1e6),
  'original_max_position_embeddings': jsonl.Span(int, 1, 10**9),
  'partial_rotary_factor': float,
  'rope_theta': FIELDS['rope_theta'],
  'rope_type': str,
  'truncate': bool,
  'type': str,
}
DTYPES = ('float32', 'bfloat16', 'float16')
YARN = tuple(field.name for field in dataclasses.fields(yarn_lib.Yarn))


def read(path: pathlib.Path) -> tuple[config_lib.QwenConfig, np.dtype | None]:
  """The configuration, and the dtype that the file names (None where it names none).

  Both forms are read: `rope_theta` and `rope_scaling` or `rope_parameters`, `torch_dtype` or
  `dtype`.

  Raises FileNotFoundError if there is no such file; ValueError if it is not JSON, if a key is
  missing, if a value is of a kind or size that no model has, and if it asks for what
  `lwz.model.qwen` doesn't do, naming every such key.
  """
  if not path.exists():
    raise FileNotFoundError(
      f'{path}: missing, so this is no whole model; download or save it again'
    )
  raw = jsonl.document(path, remedy='download it again')
  raw = {key: value for key, value in raw.items() if value is not None}
  if faults := _misshapen(raw):
    raise ValueError(f'{path}: {"; ".join(faults)}; mend it, or download it again')
  rope = _rope(raw)
  eps_and_theta = {'rms_norm_eps': raw.get('rms_norm_eps'), 'rope_theta': rope.get('rope_theta')}
  sizes: dict[str, Any] = {key: raw.get(key) for key in SIZES} | eps_and_theta
  faults = [f'{key} is missing' for key, value in sizes.items() if value is None]
  if rope['rope_type'] == 'yarn' and rope.get('factor') is None:
    faults.append('rope_scaling.factor is missing')
  faults += _unsupported(raw, rope)
  if faults:
    raise ValueError(f'{path}: ' + '; '.join(faults))
  try:
    config = config_lib.QwenConfig(
      **sizes,
      head_dim=raw.get('head_dim') or raw['hidden_size'] // raw['num_attention_heads'],
      tie_word_embeddings=raw.get('tie_word_embeddings', False),
      initializer_range=raw.get('initializer_range', 0.02),
      rope_scaling=_yarn(rope),
      scalar_head=_architecture(raw) == SCALAR,
    )
  except (TypeError, ValueError) as error:
    raise ValueError(f'{path}: {error}') from error
  name = _dtype(raw)
  return config, None if name is None else jnp.dtype(name)


def end_ids(paths: Iterable[pathlib.Path]) -> tuple[int, ...]:
  """Returns the `eos_token_id`s of config.json and generation_config.json, one or several each.

  A file that is missing is left out. Raises ValueError if one holds something else.
  """
  found: dict[int, None] = {}
  for path in paths:
    if not path.exists():
      continue
    ids = _ends(raw := jsonl.document(path, remedy='download it again'))
    if faults := _no_ids(raw):
      raise ValueError(f'{path}: {faults[0]}; name the ids of tokens that end a text')
    found |= dict.fromkeys(ids)
  return tuple(found)


def _ends(raw: dict[str, Any]) -> list[Any]:
  ends = raw.get('eos_token_id')
  return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _no_ids(raw: dict[str, Any]) -> list[str]:
  span = jsonl.Span(int, 0, 10**7)
  return [f for i in _ends(raw) for f in jsonl.faults({'eos_token_id': i}, {'eos_token_id': span})]


def text(
  config: config_lib.QwenConfig,
  dtype: np.dtype,
  tokenizer: Any = None,
  ends: Sequence[int] = (),
) -> str:
  """config.json of a model whose tensors are of `dtype`; eos and bos are the tokenizer's.

  Several `ends`, the ids of all tokens that end a text, take the place of eos.

  Without a tokenizer they are Qwen2.5's <|endoftext|>, where the vocabulary has it. A tokenizer
  without bos, as Qwen2.5's, lends its padding token, which is the bos of the published models.
  """
  bos = eos = END if config.vocab_size > END else None
  if tokenizer is not None:
    eos = tokenizer.eos_token_id
    ids = (tokenizer.bos_token_id, tokenizer.pad_token_id, eos)
    bos = next((i for i in ids if i is not None), None)
  scaling = {}
  if config.rope_scaling is not None:
    said = {k: v for k, v in dataclasses.asdict(config.rope_scaling).items() if v is not None}
    scaling = {'rope_type': 'yarn', 'type': 'yarn'} | said
  raw: dict[str, Any] = {
    'architectures': [SCALAR if config.scalar_head else CAUSAL],
    'attention_dropout': 0.0,
    'bos_token_id': bos,
    'dtype': dtype.name,
    'eos_token_id': list(ends) if len(ends) > 1 else ends[0] if ends else eos,
    'head_dim': config.head_dim,
    'hidden_act': 'silu',
    'initializer_range': config.initializer_range,
    'max_window_layers': config.num_hidden_layers,
    'model_type': 'qwen2',
    'rms_norm_eps': config.rms_norm_eps,
    'rope_parameters': {'rope_theta': config.rope_theta, 'rope_type': 'default'} | scaling,
    'rope_theta': config.rope_theta,
    'tie_word_embeddings': config.tie_word_embeddings,
    'torch_dtype': dtype.name,
    'use_cache': True,
    'use_sliding_window': False,
  }
  raw |= {key: getattr(config, key) for key in SIZES}
  if scaling:
    raw['rope_scaling'] = scaling
  if config.scalar_head:  # their number of labels is the length of this table
    raw |= {'id2label': {'0': 'LABEL_0'}, 'label2id': {'LABEL_0': 0}}
  return json.dumps(raw, indent=2, sort_keys=True) + '\n'


def _misshapen(raw: dict[str, Any]) -> list[str]:
  """Returns sentences about values that no model has; a null counts as absent."""
  found = jsonl.faults(raw, FIELDS) + _no_ids(raw)
  for name in ('architectures', 'layer_types'):
    texts = raw.get(name, [])
    if isinstance(texts, list) and not all(isinstance(text, str) for text in texts):
      found.append(f'{name} is no list of texts')
  for name in ('rope_parameters', 'rope_scaling'):
    rope = raw.get(name)
    if isinstance(rope, dict):
      given = {key: value for key, value in rope.items() if value is not None}
      found += [f'{name}.{fault}' for fault in jsonl.faults(given, ROPE_FIELDS)]
  return found


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
  """RoPE in the new form: {'rope_theta', 'rope_type', ...}.

  Where a file has both forms, the old one is heard, as by transformers.
  """
  scaling = raw.get('rope_scaling') or {}
  new = raw.get('rope_parameters') or {}
  rope = {'rope_theta': new.get('rope_theta', raw.get('rope_theta'))} | (scaling or new)
  rope['rope_type'] = rope.get('rope_type') or rope.pop('type', None) or 'default'
  if rope['rope_type'] == 'yarn':
    rope.setdefault('original_max_position_embeddings', raw.get('max_position_embeddings'))
  return rope


def _yarn(rope: dict[str, Any]) -> yarn_lib.Yarn | None:
  if rope['rope_type'] != 'yarn':
    return None
  said = {key: rope[key] for key in YARN if rope.get(key) is not None}
  whole = ('original_max_position_embeddings', 'truncate')
  numbers: dict[str, Any] = {k: v if k in whole else float(v) for k, v in said.items()}
  return yarn_lib.Yarn(**numbers)


def _architecture(raw: dict[str, Any]) -> str:
  return (raw.get('architectures') or [CAUSAL])[0]


def _dtype(raw: dict[str, Any]) -> str | None:
  name = raw.get('dtype') or raw.get('torch_dtype')
  return None if name is None else str(name).removeprefix('torch.')


def _unsupported(raw: dict[str, Any], rope: dict[str, Any]) -> list[str]:
  """Returns sentences about what the file asks for and the model cannot do."""
  asked = {
    'model_type': (raw.get('model_type'), ('qwen2',)),
    'architectures': (_architecture(raw), (CAUSAL, SCALAR)),
    'hidden_act': (raw.get('hidden_act', 'silu'), ('silu',)),
    'dtype': (_dtype(raw), (None, *DTYPES)),
    'rope_type': (rope['rope_type'], ('default', 'yarn')),
    'partial_rotary_factor': (rope.get('partial_rotary_factor', 1.0), (1.0,)),
    'use_sliding_window': (bool(raw.get('use_sliding_window')), (False,)),
    'layer_types': (sorted(set(raw.get('layer_types') or ())), ([], ['full_attention'])),
    'quantization_config': (raw.get('quantization_config'), (None,)),
  }
  if rope['rope_type'] == 'yarn':  # DeepSeek's two
    asked |= {
      f'rope_scaling.{key}': (rope.get(key), (None,)) for key in ('mscale', 'mscale_all_dim')
    }
  return [
    f'{key} = {value!r} is not supported, only {" or ".join(map(repr, known))}'
    for key, (value, known) in asked.items()
    if value not in known
  ]
