"""Sources of parameters: a run's folder, a Hugging Face model (folder or hub id), or a GGUF file.

Adapters in PEFT's form, too, are a source: of the model that they make of their base.
A run keeps its model's configuration in `model.json`, in the form of Hugging Face's config.json.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from lwz.model import config as config_lib
from lwz.model import qwen, sharding
from lwz.store import adapters, atomic, checkpoint, gguf, gguf_header
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import config as hf_config
from lwz.store.hf import mapping, peft

KEPT = 'model.json'


def is_run(source: epath.PathLike) -> bool:
  """Returns whether `source` is the folder of a run, finished or not, that has a model."""
  return (epath.Path(source) / KEPT).exists()


def keep(folder: epath.PathLike, config: config_lib.QwenConfig, ends: Sequence[int] = ()) -> None:
  """Writes a run's model configuration, with the ids of the tokens that end a text."""
  text = hf_config.text(config, jnp.dtype(config.dtype), ends=ends)
  atomic.write_text(epath.Path(folder) / KEPT, text)


def end_ids(source: epath.PathLike) -> tuple[int, ...]:
  """Returns the ids of the tokens that end a text, as far as the model's own files name them."""
  if is_run(source):
    return hf_config.end_ids([epath.Path(source) / KEPT])
  if file := gguf_header.locate(source):
    return gguf.end_ids(gguf_header.read(file).metadata)
  if adapted := peft.locate(source):
    return end_ids(peft.base(adapted))
  folder = hf.local(source)
  return hf_config.end_ids([folder / 'config.json', folder / 'generation_config.json'])


def is_address(source: epath.PathLike) -> bool:
  """Whether a source is the address of a server."""
  return os.fspath(source).startswith(('http://', 'https://'))


def config(source: epath.PathLike) -> config_lib.QwenConfig:
  """The configuration of a run's model, a Hugging Face model or a file; no weight is read.

  Compute is in the dtype that the file names, bfloat16 where it names none.

  Raises FileNotFoundError if there is no model, ValueError if it is not one of ours.
  """
  if not source:
    raise ValueError(
      'the name of a model is empty (init, reward.model, one of eval.systems): name a run, a '
      'folder or a hub id'
    )
  if is_address(source):
    raise ValueError(f'{source}: a server has no parameters to read; name a run or a model')
  if file := gguf_header.locate(source):
    return gguf.config(file)
  if not is_run(source) and (folder := peft.locate(source)):
    with _naming(source, base := peft.base(folder)):
      found = config(base)
    peft.describe(folder, found)
    return found
  path = epath.Path(source) / KEPT if is_run(source) else hf.local(source) / 'config.json'
  found, dtype = hf_config.read(path)
  return dataclasses.replace(found, dtype=jnp.dtype(dtype or jnp.bfloat16))


def params(
  source: epath.PathLike,
  wanted: config_lib.QwenConfig,
  key: jax.Array,
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: jax.typing.DTypeLike = jnp.float32,
  progress: Callable[[int, int], None] | None = None,
) -> qwen.Params:
  """Returns parameters for the model `wanted`: a run's last ones, or a Hugging Face model's.

  Those of a run that trains adapters are its base's with these merged into them. They lie on `mesh`
  by `sharding.TRAIN`, each part read by the device that holds it. A scalar head
  that the source lacks is sampled with `key`; a language-model head that `wanted` has no use for is
  left behind. `progress` is told of a Hugging Face model's tensors, see `hf.load`.

  Raises ValueError, naming the tensor, if one holds NaN or infinity.
  """
  abstract = sharding.abstract(wanted, mesh, sharding.TRAIN, dtype)
  if is_run(source):
    own = config(source)
    body = {name: leaf for name, leaf in abstract.items() if name != 'score' or own.scalar_head}
    if kept := adapters.read(source):
      whole = _adapted(source, kept, own, key, mesh, dtype, progress)
      loaded = {name: whole[name] for name in body}
    else:
      left = ('head',) if wanted.scalar_head else ()
      loaded = checkpoint.load_params(source, body, left=left)
  elif not (file := gguf_header.locate(source)) and (folder := peft.locate(source)):
    whole = _peft(source, folder, key, mesh, dtype, progress)
    loaded = {name: leaf for name, leaf in whole.items() if name in abstract}
  else:
    load = functools.partial(gguf.load, file) if file else functools.partial(hf.load, source)
    found = load(mesh, dtype, progress=progress)[1]
    loaded = {name: leaf for name, leaf in found.items() if name in abstract}
  if 'score' in abstract and 'score' not in loaded:
    initial = jax.jit(
      lambda key: qwen.init(key, wanted)['score'].astype(dtype),
      out_shardings=getattr(abstract['score'], 'sharding', None),
    )
    loaded['score'] = initial(key)
  _check_finite(source, loaded, wanted)
  return loaded


def _adapted(source, kept: adapters.Kept, own, key, mesh, dtype, progress) -> qwen.Params:
  """Returns the parameters of a run that trains adapters: those of its base, and these."""
  with _naming(source, base := adapters.base(source, kept)):
    held = params(base, own, key, mesh=mesh, dtype=jnp.dtype(kept.dtype), progress=progress)
  return adapters.merge(source, kept, held, own, mesh, dtype)


def _peft(source, folder, key, mesh, dtype, progress) -> qwen.Params:
  """Returns the parameters of adapters in PEFT's form, added to their base in its own dtype."""
  with _naming(source, base := peft.base(folder)):
    own = config(base)
    held = params(base, own, key, mesh=mesh, dtype=own.dtype, progress=progress)
  return adapters.merged(*peft.load(folder, own, mesh), held, dtype)


@contextlib.contextmanager
def _naming(source: epath.PathLike, base: str) -> Iterator[None]:
  """Names the adapters whose base is not there."""
  try:
    yield
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'{source}: its adapters change {base}, which is not there; put it back: {error}'
    ) from error


def _check_finite(source: epath.PathLike, params: qwen.Params, config: config_lib.QwenConfig):
  """Raises ValueError, naming the tensor, if one holds NaN or infinity in the dtype it now has."""
  leaves = mapping.flatten(params)

  def every(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Whether each tensor is finite; of a stacked leaf, one for each layer."""
    return {
      name: jnp.isfinite(leaf).all(tuple(range(name.startswith('layers.'), leaf.ndim)))
      for name, leaf in leaves.items()
    }

  # One program for all leaves, whose results every process reads.
  where = next(iter(leaves.values())).sharding
  if isinstance(where, jax.sharding.NamedSharding):
    where = jax.sharding.NamedSharding(where.mesh, jax.sharding.PartitionSpec())
  for name, found in jax.jit(every, out_shardings=where)(leaves).items():
    if not np.all(found):
      tensors = [tensor.name for tensor in mapping.tensors(config) if tensor.leaf == name]
      tensor, dtype = tensors[int(np.argmin(found))], leaves[name].dtype
      raise ValueError(
        f'{source}: {tensor} holds NaN or infinity in {dtype}; save or download the model again, '
        'in bfloat16 or float32 if float16 is too small for its values'
      )


def tokenizer(source: epath.PathLike) -> str:
  """Returns the folder, hub id or file of the tokenizer of any source.

  That of adapters is the one that was saved beside them, else their base's.
  """
  if is_run(source):
    return os.fspath(epath.Path(source) / 'tokenizer')
  if gguf_header.locate(source) or not (folder := peft.locate(source)):
    return os.fspath(source)
  return os.fspath(source) if peft.has_tokenizer(folder) else tokenizer(peft.base(folder))
