"""config.json of Hugging Face's Qwen2, Qwen3 and Llama <-> `QwenConfig`.

In the keys of transformers 4 and of 5.
"""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lwz import jsonl
from lwz.model import config as config_lib
from lwz.store.hf import rope as rope_lib

# model_type, begin of the architecture's name, qkv_bias, qk_norm.
FAMILIES = (
  ('qwen2', 'Qwen2', True, False),
  ('qwen3', 'Qwen3', False, True),
  ('llama', 'Llama', False, False),
)
CAUSAL, SCALAR = 'ForCausalLM', 'ForSequenceClassification'
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
  'rope_theta': rope_lib.THETA,
  'tie_word_embeddings': bool,
  'torch_dtype': str,
  'sliding_window': int,
  'use_sliding_window': bool,
}
# Options of other models, with the values that change nothing; an absent one changes nothing.
INERT: dict[str, tuple[Any, ...]] = {
  **dict.fromkeys(('attention_bias', 'mlp_bias', 'use_mrope', 'qk_layernorm'), (False,)),
  **dict.fromkeys(('use_bidirectional_attention', 'rope_interleave'), (False,)),
  **dict.fromkeys(('num_experts', 'num_local_experts', 'n_routed_experts'), (0,)),
  **dict.fromkeys(('attn_logit_softcapping', 'final_logit_softcapping', 'clip_qkv'), ()),
  **dict.fromkeys(('dual_chunk_attention_config', 'quantization_config'), ()),
  **dict.fromkeys(('embedding_multiplier', 'residual_multiplier', 'logits_scaling'), (1.0,)),
  **dict.fromkeys(('partial_rotary_factor', 'logit_scale'), (1.0,)),
  'is_causal': (True,),
  'no_rope_layers': ([],),
  'use_sliding_window': (False,),
}
DTYPES = ('float32', 'bfloat16', 'float16')


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
  if {'config', 'command', 'versions'} <= raw.keys():  # see `store.run`, whose file has this name
    raise ValueError(f'{path}: is of a run that has no model, or none yet; name another source')
  return parse(raw, path)


