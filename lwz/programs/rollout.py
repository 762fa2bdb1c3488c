"""The compiled steps of writing: parameters into place, prefill, admission, blocks of decoding.

`engine` builds what `rollout.scheduler` runs:

    writer = engine(config, num_slots=32, max_prompt_tokens=2_048, max_tokens=14_000, ...)
    params = writer.reshard(state.params)
    for reply in scheduler.run(writer, params, requests): ...
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from lwz import rows
from lwz.model import kv_cache, parameters, qwen, sharding
from lwz.model.attention import decode as decode_attention
from lwz.model.attention import packed as packed_attention
from lwz.programs import placement, program
from lwz.rollout import sampler, scheduler, shapes
from lwz.rollout import slots as slots_lib

FULL = 1_024  # tokens of short prompts, read at once: with so many, products run at full rate
TILE = 128  # elements that lie side by side in a vector of a TPU
STRETCHES = 8  # at most, that a GPU's cache comes in: it reads as many as are filled


def reshard(
  config: qwen.QwenConfig, *, written_out: bool = False, mesh: placement.AnyMesh = None
) -> program.Program:
  """params by TRAIN, in float32 -> params by DECODE, in the compute dtype.

  `written_out` makes `layers` a tuple with one tree per layer: a CPU or GPU then reads a layer's
  weights where they lie, and does not copy them out of a stack in every step.
  """

  def cast(params):
    params = jax.tree.map(lambda x: x.astype(config.dtype), params)
    return parameters.unstack(params) if written_out else params

  return program.Program(
    'reshard',
    cast,
    (placement.params(config, mesh, sharding.TRAIN),),
    out_shardings=_placed(decode_params(config, written_out, mesh), mesh),
  )


def decode_params(
  config: qwen.QwenConfig, written_out: bool, mesh: placement.AnyMesh
) -> qwen.Params:
  """What `reshard` returns, as shapes."""
  stacked = placement.params(config, mesh, sharding.DECODE, config.dtype)
  if not written_out:
    return stacked

  def one(x):
    if mesh is None:
      return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    where = NamedSharding(mesh, PartitionSpec(*x.sharding.spec[1:]))
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=where)

  return {**stacked, 'layers': (jax.tree.map(one, stacked['layers']),) * config.num_hidden_layers}


def abstract_slots(
  config: qwen.QwenConfig,
  *,
  num_slots: int,
  capacity: int,
  num_stretches: int = 1,
  int8: bool = False,
  mesh: placement.AnyMesh = None,
) -> slots_lib.Slots:
  """The slots as shapes: what is cached cut by rows and heads, counters whole on every device."""
  slots = jax.eval_shape(
    lambda: slots_lib.init(config, num_slots, capacity, num_stretches=num_stretches, int8=int8)
  )
  names = kv_cache.DIMENSIONS
  return slots_lib.Slots(
    rows=jax.tree.map(lambda x: placement.array(x.shape, x.dtype, mesh), slots.rows),
    past=jax.tree.map(
      lambda x: placement.array(x.shape, x.dtype, mesh, *names[: x.ndim]), slots.past
    ),
  )


def prefill(
  config: qwen.QwenConfig,
  *,
  num_tokens: int,
  num_prompts: int = 1,
  written_out: bool = False,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(params, prompts_NT) -> `Cache` of N rows."""
  fn = functools.partial(slots_lib.prefill, config=config, mesh=mesh)
  prompts = placement.array((num_prompts, num_tokens), jnp.int32, mesh)
  return program.Program('prefill', fn, (decode_params(config, written_out, mesh), prompts))


