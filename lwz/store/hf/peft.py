"""Adapters in PEFT's form: adapter_config.json and adapter_model.safetensors.

Theirs are of torch: lora_A is [rank, in], lora_B [out, rank], every layer has its own. Ours are
[in, rank] and [rank, out], heads are a dimension, layers are stacked, see `mapping`.

`base_model_name_or_path` is the model that they change, a source as any other (`model_source`).
"""

import functools
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import flax.traverse_util
import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from lwz import hosts, jsonl
from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import qwen, sharding
from lwz.store import atomic
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import mapping, safetensors

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model.safetensors'
_LETTERS = {'a': 'lora_A', 'b': 'lora_B'}
_AGAIN = 'export the adapters again with PEFT'
_MERGE = (
  'merge the adapters into their base with PEFT (merge_and_unload), save that model, and name it'
)
_BASE = 'base_model_name_or_path'
# What PEFT can do and this model cannot, with the values that ask for nothing.
_PLAIN: dict[str, tuple[Any, ...]] = {
  'bias': ('none',),
  **dict.fromkeys(('fan_in_fan_out', 'use_dora', 'lora_bias', 'use_qalora'), (False,)),
  **dict.fromkeys(('rank_pattern', 'alpha_pattern', 'loftq_config'), ({}, None)),
  **dict.fromkeys(('modules_to_save', 'trainable_token_indices', 'target_parameters'), ([], None)),
  **dict.fromkeys(('layers_to_transform', 'layer_replication', 'alora_invocation_tokens'), (None,)),
  # The others change the base, too: these adapters suit only what they made of it.
  'init_lora_weights': (True, False, None, 'gaussian', 'eva', 'orthogonal'),
  'revision': (None, '', 'main'),  # of the base; another is not asked of the hub
}


def locate(source: epath.PathLike) -> pathlib.Path | None:
  """Returns the local folder of the adapters that a source names; None if it names none.

  A folder that holds the weights of a whole model, too, is taken for that model.
  """
  path = pathlib.Path(source)
  if not path.is_dir():
    if not hf.is_hub_id(source) or not _on_hub(str(source)):
      return None
    path = hf.local(source)
  whole = any((path / name).exists() for name in (hf.SINGLE, hf.INDEX))
  return path if (path / CONFIG).exists() and not whole else None


@functools.lru_cache(64)  # asked for at every use of a source; without network, each takes seconds
def _on_hub(name: str) -> bool:
  """Returns whether a model of the hub, or of its cache, has adapters."""
  try:
    return bool(huggingface_hub.hf_hub_download(name, CONFIG))
  except (OSError, ValueError):
    return False


def base(folder: pathlib.Path) -> str:
  """Returns the source of the model that adapters change; a path may begin at `folder` or here.

  Raises ValueError if adapter_config.json names none, or if it leads back to `folder`.
  """
  found = _base(folder)
  met, inner = {os.path.realpath(folder)}, locate(found)
  while inner is not None:
    if os.path.realpath(inner) in met:
      raise ValueError(
        f'{folder / CONFIG}: {_BASE} leads back to {inner}, so these adapters change no model; '
        'name the model adapted'
      )
    met.add(os.path.realpath(inner))
    inner = locate(_base(inner))
  return found


def _base(folder: pathlib.Path) -> str:
  """Returns the source that adapter_config.json names."""
  named = _read(folder).get(_BASE)
  if not isinstance(named, str) or not named:
    raise ValueError(
      f'{folder / CONFIG}: {_BASE} is missing; write the folder or hub id of the model that was '
      'adapted there'
    )
  beside = folder / named
  return os.fspath(beside) if beside.exists() else named


def has_tokenizer(folder: pathlib.Path) -> bool:
  """Returns whether a tokenizer was saved beside the adapters."""
  return any((folder / name).exists() for name in ('tokenizer.json', 'tokenizer_config.json'))


def save(
  folder: epath.PathLike,
  config: config_lib.QwenConfig,
  lora: lora_lib.LoRA,
  adapters: qwen.Params,
  base: str,
) -> None:
  """Writes adapters, in float32; `base` is the folder or hub id of the model that they change.

  `peft.PeftModel.from_pretrained(model, folder)` reads them. All processes must call it.
  adapter_config.json comes last: a save cut short is not taken for adapters.
  """
  folder = epath.Path(folder)
  leaves = {name: hf.gathered(leaf) for name, leaf in mapping.flatten(adapters).items()}
  wanted = list(_tensors(config, lora))
  described = {name: (np.dtype(np.float32), shape) for name, shape, *_ in wanted}
  fields = {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    _BASE: base,
    'r': lora.rank,
    'lora_alpha': lora.alpha,
    'lora_dropout': 0.0,
    'target_modules': sorted({name.split('.')[-3] for name, *_ in wanted}),
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
  }

  def write():
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)  # cut short, it shall not speak for other weights
    arrays = (
      np.ascontiguousarray(leaves[leaf][layer].reshape(shape[::-1]).T, np.float32)
      for _, shape, leaf, layer in wanted
    )
    safetensors.write(folder / WEIGHTS, described, arrays)
    atomic.write_text(folder / CONFIG, json.dumps(fields, indent=2) + '\n')

  hosts.first(write)


