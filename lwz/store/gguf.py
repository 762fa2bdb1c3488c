"""Models in GGUF files: configuration, parameters, ends of a text. See `gguf_header`.

The blocks of quantised values are those of the `gguf` package.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lwz.model import config as config_lib
from lwz.model import qwen, yarn
from lwz.store import gguf_header
from lwz.store.hf import config as hf_config
from lwz.store.hf import mapping, placement

SCALES = 'rope_freqs.weight'  # by which Llama 3 divides the frequencies of RoPE
# Our leaf, their tensor, with `.weight` or `.bias` behind it.
NAMES = {
  'embed': 'token_embd.weight',
  'norm': 'output_norm.weight',
  'head': 'output.weight',
  'layers.attention_norm': 'blk.{}.attn_norm.weight',
  'layers.mlp_norm': 'blk.{}.ffn_norm.weight',
  'layers.wo': 'blk.{}.attn_output.weight',
  'layers.w_gate': 'blk.{}.ffn_gate.weight',
  'layers.w_up': 'blk.{}.ffn_up.weight',
  'layers.w_down': 'blk.{}.ffn_down.weight',
  **{f'layers.w{x}': f'blk.{{}}.attn_{x}.weight' for x in 'qkv'},
  **{f'layers.b{x}': f'blk.{{}}.attn_{x}.bias' for x in 'qkv'},
  **{f'layers.{x}_norm': f'blk.{{}}.attn_{x}_norm.weight' for x in 'qk'},
}
# Their key, below the name of the architecture, and that of a config.json.
KEYS = {
  'embedding_length': 'hidden_size',
  'feed_forward_length': 'intermediate_size',
  'block_count': 'num_hidden_layers',
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.key_length': 'head_dim',
  'context_length': 'max_position_embeddings',
  'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
  'rope.freq_base': 'rope_theta',
  'expert_count': 'num_experts',
  'attention.sliding_window': 'sliding_window',
  'attention.causal': 'is_causal',
}
SCALING = {
  'type': 'rope_type',
  'factor': 'factor',
  'original_context_length': 'original_max_position_embeddings',
  'yarn_beta_fast': 'beta_fast',
  'yarn_beta_slow': 'beta_slow',
}
# What llama.cpp scales by, too, and this model does not, with the values that change nothing.
_UNSCALED = {
  **dict.fromkeys(('attn_factor', 'yarn_attn_factor'), (1.0,)),
  **{'yarn_ext_factor': (1.0, -1.0), 'yarn_log_multiplier': (0.0,)},
}


def config(path: pathlib.Path) -> config_lib.QwenConfig:
  """The configuration of a file's model.

  Compute is in bfloat16 for a file of bfloat16, and in float32, which holds its values, for others.

  Raises ValueError if the model is of another kind than ours, naming what is not supported.
  """
  found = gguf_header.read(path)
  metadata = found.metadata
  if (parts := metadata.get('split.count', 1)) not in (0, 1):  # of parts that were joined, 0
    raise ValueError(f'{path}: is one of {parts} parts; join them: llama-gguf-split --merge')
  kind = metadata.get('general.architecture')
  raw: dict[str, Any] = {'model_type': kind, 'hidden_act': 'silu'}
  raw |= {ours: metadata.get(f'{kind}.{theirs}') for theirs, ours in KEYS.items()}
  if isinstance(eps := raw['rms_norm_eps'], float):
    raw['rms_norm_eps'] = float(str(np.float32(eps)))  # 1e-5, not 9.999999747378752e-06
  raw['rope_theta'] = raw['rope_theta'] or 10_000.0
  raw['rope_scaling'] = _scaling(metadata, f'{kind}.rope.')
  raw['num_key_value_heads'] = raw['num_key_value_heads'] or raw['num_attention_heads']
  raw['head_dim'] = raw['head_dim'] or metadata.get(f'{kind}.rope.dimension_count')
  embed = found.tensors.get(NAMES['embed'])
  raw['vocab_size'] = embed.shape[0] if embed else None
  raw['tie_word_embeddings'] = NAMES['head'] not in found.tensors
  if SCALES in found.tensors:
    raw['rope_scaling'] = raw['rope_scaling'] or _llama3(path, found)
  parsed, _ = hf_config.parse(raw, path)
  for key in ('rope.dimension_count', 'attention.value_length'):
    if metadata.get(f'{kind}.{key}', parsed.head_dim) != parsed.head_dim:
      raise ValueError(f'{path}: {kind}.{key} is not the width of a head, {parsed.head_dim}')
  if SCALES in found.tensors:
    _check_scales(path, found, parsed)
  is_short = embed is not None and embed.type.name == 'BF16'
  return dataclasses.replace(parsed, dtype=jnp.bfloat16 if is_short else jnp.float32)


def _scaling(metadata: dict[str, Any], begin: str) -> dict[str, Any]:
  """The scaling of RoPE as llama.cpp reads it: a factor without a type is a linear one."""
  found = {ours: metadata.get(f'{begin}scaling.{key}') for key, ours in SCALING.items()}
  factor = found['factor'] or metadata.get(f'{begin}scale_linear') or 1.0
  said = {key: metadata.get(f'{begin}scaling.{key}') for key in _UNSCALED}
  more = {key: v for key, v in said.items() if v is not None and v not in _UNSCALED[key]}
  kind = found['rope_type'] or 'linear'
  if kind == 'none' or (kind == 'linear' and factor == 1):
    return more
  found |= more | {'rope_type': kind, 'factor': factor}
  return {key: value for key, value in found.items() if value is not None}


def _llama3(path: pathlib.Path, found: gguf_header.Header) -> dict[str, Any]:
  """The scaling of Llama 3.1 to 3.3, of which a file keeps the result alone."""
  scales = _scales(path, found)
  fixed = {'low_freq_factor': 1.0, 'high_freq_factor': 4.0}
  fixed['original_max_position_embeddings'] = 8_192
  return {'rope_type': 'llama3', 'factor': float(np.max(scales))} | fixed


def _scales(path: pathlib.Path, found: gguf_header.Header) -> np.ndarray:
  entry = found.tensors[SCALES]
  return _reader(path, entry)((slice(None),) * len(entry.shape))


def _check_scales(
  path: pathlib.Path, found: gguf_header.Header, config: config_lib.QwenConfig
) -> None:
  scales = _scales(path, found)
  assert config.rope_scaling is not None
  expected = yarn.slowdown(config.head_dim, config.rope_theta, config.rope_scaling)
  if scales.shape != expected.shape or not np.allclose(scales, expected, rtol=1e-3):
    raise ValueError(f'{path}: {SCALES} is not the scaling of Llama 3, and no other is supported')


def load(
  path: pathlib.Path,
  mesh: jax.sharding.Mesh | None = None,
  dtype: jax.typing.DTypeLike | None = None,
  *,
  progress: Callable[[int, int], None] | None = None,
) -> tuple[config_lib.QwenConfig, qwen.Params]:
  """The configuration and the parameters of a file, as `hf.load` has them of a folder.

  Piece after piece of a tensor is dequantised and goes to the devices: beside the parameters, a
  host has one in memory. Raises ValueError if the file is damaged or not of a model of ours.
  """
  found, wanted = gguf_header.read(path), config(path)
  tensors = mapping.tensors(wanted)
  theirs = {tensor.name: NAMES[tensor.leaf].format(tensor.layer) for tensor in tensors}
  faults = [f'{name} is missing' for name in theirs.values() if name not in found.tensors]
  strange = found.tensors.keys() - theirs.values() - {SCALES}
  faults += [f'{name} is no tensor of this model' for name in sorted(strange)]
  for tensor in tensors:
    entry = found.tensors.get(theirs[tensor.name])
    if entry is not None and entry.shape != tensor.shape:
      shapes = f'{list(entry.shape)}, not {list(tensor.shape)}'
      faults.append(f'{theirs[tensor.name]} has shape {shapes}')
  if faults:
    more = f' and {len(faults) - 3} more' if len(faults) > 3 else ''
    raise ValueError(f'{path}: {"; ".join(faults[:3])}{more}: convert the model anew')
  interleaved = found.metadata['general.architecture'] == 'llama'
  reads = {}
  for tensor in tensors:
    turned = interleaved and tensor.leaf in ('layers.wq', 'layers.wk')
    width = wanted.head_dim if turned else 0
    reads[tensor.name] = _reader(path, found.tensors[theirs[tensor.name]], width)
  return placement.load(wanted, mesh, jnp.dtype(dtype or wanted.dtype), reads, progress)


def end_ids(metadata: dict[str, Any]) -> tuple[int, ...]:
  """Returns the ids of the tokens that end a text, or a turn."""
  named = (metadata.get(f'tokenizer.ggml.{name}_token_id') for name in ('eos', 'eot', 'eom'))
  return tuple(dict.fromkeys(i for i in named if isinstance(i, int)))


def _reader(path: pathlib.Path, entry: gguf_header.Entry, head_dim: int = 0) -> placement.Read:
  """Reads ranges of a tensor, in float32.

  With `head_dim`, rows of each head go back to the order of two halves: llama.cpp keeps the two of
  a pair that RoPE rotates side by side.
  """
  quants = gguf_header.quants(path)

  def read(ranges: tuple[slice, ...]) -> np.ndarray:
    rows = ranges[0] if len(entry.shape) > 1 else slice(0, 1)
    start, stop, _ = rows.indices(math.prod(entry.shape[:-1]))
    at, shape = entry.start + start * entry.row_bytes, (stop - start, entry.row_bytes)
    values = quants.dequantize(np.memmap(path, np.uint8, 'r', at, shape), entry.type)
    if head_dim:
      pairs = values.reshape(-1, head_dim // 2, 2, values.shape[-1])
      values = pairs.swapaxes(1, 2).reshape(values.shape)
    return values[:, ranges[1]] if len(entry.shape) > 1 else values[0, ranges[0]]

  return read