def decode(
  config: qwen.QwenConfig,
  slots: slots_lib.Slots,
  *,
  num_rows: int,
  read: int,
  num_steps: int,
  sampling: sampler.Sampling,
  attention: str = 'auto',
  written_out: bool = False,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(params, slots, going_B, until) -> (slots, `Block`); `slots` is as of `abstract_slots`.

  `attention` is 'auto' or a backend of `decode_attention`. The slots are taken over; the block is
  whole on every device, since every host reads it.
  """
  fn = functools.partial(
    slots_lib.decode,
    config=config,
    num_rows=num_rows,
    read=read,
    num_steps=num_steps,
    sampling=sampling,
    attention=decode_attention.choose(
      attention, mesh, config.head_dim, int8=slots.past[0].k_unit is not None
    ),
    mesh=mesh,
  )
  args = (
    decode_params(config, written_out, mesh),
    slots,
    placement.array(slots.rows.live.shape, jnp.bool_, mesh),
    placement.array((), jnp.int32, mesh),
  )
  placed = None if mesh is None else (placement.shardings(slots), placement.replicated(mesh))
  return program.Program('decode', fn, args, donate=(1,), out_shardings=placed, trips=num_steps)


def engine(
  config: qwen.QwenConfig,
  *,
  num_slots: int,
  max_prompt_tokens: int,
  max_tokens: int,
  sampling: sampler.Sampling,
  exact: bool,
  num_steps: int = 32,
  int8: bool = False,
  attention: str = 'auto',
  mesh: placement.AnyMesh = None,
  written_out: bool | None = None,
) -> scheduler.Engine:
  """Everything that `scheduler.run` calls. Each program is compiled when it is first needed.

  Args:
    config: of the model.
    num_slots: trajectories at a time.
    max_prompt_tokens, max_tokens: of a trajectory, at most.
    sampling: how tokens are drawn, and what ends a trajectory.
    exact: one batch shape whoever is live, so that not even a bit depends on the others; else the
      batch shrinks as the tail thins out, and only what is filled of the cache is read.
    num_steps: of a block, at most.
    int8: keys and values in int8, a unit per token and head; log-probabilities are then those of
      the rounded cache, and differ from the scorer's.
    attention: 'auto' or a backend of `decode_attention`. Kernels read a row to the end of the last
      block that it has filled, so there is one program for each number of rows, whatever is read.
    mesh: where everything lies; None is one device.
    written_out: see `reshard`; None is `writes_out`. On CPUs batches then shrink, and more of the
      cache is read, in steps half as large as the doublings of TPUs, for which compiling takes
      longer. GPUs read one stretch of the cache after the other.
  """
  attention = decode_attention.choose(attention, mesh, config.head_dim, int8=int8)
  on_cpu = packed_attention.platform_of(mesh) == 'cpu'
  if written_out is None:
    written_out = writes_out(attention, mesh, int8=int8)
  space = room(max_prompt_tokens + max_tokens, num_steps, attention=attention, int8=int8, mesh=mesh)
  kept: dict[str, Any] = {
    'capacity': space.capacity,
    'num_stretches': space.num_stretches,
    'int8': int8,
  }
  slots = abstract_slots(config, num_slots=num_slots, mesh=mesh, **kept)
  kind: dict[str, Any] = {'written_out': written_out, 'mesh': mesh}
  placed = _placed(slots, mesh)

  @functools.cache
  def prefill_of(num_prompts, num_tokens):
    return prefill(config, num_tokens=num_tokens, num_prompts=num_prompts, **kind).jit()

  @functools.cache
  def decode_of(num_rows, read):
    shape: dict[str, Any] = {'num_rows': num_rows, 'read': read, 'num_steps': num_steps}
    return decode(config, slots, sampling=sampling, attention=attention, **shape, **kind).jit()

  per_octave = 2 if written_out and on_cpu else 1
  cut = 1 if mesh is None else mesh.shape['data'] * mesh.shape['fsdp']
  prompt_sizes = shapes.sizes(max_prompt_tokens)
  batches = (1 if exact or cut > 1 else min(num_slots, FULL // size) for size in prompt_sizes)
  return scheduler.Engine(
    reshard=reshard(config, **kind).jit(),
    init=jax.jit(lambda: slots_lib.init(config, num_slots=num_slots, **kept), out_shardings=placed),
    prefill=prefill_of,
    admit=jax.jit(
      functools.partial(slots_lib.admit, mesh=mesh), donate_argnums=0, out_shardings=placed
    ),
    move=jax.jit(functools.partial(slots_lib.move), donate_argnums=0, out_shardings=placed),
    decode=decode_of,
    # Rows that are cut over devices stay so: a smaller batch would have to be laid out anew.
    rungs=(num_slots,) if exact or cut > 1 else shapes.ladder(num_slots, per_octave=per_octave),
    reads=(space.read,) if exact or attention != 'xla' else _reads(space, per_octave, mesh),
    prompt_sizes=prompt_sizes,
    prompt_batches=tuple(max(1, num) for num in batches),
    max_tokens=max_tokens,
    exact=exact,
  )


def writes_out(attention: str, mesh: placement.AnyMesh, *, int8: bool = False) -> bool:
  """Whether layers are written out, see `reshard`: where XLA would copy weights out of a stack.

  A TPU's does not. A GPU's would hold what it makes of int8, for all layers at once.
  """
  platform = packed_attention.platform_of(mesh)
  return (
    platform == 'cpu' or attention == 'triton' or (platform in packed_attention.GPUS and not int8)
  )


class Room(NamedTuple):
  """The slots of a row."""

  read: int  # at most
  capacity: int
  num_stretches: int  # that they come in


def room(
  num_tokens: int,
  num_steps: int,
  *,
  attention: str = 'xla',
  int8: bool = False,
  mesh: placement.AnyMesh = None,
) -> Room:
  """Slots for trajectories of so many tokens, which blocks of so many steps fill.

  `attention` is a backend of `decode_attention`, as `choose` gives it.
  A block files all of its steps. Off a CPU, and for kernels, numbers are multiples of `TILE`: of
  another size, a TPU would keep keys with their heads' dimensions along memory, and copy all of
  them into the order in which they are read at the beginning of every block. Of stretches see
  `cache`; only where layers are written out does a GPU take them as they lie.
  """
  tile, num_filed = _tile(attention, mesh), num_tokens + num_steps
  platform = packed_attention.platform_of(mesh)
  if attention != 'xla' or platform not in packed_attention.GPUS or int8:
    return Room(rows.bucket(num_tokens, tile), rows.bucket(num_filed, tile), 1)
  size = rows.bucket(max(num_steps, -(-num_filed // STRETCHES)), tile)
  num = -(-num_filed // size)
  return Room(num * size, num * size, num)


def _reads(space: Room, per_octave: int, mesh: placement.AnyMesh) -> tuple[int, ...]:
  """How much of the cache XLA reads: one of few sizes."""
  if space.num_stretches > 1:
    size = space.capacity // space.num_stretches
    return tuple(range(size, space.capacity + 1, size))
  sizes, tile = shapes.sizes(space.read, per_octave=per_octave), _tile('xla', mesh)
  return tuple(sorted({rows.bucket(size, tile) for size in sizes}))


def _tile(attention: str, mesh: placement.AnyMesh) -> int:
  """What numbers of slots are multiples of."""
  plain = attention == 'xla' and packed_attention.platform_of(mesh) == 'cpu'
  return 1 if plain else TILE


def _placed(abstract, mesh: placement.AnyMesh):
  return None if mesh is None else placement.shardings(abstract)
