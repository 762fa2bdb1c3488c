"""The compiled programs of a rollout: resharding, prefill, admission, blocks of decoding.

engine = rollout.engine(spec)  # a `rollout.spec.EngineSpec`
params = engine.reshard(state.params)
for trajectory in scheduler.run(engine, params, requests): ...
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from lwz.model import kv_cache, parameters, quantised, qwen, sharding, transposed
from lwz.model import lora as lora_lib
from lwz.programs import placement, program
from lwz.rollout import scheduler
from lwz.rollout import slots as slots_lib
from lwz.rollout import spec as spec_lib


def reshard(spec: spec_lib.EngineSpec, lora: lora_lib.LoRA | None = None) -> program.Program:
  """params by TRAIN, in float32 -> params by DECODE, as `spec` has them: dtype, kind, unstacked.

  With `lora`, (adapters, their frozen base) -> the base with the adapters merged into it.
  """

  def cast(trained, *base):
    params = lora_lib.join(trained, *base, lora=lora)
    params = parameters.unstack(params) if spec.unstacked else params
    params = lora_lib.decoded(params, spec.config, spec.weights)
    return transposed.of(params, spec.config) if spec.transposed else params

  frozen = placement.frozen(spec.config, spec.mesh, lora)
  return program.Program(
    'reshard',
    cast,
    (placement.trained(spec.config, spec.mesh, lora), *frozen),
    out_shardings=_shardings(decode_params(spec), spec.mesh),
    frozen=len(frozen),
  )


def decode_params(spec: spec_lib.EngineSpec) -> qwen.Params:
  """Returns the shapes of the parameters that `reshard` makes."""
  config, mesh = spec.config, spec.mesh
  described = quantised.describe(parameters.describe(config), spec.weights, config.dtype)
  stacked = sharding.abstract_of(described, mesh, sharding.DECODE)
  if not spec.unstacked:
    return stacked

  def one(x):
    if mesh is None:
      return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    sharded = NamedSharding(mesh, PartitionSpec(*x.sharding.spec[1:]))
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=sharded)

  layers = (jax.tree.map(one, stacked['layers']),) * config.num_hidden_layers
  params = {**stacked, 'layers': layers}
  if not spec.transposed:
    return params
  shapes = jax.eval_shape(functools.partial(transposed.of, config=config), params)
  return jax.tree.map(lambda x: placement.array(x.shape, x.dtype, mesh), shapes)


def abstract_slots(spec: spec_lib.EngineSpec) -> slots_lib.Slots:
  """Returns the slots as shapes: the cache sharded by slot and head, counters replicated."""
  slots = jax.eval_shape(lambda: slots_lib.init(spec))
  names = kv_cache.DIMENSIONS
  return slots_lib.Slots(
    counters=jax.tree.map(lambda x: placement.array(x.shape, x.dtype, spec.mesh), slots.counters),
    cache=jax.tree.map(
      lambda x: placement.array(x.shape, x.dtype, spec.mesh, *names[: x.ndim]), slots.cache
    ),
  )


def prefill(spec: spec_lib.EngineSpec, *, batch_size: int, num_tokens: int) -> program.Program:
  """(params, prompts_PT) -> `Cache` of P prompts."""
  fn = functools.partial(slots_lib.prefill, spec=spec)
  prompts = placement.array((batch_size, num_tokens), jnp.int32, spec.mesh)
  return program.Program('prefill', fn, (decode_params(spec), prompts))


def decode(spec: spec_lib.EngineSpec, *, batch_size: int, read_length: int) -> program.Program:
  """(params, slots, active_B, until_active) -> (slots, `Block`), see `slots.decode`.

  The slots are donated; the block is replicated, since every host reads it.
  """
  fn = functools.partial(
    slots_lib.decode, spec=spec, batch_size=batch_size, read_length=read_length
  )
  slots = abstract_slots(spec)
  args = (
    decode_params(spec),
    slots,
    placement.array((spec.num_slots,), jnp.bool_, spec.mesh),
    placement.array((), jnp.int32, spec.mesh),
  )
  out = None
  if spec.mesh is not None:
    out = placement.shardings(slots), placement.replicated(spec.mesh)
  return program.Program('decode', fn, args, donate=(1,), out_shardings=out, trips=spec.num_steps)


def engine(
  spec: spec_lib.EngineSpec, lora: lora_lib.LoRA | None = None, *base: qwen.Params
) -> scheduler.Engine:
  """Returns the engine for `scheduler.run`; each program is compiled on first use.

  Those of decoding are compiled in threads from when they are asked for. With `lora`, its `reshard`
  takes the adapters of this `base`.
  """
  placed = _shardings(abstract_slots(spec), spec.mesh)

  @functools.cache
  def prefill_of(batch_size, num_tokens):
    return prefill(spec, batch_size=batch_size, num_tokens=num_tokens).jit()

  @functools.cache
  def program_of(batch_size, read_length):
    return decode(spec, batch_size=batch_size, read_length=read_length)

  @functools.cache
  def decode_of(batch_size, read_length):
    program_of(batch_size, read_length).start()
    return program_of(batch_size, read_length).jit()

  return scheduler.Engine(
    reshard=reshard(spec, lora).jit(*base),
    init=jax.jit(lambda: slots_lib.init(spec), out_shardings=placed),
    prefill=prefill_of,
    admit=jax.jit(
      functools.partial(slots_lib.admit, mesh=spec.mesh), donate_argnums=0, out_shardings=placed
    ),
    move=jax.jit(functools.partial(slots_lib.move), donate_argnums=0, out_shardings=placed),
    decode=decode_of,
    compiling=lambda batch_size, read_length: program_of(batch_size, read_length).start(),
    batch_sizes=spec.batch_sizes,
    read_lengths=spec.read_lengths,
    prompt_lengths=spec.prompt_lengths,
    prompt_batch_sizes=spec.prompt_batch_sizes,
    max_tokens=spec.max_tokens,
    exact=spec.exact,
  )


def _shardings(abstract, mesh: placement.AnyMesh):
  return None if mesh is None else placement.shardings(abstract)
