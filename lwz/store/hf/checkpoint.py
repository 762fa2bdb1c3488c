"""Hugging Face model folders, config.json and safetensors: read and written."""

import collections
import collections.abc
import functools
import json
import pathlib
import tempfile
import warnings
from typing import Any

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from lwz import jsonl
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.store import atomic
from lwz.store.hf import config as hf_config
from lwz.store.hf import mapping, placement, safetensors

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
_SHOWN = 100  # of the tensors that are wrong
EMBED, HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
_COMPUTED = '.rotary_emb.inv_freq'  # frequencies of RoPE in older folders, which config.json gives


def load(
  folder: epath.PathLike,
  mesh: jax.sharding.Mesh | None = None,
  dtype: jax.typing.DTypeLike | None = None,
  *,
  progress: collections.abc.Callable[[int, int], None] | None = None,
) -> tuple[config_lib.QwenConfig, qwen.Params]:
  """The configuration and the parameters of a checkpoint; needs no tokenizer.

  A Qwen2ForSequenceClassification, as of the other families, gives a config with `scalar_head`.
  Where config.json ties the embeddings, an `lm_head.weight` is let through only as a copy of them.

  Tensor after tensor goes to the devices, and each reads the part it holds: beside the parameters,
  a host has no more than its part of one tensor in memory.

  Args:
    folder: a local folder, or a hub id ('Qwen/Qwen2.5-32B'; offline mode honoured).
    mesh: what to lay the leaves over, by `sharding.TRAIN`. Without a mesh, the first local device.
    dtype: of the parameters and of compute; None for that of the checkpoint, which is what
      config.json says, and where it is silent that of the embedding.
    progress: called with the number of tensors that were read, and of all.

  Raises FileNotFoundError if there is no model, ValueError if config.json asks for what this model
  cannot do, if the tensors are not exactly those it promises, naming each, or if the mesh does not
  divide them.
  """
  path = local(folder)
  config, named = hf_config.read(path / 'config.json')
  files, promised = _files(path)
  found = _checked(path, files, promised, config)
  dtype = jnp.dtype(dtype or named or safetensors.DTYPES[found[EMBED][1]])
  reads = {
    name: functools.partial(safetensors.read, file, name) for name, (file, _) in found.items()
  }
  copied = config.tie_word_embeddings and HEAD in found
  if copied and not placement.same(reads[HEAD], reads[EMBED], config.vocab_size):
    raise ValueError(
      f'{path}: config.json ties the embeddings, but {HEAD} is not the embedding; '
      'set tie_word_embeddings to false to use it, or delete the tensor'
    )
  return placement.load(config, mesh, dtype, reads, progress)


def save(
  folder: epath.PathLike,
  config: config_lib.QwenConfig,
  params: qwen.Params,
  tokenizer: Any = None,
  *,
  ends: collections.abc.Sequence[int] = (),
  shard_bytes: int = 5_000_000_000,
) -> None:
  """Writes a model as `transformers` loads it, each leaf in the dtype it has.

  One tensor at a time is on the host. Every process of the mesh makes the call; the first writes.
  config.json comes last, and `load` wants one: a save cut short is not taken for a model.

  Args:
    folder: made where it is missing; may be in a bucket. A model in it is written over.
    params: with the names and shapes of `describe(config)`; low-rank pairs must be merged.
    tokenizer: saved beside the model where given; config.json takes its eos and bos.
    ends: ids of all tokens that end a text, where the tokenizer's eos is not the only one.
    shard_bytes: a file holds no more, unless a single tensor does.

  Raises ValueError for parameters that are not `config`'s, or where the folder holds weights that
  would stay beside the new ones.
  """
  folder = epath.Path(folder)
  leaves = checked(config, params)
  shards = _shards(mapping.tensors(config), leaves, shard_bytes)
  writes = jax.process_index() == 0
  if writes:
    _clear(folder, shards)
  for file, tensors in shards.items():
    arrays = (mapping.to_theirs(tensor, on_host(tensor, leaves)) for tensor in tensors)
    if writes:
      described = {tensor.name: (leaves[tensor.leaf].dtype, tensor.shape) for tensor in tensors}
      safetensors.write(folder / file, described, arrays)
    else:  # to gather takes every process
      collections.deque(arrays, maxlen=0)
  if writes:
    _finish(folder, config, leaves, shards, tokenizer, ends)
  multihost_utils.sync_global_devices('hf.save')


