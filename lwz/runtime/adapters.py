"""Low-rank adapters by `c.lora`: which a run trains, what stays frozen, and what that takes."""

import math

import jax
import jax.numpy as jnp
from etils import epath

from lwz import hosts
from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import parameters, qwen, sharding
from lwz.programs import placement
from lwz.programs.cost import fit
from lwz.runtime import setup
from lwz.store import adapters

READS = ('lora',)


def of(c) -> lora_lib.LoRA | None:
  """Returns the adapters that a run trains; None where it trains all parameters."""
  found = lora_lib.LoRA(c.lora.rank, c.lora.alpha, tuple(c.lora.targets), c.lora.frozen)
  return found if found.rank else None


def check(c) -> None:
  """Raises ValueError if there is nothing that adapters of this rank can change."""
  if not (lora := of(c)):
    if c.lora.frozen != 'float':
      raise ValueError(
        f'lora.frozen={c.lora.frozen} with lora.rank=0: only what no step changes can be kept so; '
        'set lora.rank, or leave the key out'
      )
    return
  if not lora.targets:
    raise ValueError(f'lora.targets=(): name one at least of {", ".join(lora_lib.TARGETS)}')
  if c.init == 'random' and c.stage != 'preflight':  # which needs shapes alone
    raise ValueError(
      f"lora.rank={lora.rank} with init='random': adapters change a model that has learnt; name "
      'one under init, or set lora.rank=0'
    )
  config = setup.expected(c, c.init)
  for name, leaf in lora_lib.TARGETS.items():
    param = parameters.describe(config)['layers'][leaf]
    inner, outer = (
      math.prod(param.shape[i] for i in part) for part in parameters.dimensions(param)
    )
    if name in lora.targets and lora.rank > min(inner, outer):
      raise ValueError(
        f'lora.rank={lora.rank} exceeds what {name} has, a matrix of {inner} x {outer}: choose at '
        f'most {min(inner, outer)}, or leave {name} out of lora.targets'
      )


def initial(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, base: qwen.Params
) -> qwen.Params:
  """Returns adapters that change nothing yet, float32, sharded over the mesh.

  A scalar head begins as that of the base, which is a new one if its source had none.
  """
  lora = of(c)
  assert lora
  where = sharding.shardings_of(lora_lib.describe(config, lora), mesh, sharding.TRAIN)
  start = jax.jit(lambda key: lora_lib.init(key, config, lora), out_shardings=where)
  found = start(jax.random.key(c.seed))
  return found | {  # copies: training donates its own
    name: jnp.array(base[name], jnp.float32) for name in found if name != 'layers'
  }


def whole(
  c, config: config_lib.QwenConfig, trained: qwen.Params, *base: qwen.Params
) -> qwen.Params:
  """Returns the model of a run: what it trains, or its adapters merged in the compute dtype."""
  lora = of(c)
  return adapters.merged(lora, trained, base[0], config.dtype) if lora else trained


def keep(
  c,
  folder: epath.Path,
  config: config_lib.QwenConfig,
  base: qwen.Params,
  mesh: jax.sharding.Mesh | None,
) -> qwen.Params:
  """Notes in a run's folder which base its adapters change. Returns it as `lora.frozen` says.

  Raises ValueError if a resumed run finds another one than it began with.
  """
  lora = of(c)
  assert lora
  if hosts.of_first((folder / adapters.KEPT).exists()) and (kept := adapters.read(folder)):
    adapters.check(folder, kept, base)
    return adapters.freeze(base, config, lora, mesh)
  source = setup.reference(c, c.init)
  if epath.Path(source).parent == folder.parent:  # both may be moved together
    source = f'../{epath.Path(source).name}'
  kept = adapters.of(lora, source, base)
  hosts.first(lambda: adapters.keep(folder, kept))
  return adapters.freeze(base, config, lora, mesh)


def describe(c, config: config_lib.QwenConfig) -> str:
  """Returns a sentence on what is trained, what is frozen, and the bytes of each."""
  lora = of(c)
  assert lora
  num, whole = num_trained(config, lora), qwen.num_params(config)
  moments = jnp.dtype(c.train.moments).itemsize * (1 if c.train.optimizer == 'muon' else 2)
  frozen, dtype = placement.frozen(config, None, lora), jnp.dtype(config.dtype).name
  kept = dtype if lora.frozen == 'float' else f'{lora.frozen}, what is no matrix in {dtype}'
  head = ', and a scalar head' if config.scalar_head else ''
  return (
    f'trains {num:,} parameters, adapters of rank {lora.rank} for {", ".join(lora.targets)}{head}: '
    f'{_bytes(num * (4 + moments))} with their moments; frozen are the {whole:,} of {c.init}: '
    f'{_bytes(fit.bytes_per_device(frozen))} in {kept}'
  )


def _bytes(num: int) -> str:
  """Returns a number of bytes for a reader: '121 KiB', '1.52 GiB'."""
  power = min(3, max(1, int(math.log2(num)) // 10))
  return f'{num / 2 ** (10 * power):.3g} {" KMG"[power]}iB'


def facts(c, config: config_lib.QwenConfig) -> dict[str, str]:
  """Returns facts for the report of a run."""
  lora = of(c)
  return {'trained parameters': f'{num_trained(config, lora):,}'} if lora else {}


def num_trained(config: config_lib.QwenConfig, lora: lora_lib.LoRA) -> int:
  """Returns the number of parameters of the adapters."""
  return parameters.num_of(lora_lib.describe(config, lora))