def parse(raw: dict[str, Any], path: pathlib.Path) -> tuple[config_lib.QwenConfig, np.dtype | None]:
  """`read` of what a file says in the keys of a config.json; `path` is named in errors."""
  raw = {key: value for key, value in raw.items() if value is not None}
  if faults := _misshapen(raw):
    raise ValueError(f'{path}: {"; ".join(faults)}; mend it, or download it again')
  if raw.get('model_type') == 'llama':  # the first of them have as many of both
    raw = {'num_key_value_heads': raw.get('num_attention_heads')} | raw
  rope = rope_lib.read(raw)
  eps_and_theta = {'rms_norm_eps': raw.get('rms_norm_eps'), 'rope_theta': rope.get('rope_theta')}
  sizes: dict[str, Any] = {key: raw.get(key) for key in SIZES} | eps_and_theta
  faults = [f'{key} is missing' for key, value in sizes.items() if value is None]
  faults += [
    f'rope_scaling.{key} is missing' for key in rope_lib.needed(rope) if rope.get(key) is None
  ]
  faults += _unsupported(raw, rope)
  if faults:
    raise ValueError(f'{path}: ' + '; '.join(faults))
  sizes |= {key: float(sizes[key]) for key in eps_and_theta}  # 1000000, in some files
  ((_, _, bias, norm),) = (family for family in FAMILIES if family[0] == raw['model_type'])
  try:
    config = config_lib.QwenConfig(
      **sizes,
      head_dim=raw.get('head_dim') or _head_dim(raw),
      tie_word_embeddings=raw.get('tie_word_embeddings', False),
      initializer_range=raw.get('initializer_range', 0.02),
      rope_scaling=rope_lib.scaling(rope),
      scalar_head=_architecture(raw).endswith(SCALAR),
      qkv_bias=bias,
      qk_norm=norm,
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
  scaling = rope_lib.written(config)
  family, name = family_of(config)
  raw: dict[str, Any] = {
    'architectures': [name + (SCALAR if config.scalar_head else CAUSAL)],
    'attention_dropout': 0.0,
    'bos_token_id': bos,
    'dtype': dtype.name,
    'eos_token_id': list(ends) if len(ends) > 1 else ends[0] if ends else eos,
    'head_dim': config.head_dim,
    'hidden_act': 'silu',
    'initializer_range': config.initializer_range,
    'model_type': family,
    'rms_norm_eps': config.rms_norm_eps,
    'rope_parameters': {'rope_theta': config.rope_theta, 'rope_type': 'default'} | scaling,
    'rope_theta': config.rope_theta,
    'tie_word_embeddings': config.tie_word_embeddings,
    'torch_dtype': dtype.name,
    'use_cache': True,
  }
  if family == 'llama':
    raw |= {'mlp_bias': False}
  else:
    raw |= {'max_window_layers': config.num_hidden_layers, 'use_sliding_window': False}
  if family != 'qwen2':  # whose biases are no option
    raw |= {'attention_bias': False}
  raw |= {key: getattr(config, key) for key in SIZES}
  if scaling:
    raw['rope_scaling'] = scaling
  if config.scalar_head:  # their number of labels is the length of this table
    raw |= {'id2label': {'0': 'LABEL_0'}, 'label2id': {'LABEL_0': 0}}
  return json.dumps(raw, indent=2, sort_keys=True) + '\n'


def family_of(config: config_lib.QwenConfig) -> tuple[str, str]:
  """Returns model_type and the begin of the architecture's name: ('qwen2', 'Qwen2')."""
  flags = config.qkv_bias, config.qk_norm
  return next(family[:2] for family in FAMILIES if family[2:] == flags)


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
      found += [f'{name}.{fault}' for fault in jsonl.faults(given, rope_lib.FIELDS)]
  return found


def _head_dim(raw: dict[str, Any]) -> int:
  """The width that transformers takes where the file does not say."""
  return 128 if raw['model_type'] == 'qwen3' else raw['hidden_size'] // raw['num_attention_heads']


def _architecture(raw: dict[str, Any]) -> str:
  return (raw.get('architectures') or [_begin(raw) + CAUSAL])[0]


def _begin(raw: dict[str, Any]) -> str:
  """How the name of the architecture begins, 'Qwen2'; of an unknown model_type, as Qwen2's."""
  return {family[0]: family[1] for family in FAMILIES}.get(raw.get('model_type', ''), 'Qwen2')


def _dtype(raw: dict[str, Any]) -> str | None:
  name = raw.get('dtype') or raw.get('torch_dtype')
  return None if name is None else str(name).removeprefix('torch.')


def _unsupported(raw: dict[str, Any], rope: dict[str, Any]) -> list[str]:
  """Returns sentences about what the file asks for and the model cannot do."""
  begin, kind = _begin(raw), raw.get('model_type')
  asked = {
    'model_type': (kind, tuple(family[0] for family in FAMILIES)),
    'architectures': (_architecture(raw), (begin + CAUSAL, begin + SCALAR)),
    'hidden_act': (raw.get('hidden_act', 'silu'), ('silu',)),
    'dtype': (_dtype(raw), (None, *DTYPES)),
    'rope_type': (rope['rope_type'], ('default', *rope_lib.SCALINGS)),
    'partial_rotary_factor': (rope.get('partial_rotary_factor', 1.0), (1.0,)),
    'layer_types': (sorted(set(raw.get('layer_types') or ())), ([], ['full_attention'])),
  }
  known = INERT | ({'attention_bias': (True,)} if kind == 'qwen2' else {})
  asked |= {key: (raw[key], none) for key, none in known.items() if key in raw}
  if 'use_sliding_window' not in raw and kind == 'llama' and 'sliding_window' in raw:
    asked['sliding_window'] = (raw['sliding_window'], ())  # here it needs no other key
  asked |= {
    f'rope_scaling.{key}': (value, ())
    for key, value in rope.items()
    if key not in rope_lib.FIELDS or key.startswith('mscale')
  }
  return [
    f'{key} = {value!r:.80} is not supported, '
    + (f'only {" or ".join(map(repr, known))}' if known else 'leave it out if it is not in use')
    for key, (value, known) in asked.items()
    if value not in known
  ]