def is_hub_id(folder: epath.PathLike) -> bool:
  """Returns whether the name reads owner/model, and no folder here."""
  text = str(folder)
  is_name = text.count('/') == 1 and ':' not in text and text[0] not in './~'
  return is_name and not pathlib.Path(text).parent.is_dir()


def local(folder: epath.PathLike) -> pathlib.Path:
  if atomic.is_remote(folder):
    raise ValueError(f'{folder}: copy the model to a local disk first; weights are mapped from it')
  path = pathlib.Path(folder)
  if path.is_dir():
    return path
  if not is_hub_id(folder):
    raise FileNotFoundError(f'{folder}: no such folder, and no hub id of the form owner/model')
  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(
        str(folder),
        allow_patterns=['*config.json', 'model*.safetensors', INDEX, 'adapter_model.safetensors'],
      )
    )
  except (OSError, ValueError) as error:
    raise FileNotFoundError(
      f'{folder}: neither a folder nor a model that the hub gives: {error}'
    ) from error


def _files(path: pathlib.Path) -> tuple[list[pathlib.Path], dict[str, pathlib.Path]]:
  """The weight files, and the file that the index promises a tensor in."""
  if (path / SINGLE).exists():  # transformers, too, looks for it first
    if (path / INDEX).exists():
      warnings.warn(f'{path}: {SINGLE} is read, {INDEX} and its files are not', stacklevel=2)
    return [path / SINGLE], {}
  if not (path / INDEX).exists():
    raise FileNotFoundError(
      f'{path}: no {SINGLE} and no {INDEX}; older formats are not read: load the model with '
      'transformers and save it again'
    )
  again = 'download it again'
  weight_map = jsonl.document(path / INDEX, {'weight_map': dict}, remedy=again)['weight_map']
  for name, file in weight_map.items():
    if not isinstance(file, str) or not file or pathlib.PurePath(file).name != file:
      raise ValueError(f'{path / INDEX}: {name} is in {file!r}, no file of this folder; {again}')
  promised = {name: path / file for name, file in weight_map.items()}
  files = sorted(set(promised.values()))
  if absent := [str(file) for file in files if not file.exists()]:
    raise FileNotFoundError(f'{", ".join(absent)}: named by {INDEX}, but missing; download again')
  return files, promised


def _checked(
  path: pathlib.Path,
  files: list[pathlib.Path],
  promised: dict[str, pathlib.Path],
  config: config_lib.QwenConfig,
) -> dict[str, tuple[pathlib.Path, str]]:
  """Returns file and dtype ('BF16') of every tensor. Raises ValueError for unexpected ones."""
  shapes = {tensor.name: tensor.shape for tensor in mapping.tensors(config)}
  known = dict(shapes)
  if config.tie_word_embeddings and not config.scalar_head:
    known[HEAD] = known[EMBED]
  found, faults = {}, []
  for file in files:
    for name, entry in safetensors.header(file).items():
      if name.endswith(_COMPUTED):
        continue
      if name not in known:
        faults.append(f'{file.name}: {name} is no tensor of this model')
      elif entry.shape != known[name]:
        faults.append(f'{file.name}: {name} has shape {list(entry.shape)}, not {list(known[name])}')
      elif entry.dtype not in safetensors.DTYPES:
        faults.append(
          f'{file.name}: {name} is {entry.dtype}, not {" or ".join(safetensors.DTYPES)}'
        )
      elif not entry.whole:
        faults.append(f'{file.name}: {name} is cut off')
      elif name in found:
        faults.append(f'{file.name}: {name} is in {found[name][0].name} too')
      found[name] = file, entry.dtype
  for name in shapes.keys() - found.keys():
    faults.append(f'{promised.get(name, files[0]).name}: {name} is missing')
  if faults:
    faults = [*sorted(faults)[:_SHOWN], *(['...'] if len(faults) > _SHOWN else [])]
    raise ValueError(
      f'{path}: the tensors are not those of config.json; download them again, or mend it:\n  '
      + '\n  '.join(faults)
    )
  return found


