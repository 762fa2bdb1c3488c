"""Models as GGUF files, for llama.cpp and Ollama: what `gguf` reads, written.

Matrices are of the type asked for, by the quantisers of the `gguf` package; norms and biases stay
in float32. Needs `pip install "lwz[gguf]"`.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from lwz.model import config as config_lib
from lwz.model import qwen, yarn
from lwz.store import atomic, gguf, gguf_header
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import config as hf_config
from lwz.store.hf import mapping

# Types of a model's matrices, and the number of each in general.file_type.
TYPES = {'F16': 1, 'BF16': 32, 'F32': 0, 'Q8_0': 7, 'Q4_0': 2}
_IN_BLOCKS = ('Q8_0', 'Q4_0')  # of 32 values of a row


def write(
  path: os.PathLike,
  config: config_lib.QwenConfig,
  params: qwen.Params,
  *,
  kind: str,
  metadata: Mapping[str, Any],
) -> None:
  """Writes a model; beside the parameters, one tensor at a time is on the host.

  Every process of the mesh makes the call; the first writes. The file appears when it is complete.

  Args:
    path: of the file, on a local disk; its folder is made where it is missing. A file there is
      written over.
    params: with the names and shapes of `describe(config)`, best in float32, which is rounded once.
    kind: one of `TYPES`, of all matrices. Q4_0 leaves embedding and head in Q8_0; a matrix whose
      rows are not made of whole blocks is written in F16.
    metadata: further keys: name, tokenizer.

  Raises ValueError if the model has no form in GGUF, see `check`, or a value none in float16;
  ModuleNotFoundError without the `gguf` package.
  """
  check(path, config)
  leaves = hf.checked(config, params)
  entries = _entries(config, kind)
  path = pathlib.Path(path)
  partial = path.with_name(f'{path.name}.partial')
  writer = None
  try:
    with atomic.named(path):
      if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = _described(partial, {**_keys(config, kind), **metadata}, entries)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
      for entry in entries:  # to gather a tensor takes every process
        array = _array(entry.tensor, config, leaves)
        if writer is not None:
          writer.write_tensor_data(_quantised(path, entry, array))
      if writer is not None:
        writer.close()
  except BaseException:
    if writer is not None:
      with contextlib.suppress(OSError):  # a full disk takes no more at its close
        writer.close()
      partial.unlink(missing_ok=True)
    raise
  if writer is not None:
    partial.replace(path)
  multihost_utils.sync_global_devices('gguf.write')


def check(name: object, config: config_lib.QwenConfig) -> None:
  """Raises ValueError, naming the file or the key, if such a model has no form in GGUF."""
  gguf_header.quants(name)
  scaling = config.rope_scaling
  if config.scalar_head:
    raise ValueError(
      f"{name}: GGUF has no form for a reward model; set export.format='huggingface'"
    )
  if isinstance(scaling, yarn.Yarn) and (scaling.attention_factor or not scaling.truncate):
    raise ValueError(
      f'{name}: GGUF has no key for rope_scaling.attention_factor and truncate of this model; '
      "set export.format='huggingface'"
    )


class _Entry(NamedTuple):
  """One tensor of the file."""

  name: str
  shape: tuple[int, ...]
  type: str
  tensor: mapping.Tensor | None  # None: the factors of Llama 3's frequencies


def _entries(config: config_lib.QwenConfig, kind: str) -> list[_Entry]:
  found = []
  if isinstance(config.rope_scaling, yarn.Llama3):
    found.append(_Entry(gguf.SCALES, (config.head_dim // 2,), 'F32', None))
  for tensor in mapping.tensors(config):
    name = gguf.NAMES[tensor.leaf].format(tensor.layer)
    found.append(_Entry(name, tensor.shape, _type(kind, tensor), tensor))
  return found


def _type(kind: str, tensor: mapping.Tensor) -> str:
  """Returns the type of a tensor, where the matrices of a model are of type `kind`."""
  if len(tensor.shape) == 1:
    return 'F32'
  if kind in _IN_BLOCKS and tensor.shape[-1] % 32:
    return 'F16'
  return 'Q8_0' if kind == 'Q4_0' and tensor.leaf in ('embed', 'head') else kind


def _keys(config: config_lib.QwenConfig, kind: str) -> dict[str, Any]:
  family, _ = hf_config.family_of(config)
  found = {theirs: getattr(config, ours, None) for theirs, ours in gguf.KEYS.items()}
  found |= dict.fromkeys(('attention.value_length', 'rope.dimension_count'), config.head_dim)
  found |= {'vocab_size': config.vocab_size}
  if isinstance(config.rope_scaling, yarn.Yarn):
    scaling = dataclasses.asdict(config.rope_scaling) | {'rope_type': 'yarn'}
    found |= {f'rope.scaling.{theirs}': scaling[ours] for theirs, ours in gguf.SCALING.items()}
  general = {'architecture': family, 'type': 'model', 'quantization_version': 2}
  general |= {'file_type': TYPES[kind]}
  return {f'general.{key}': value for key, value in general.items()} | {
    f'{family}.{key}': value for key, value in found.items() if value is not None
  }


def _described(path: pathlib.Path, keys: dict[str, Any], entries: list[_Entry]):
  """Returns the package's writer, which knows everything but the bytes of the tensors."""
  import gguf as lib

  kinds = {bool: 'BOOL', int: 'UINT32', float: 'FLOAT32', str: 'STRING'}
  writer = lib.GGUFWriter(path, keys.pop('general.architecture'))
  for key, value in keys.items():
    if isinstance(value, list):
      writer.add_array(key, value)
    else:
      writer.add_key_value(key, value, lib.GGUFValueType[kinds[type(value)]])
  for entry in entries:
    of = lib.GGMLQuantizationType[entry.type]
    width, size = lib.GGML_QUANT_SIZES[of]
    num_bytes = math.prod(entry.shape) // width * size
    writer.add_tensor_info(entry.name, entry.shape, np.dtype('float32'), num_bytes, raw_dtype=of)
  return writer


def _array(
  tensor: mapping.Tensor | None, config: config_lib.QwenConfig, leaves: dict[str, jax.Array]
) -> np.ndarray:
  """Returns a tensor in float32, in llama.cpp's order of rows, see `gguf.load`."""
  if tensor is None:
    assert config.rope_scaling is not None
    scales = yarn.slowdown(config.head_dim, config.rope_theta, config.rope_scaling)
    return np.asarray(scales, np.float32)
  array = mapping.to_theirs(tensor, hf.on_host(tensor, leaves)).astype(np.float32, copy=False)
  if tensor.leaf in ('layers.wq', 'layers.wk') and hf_config.family_of(config)[0] == 'llama':
    halves = array.reshape(-1, 2, config.head_dim // 2, array.shape[-1])
    array = halves.swapaxes(1, 2).reshape(array.shape)
  return np.ascontiguousarray(array)


def _quantised(path: pathlib.Path, entry: _Entry, array: np.ndarray) -> np.ndarray:
  import gguf as lib

  with np.errstate(over='ignore'):  # refused below
    data = gguf_header.quants(path).quantize(array, lib.GGMLQuantizationType[entry.type])
  if entry.type == 'F16' and not np.isfinite(data).all():
    raise ValueError(
      f'{path}: {entry.name} has values that float16 has not; set export.type to BF16 or F32'
    )
  return data