def load(
  folder: epath.PathLike, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh | None = None
) -> tuple[lora_lib.LoRA, qwen.Params]:
  """Returns adapters in PEFT's form as ours, in float32, sharded by `sharding.TRAIN`.

  Raises ValueError as `describe` does.
  """
  folder = pathlib.Path(folder)
  lora = describe(folder, config)
  return lora, _placed(folder / WEIGHTS, config, lora, list(_tensors(config, lora)), mesh)


def describe(folder: pathlib.Path, config: config_lib.QwenConfig) -> lora_lib.LoRA:
  """Returns rank, alpha and targets of adapters of the model `config`; no weight is read.

  The file itself says which matrices have adapters. Raises ValueError if PEFT was asked for what
  this model cannot do, or if the tensors are not those of such adapters, naming each.
  """
  raw = _read(folder)
  asked = [name for name, plain in _PLAIN.items() if name in raw and raw[name] not in plain]
  if raw['peft_type'] != 'LORA' or asked:
    what = ', '.join(f'{name}={raw[name]!r}' for name in asked) or f'peft_type={raw["peft_type"]}'
    raise ValueError(f'{folder / CONFIG}: {what} is not supported here; {_MERGE}')
  # Of rank-stabilised adapters (arXiv 2312.03732) the scale is alpha / sqrt(rank).
  alpha = raw['lora_alpha'] * (math.sqrt(raw['r']) if raw.get('use_rslora') else 1.0)
  if not (folder / WEIGHTS).exists():
    raise FileNotFoundError(f'{folder}: no {WEIGHTS} beside {CONFIG}; {_AGAIN}')
  found = safetensors.header(folder / WEIGHTS)
  whole = {
    target: {name for name, *_ in _tensors(config, lora_lib.LoRA(raw['r'], alpha, (target,)))}
    for target in lora_lib.TARGETS
  }
  lora = lora_lib.LoRA(raw['r'], alpha, tuple(t for t in whole if whole[t] & found.keys()))
  _check(folder / WEIGHTS, found, {name: shape for name, shape, *_ in _tensors(config, lora)})
  return lora


def _read(folder: pathlib.Path) -> dict[str, Any]:
  rank = jsonl.Span(int, 1, 2**16)
  alpha = jsonl.Span(float, -1e6, 1e6)
  fields: jsonl.Fields = {'peft_type': str, 'r': rank, 'lora_alpha': alpha}
  return jsonl.document(folder / CONFIG, fields, remedy=_AGAIN)


def _tensors(
  config: config_lib.QwenConfig, lora: lora_lib.LoRA
) -> Iterator[tuple[str, tuple[int, ...], str, int]]:
  """Yields name and shape of each of PEFT's tensors, and the leaf and layer of ours."""
  for tensor in mapping.tensors(config):
    leaf = tensor.leaf.removeprefix('layers.')
    if tensor.layer is None or leaf not in lora.leaves:
      continue
    num_out, num_in = tensor.shape
    module = tensor.name.removesuffix('.weight')
    for part, shape in (('a', (lora.rank, num_in)), ('b', (num_out, lora.rank))):
      name = f'base_model.model.{module}.{_LETTERS[part]}.weight'
      yield name, shape, f'{tensor.leaf}.{part}', tensor.layer


def _check(path: pathlib.Path, found: dict[str, safetensors.Entry], wanted: dict[str, tuple]):
  """Raises ValueError, naming each tensor, if the file's are not those wanted."""
  faults = [f'{name} is missing' for name in wanted.keys() - found.keys()]
  for name, entry in found.items():
    if name not in wanted:
      faults.append(f'{name} is no adapter of a matrix of this model')
    elif entry.shape != wanted[name]:
      faults.append(f'{name} has shape {list(entry.shape)}, not {list(wanted[name])}')
    elif entry.dtype not in safetensors.DTYPES or not entry.whole:
      faults.append(f'{name} is cut off, or {entry.dtype}')
  if faults or not wanted:
    shown = '\n  '.join(sorted(faults)[:20]) or 'it has none'
    raise ValueError(
      f'{path}: the tensors are not adapters of every layer of the model that {_BASE} names; name '
      f'the right one there, or {_MERGE}:\n  {shown}'
    )


def _placed(path: pathlib.Path, config, lora: lora_lib.LoRA, wanted, mesh) -> qwen.Params:
  described = {'layers': lora_lib.describe(config, lora)['layers']}
  leaves = {
    name: np.empty(leaf.shape, np.float32) for name, leaf in mapping.flatten(described).items()
  }
  for name, shape, leaf, layer in wanted:
    array = safetensors.read(path, name, (slice(None),) * len(shape))
    leaves[leaf][layer] = array.astype(np.float32).T.reshape(leaves[leaf][layer].shape)
  params = flax.traverse_util.unflatten_dict(leaves, sep='.')
  if mesh is None:
    return jax.tree.map(jnp.asarray, params)

  def put(array: np.ndarray, where: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])

  return jax.tree.map(put, params, sharding.shardings_of(described, mesh, sharding.TRAIN))