def checked(config: config_lib.QwenConfig, params: qwen.Params) -> dict[str, jax.Array]:
  """Returns the leaves by their names; ValueError if they are not those of `config`."""
  leaves, wanted = mapping.flatten(params), mapping.flatten(qwen.describe(config))
  faults = []
  for name in sorted(leaves.keys() | wanted.keys()):
    here = tuple(getattr(leaves.get(name), 'shape', ())) if name in leaves else 'absent'
    there = wanted[name].shape if name in wanted else 'absent'
    if here != there:
      faults.append(f'{name}: {here} given, {there} described')
    elif leaves[name].dtype not in safetensors.DTYPES.values():
      faults.append(f'{name}: {leaves[name].dtype}, not {" or ".join(safetensors.DTYPES)}')
  if faults:
    raise ValueError('these are not the parameters of this config:\n  ' + '\n  '.join(faults))
  return leaves


def _shards(
  tensors: list[mapping.Tensor], leaves: dict[str, jax.Array], shard_bytes: int
) -> dict[str, list[mapping.Tensor]]:
  """The tensors of each file, in order."""
  groups: list[list[mapping.Tensor]] = [[]]
  filled = 0
  for tensor in tensors:
    size = safetensors.nbytes(leaves[tensor.leaf].dtype, tensor.shape)
    if groups[-1] and filled + size > shard_bytes:
      groups.append([])
      filled = 0
    groups[-1].append(tensor)
    filled += size
  if len(groups) == 1:
    return {SINGLE: groups[0]}
  total = len(groups)
  return {f'model-{i:05}-of-{total:05}.safetensors': group for i, group in enumerate(groups, 1)}


def _clear(folder: epath.Path, shards: collections.abc.Collection[str]) -> None:
  """Removes config.json and index, so that a half-written folder is no model; refuses weights."""
  folder.mkdir(parents=True, exist_ok=True)
  weights = {path.name for path in folder.iterdir() if path.suffix == '.safetensors'}
  if stale := sorted(weights - set(shards)):
    raise ValueError(
      f'{folder}: holds {", ".join(stale)}, which this model has no file of; choose another folder '
      'or delete the old model'
    )
  for name in ('config.json', INDEX):
    (folder / name).unlink(missing_ok=True)


def _finish(folder, config, leaves, shards, tokenizer, ends):
  """Writes the index, if there are several files, the tokenizer, and config.json last."""
  if len(shards) > 1:
    weight_map = {tensor.name: file for file, tensors in shards.items() for tensor in tensors}
    total = sum(leaf.nbytes for leaf in leaves.values())
    index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
    atomic.write_text(folder / INDEX, json.dumps(index, indent=2) + '\n')
  if tokenizer is not None:
    with tempfile.TemporaryDirectory() as local:  # transformers writes to no bucket
      tokenizer.save_pretrained(local)
      for path in epath.Path(local).iterdir():
        path.copy(folder / path.name, overwrite=True)
  dtypes = {leaf.dtype for leaf in leaves.values()}
  dtype = dtypes.pop() if len(dtypes) == 1 else jnp.dtype('float32')  # it holds the others
  atomic.write_text(folder / 'config.json', hf_config.text(config, dtype, tokenizer, ends))


def on_host(tensor: mapping.Tensor, leaves: dict[str, jax.Array]) -> np.ndarray:
  """Returns our leaf of a tensor (one layer of it, where stacked); every process makes the call."""
  leaf: Any = leaves[tensor.leaf]
  if isinstance(leaf, jax.Array) and [d.platform for d in leaf.devices()] == ['cpu']:
    leaf = np.asarray(leaf)  # a view: no copy, and no program that takes a layer out
  return gathered(leaf if tensor.layer is None else leaf[tensor.layer])


def gathered(array: jax.Array | np.ndarray) -> np.ndarray:
  """Returns an array on every host, wherever its parts lie; every process makes the call."""
  if getattr(array, 'is_fully_addressable', True):
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)
