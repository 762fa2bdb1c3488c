"""RoPE in a config.json: its two forms, and the kinds of scaling that the model knows."""

import dataclasses
from typing import Any

from lwz import jsonl
from lwz.model import config as config_lib
from lwz.model import yarn as yarn_lib

THETA = jsonl.Span(float, 2, 1e12)
FIELDS: jsonl.Fields = {
  'attention_factor': jsonl.Span(float, 1e-3, 1e3),
  'beta_fast': jsonl.Span(float, 1e-3, 1e6),
  'beta_slow': jsonl.Span(float, 1e-3, 1e6),
  'factor': jsonl.Span(float, 1, 1e6),
  'high_freq_factor': jsonl.Span(float, 1e-3, 1e6),
  'low_freq_factor': jsonl.Span(float, 1e-3, 1e6),
  'mscale': float,  # DeepSeek's two
  'mscale_all_dim': float,
  'original_max_position_embeddings': jsonl.Span(int, 1, 10**9),
  'partial_rotary_factor': float,
  'rope_theta': THETA,
  'rope_type': str,
  'truncate': bool,
  'type': str,
}
SCALINGS: dict[str, type[yarn_lib.Yarn] | type[yarn_lib.Llama3]] = {
  'yarn': yarn_lib.Yarn,
  'llama3': yarn_lib.Llama3,
}


def read(raw: dict[str, Any]) -> dict[str, Any]:
  """RoPE in the new form: {'rope_theta', 'rope_type', ...}.

  Where a file has both forms, the old one is heard, as by transformers. A null counts as absent.
  """
  scaling = raw.get('rope_scaling') or {}
  new = raw.get('rope_parameters') or {}
  rope = {'rope_theta': new.get('rope_theta', raw.get('rope_theta'))}
  rope |= {key: value for key, value in (scaling or new).items() if value is not None}
  rope['rope_type'] = rope.get('rope_type') or rope.get('type') or 'default'
  if rope['rope_type'] == 'yarn':
    rope.setdefault('original_max_position_embeddings', raw.get('max_position_embeddings'))
  if rope['rope_theta'] is None and raw.get('model_type') == 'llama':
    rope['rope_theta'] = 10_000.0  # the first of them say nothing
  return rope


def needed(rope: dict[str, Any]) -> list[str]:
  """The keys that this kind of scaling cannot do without."""
  kind = SCALINGS.get(rope['rope_type'])
  fields = dataclasses.fields(kind) if kind else ()
  return [field.name for field in fields if field.default is dataclasses.MISSING]


def scaling(rope: dict[str, Any]) -> yarn_lib.Yarn | yarn_lib.Llama3 | None:
  if (kind := SCALINGS.get(rope['rope_type'])) is None:
    return None
  names = [field.name for field in dataclasses.fields(kind)]
  said = {key: rope[key] for key in names if rope.get(key) is not None}
  whole = ('original_max_position_embeddings', 'truncate')
  numbers: dict[str, Any] = {k: v if k in whole else float(v) for k, v in said.items()}
  return kind(**numbers)


def written(config: config_lib.QwenConfig) -> dict[str, Any]:
  """The keys of a scaling, in both names of its kind; nothing where there is none."""
  if config.rope_scaling is None:
    return {}
  said = {k: v for k, v in dataclasses.asdict(config.rope_scaling).items() if v is not None}
  (kind,) = (k for k, of in SCALINGS.items() if isinstance(config.rope_scaling, of))
  return {'rope_type': kind, 'type': kind} | said
