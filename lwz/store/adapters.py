"""Adapters in the folder of a run: their kind, and the model that they change.

    {"rank": 8, "alpha": 16.0, "targets": ["q", "v"], "frozen": "int8",
     "base": "../pretrain-micro", "dtype": "bfloat16", "checksum": 3735928559}

is adapters.json. The run's checkpoints hold the adapters alone. `checksum` is that of the base in
`dtype`, in which the run has computed with it: another base would make another model of them. A
base that the run has kept in int8 or int4, see `model.quantised`, is made so again from `dtype`.
"""

import dataclasses
import functools
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from lwz import jsonl
from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import parameters, quantised, qwen, sharding
from lwz.store import atomic, checkpoint, checksum

KEPT = 'adapters.json'
_FIELDS = {
  **{'rank': int, 'alpha': float, 'targets': list},
  **{'base': str, 'dtype': str, 'checksum': int},
}


@dataclasses.dataclass(frozen=True)
class Kept:
  """Contents of adapters.json. `base` is a folder or a hub id; '../NAME' is a neighbour's."""

  lora: lora_lib.LoRA
  base: str
  dtype: str
  checksum: int


def of(lora: lora_lib.LoRA, base: str, params: qwen.Params) -> Kept:
  """Returns the record of adapters of these parameters of a base."""
  return Kept(lora, base, jax.tree.leaves(params)[0].dtype.name, _checksum(params))


def _checksum(params: qwen.Params) -> int:
  """Returns the checksum of a base. Its scalar head, which training replaces, may be a new one."""
  return checksum.of({name: leaf for name, leaf in params.items() if name != 'score'})


def read(folder: epath.PathLike) -> Kept | None:
  """Returns what a run's folder says of its adapters, None where it trains all parameters."""
  path = epath.Path(folder) / KEPT
  if not path.exists():
    return None
  found = jsonl.document(path, _FIELDS, remedy='the file is damaged; put it back')
  frozen = found.get('frozen', 'float')  # which older folders do not hold
  if frozen not in quantised.KINDS:
    raise ValueError(f'{path}: frozen = {frozen!r} is none of {", ".join(quantised.KINDS)}')
  lora = lora_lib.LoRA(found['rank'], found['alpha'], tuple(found['targets']), frozen)
  return Kept(lora, found['base'], found['dtype'], found['checksum'])


def keep(folder: epath.PathLike, kept: Kept) -> None:
  """Writes adapters.json."""
  fields = dataclasses.asdict(kept)
  text = json.dumps(fields.pop('lora') | fields, indent=2) + '\n'
  atomic.write_text(epath.Path(folder) / KEPT, text)


def base(folder: epath.PathLike, kept: Kept) -> str:
  """Returns the source of the model that the adapters of a run change."""
  if not kept.base.startswith('../'):
    return kept.base
  return os.fspath(epath.Path(folder).parent / kept.base.removeprefix('../'))


def check(folder: epath.PathLike, kept: Kept, params: qwen.Params) -> None:
  """Raises ValueError if these are not the parameters that the run's adapters change."""
  if _checksum(params) != kept.checksum:
    raise ValueError(
      f'{folder}: its adapters change {base(folder, kept)}, which holds other weights now; put '
      'those back, or train the adapters again under another name'
    )


def load(
  folder: epath.PathLike,
  kept: Kept,
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh | None = None,
) -> qwen.Params:
  """Returns the last adapters of a run, float32, without its base."""
  described = lora_lib.describe(config, kept.lora)
  abstract = sharding.abstract_of(described, mesh, sharding.TRAIN, jnp.float32)
  return checkpoint.load_params(folder, abstract)


def merge(
  folder: epath.PathLike,
  kept: Kept,
  params: qwen.Params,
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh | None,
  dtype: Any,
) -> qwen.Params:
  """Returns the base's parameters with a run's adapters merged into them, in `dtype`."""
  check(folder, kept, params)
  base = freeze(params, config, kept.lora, mesh)
  return merged(kept.lora, load(folder, kept, config, mesh), base, dtype)


def freeze(
  params: qwen.Params,
  config: config_lib.QwenConfig,
  lora: lora_lib.LoRA,
  mesh: jax.sharding.Mesh | None,
) -> qwen.Params:
  """Returns a base as `lora` keeps it: its matrices as they are, or in int8 or int4.

  `params` is changed in place, so that each matrix is freed as soon as it is quantised.
  """
  described = parameters.describe(config)['layers']
  wanted = quantised.describe(described, lora.frozen, config.dtype)
  where = {} if mesh is None else sharding.shardings_of(wanted, mesh, sharding.TRAIN)
  for name, one in wanted.items():
    if quantised.is_quantised(one):
      make = functools.partial(quantised.quantise, param=described[name], kind=lora.frozen)
      params['layers'][name] = jax.jit(make, out_shardings=where.get(name))(params['layers'][name])
  return params


def merged(lora: lora_lib.LoRA, own: qwen.Params, params: qwen.Params, dtype: Any) -> qwen.Params:
  """Returns the base's parameters with adapters merged into them, in `dtype`, as they lay.

  Both are held until all is merged.
  """
  joined = lora_lib.join(own, params, lora=lora)

  def one(leaf):
    weight = leaf.weight if lora_lib.is_low_rank(leaf) else leaf
    make = jax.jit(lora_lib.merged, static_argnums=1, out_shardings=weight.sharding)
    return make(leaf, jnp.dtype(dtype))

  return jax.tree.map(one, joined, is_leaf=lora_lib.is_special)
