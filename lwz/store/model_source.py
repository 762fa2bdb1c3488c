"""Sources of parameters: the folder of a run, or a Hugging Face model (a folder or a hub id).

A run keeps its model's configuration in `model.json`, in the form of Hugging Face's config.json.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from etils import epath

from lwz.model import config as config_lib
from lwz.model import qwen, sharding
from lwz.store import atomic, checkpoint
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import config as hf_config

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
  folder = hf.local(source)
  return hf_config.end_ids([folder / 'config.json', folder / 'generation_config.json'])


def config(source: epath.PathLike) -> config_lib.QwenConfig:
  """The configuration of a run's model or of a Hugging Face model; no weight is read.

  Compute is in the dtype that the file names, bfloat16 where it names none.

  Raises FileNotFoundError if there is no model, ValueError if it is not one of ours.
  """
  if not source:
    raise ValueError(
      'the name of a model is empty (init, reward.model, one of eval.systems): name a run, a '
      'folder or a hub id'
    )
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

  They lie on `mesh` by `sharding.TRAIN`, each part read by the device that holds it. A scalar head
  that the source lacks is sampled with `key`; a language-model head that `wanted` has no use for is
  left behind. `progress` is told of a Hugging Face model's tensors, see `hf.load`.
  """
  abstract = sharding.abstract(wanted, mesh, sharding.TRAIN, dtype)
  if is_run(source):
    has_head = config(source).scalar_head
    body = {name: leaf for name, leaf in abstract.items() if name != 'score' or has_head}
    loaded = checkpoint.load_params(source, body)
  else:
    found = hf.load(source, mesh, dtype, progress=progress)[1]
    loaded = {name: leaf for name, leaf in found.items() if name in abstract}
  if 'score' in abstract and 'score' not in loaded:
    initial = jax.jit(
      lambda key: qwen.init(key, wanted)['score'].astype(dtype),
      out_shardings=getattr(abstract['score'], 'sharding', None),
    )
    loaded['score'] = initial(key)
  return loaded


def tokenizer(source: epath.PathLike) -> str:
  """Returns the folder or hub id of the tokenizer of a run or of a Hugging Face model."""
  return os.fspath(epath.Path(source) / 'tokenizer') if is_run(source) else os.fspath(source)
