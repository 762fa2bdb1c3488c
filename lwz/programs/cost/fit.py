"""Fit of a program on its devices, and its cost there: compiled, never run.

On a TPU the compiler itself says whether a program fits: it refuses one that does not. On a GPU or
CPU it compiles all the same, so its peak is compared with the memory that is there.
"""

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from lwz.programs import program
from lwz.programs.cost import collectives as collectives_lib
from lwz.programs.cost import flops, hardware, hlo

_UNIT = {'': 1, 'B': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40, 'P': 2**50}


@dataclasses.dataclass(frozen=True)
class Fit:
  """One program on one mesh. Bytes are per device, and counted by XLA.

  Of a program that the compiler refused, for memory, what only a compiled one tells is 0.
  """

  name: str
  mesh: dict[str, int]  # its axes longer than 1, and their sizes
  num_devices: int
  compiled: bool  # False where the compiler refused it
  asked: float  # bytes that it would then take; 0 where it compiled
  arguments: float
  outputs: float = 0
  aliased: float = 0  # of both arguments and outputs
  temporaries: float = 0  # more than live at once
  peak: float = 0  # the most that lives at once, arguments among it
  host: float = 0  # arguments, outputs and temporaries that lie in the host's memory
  flops: float = 0  # of all devices, see `flops.count`
  moved: float = 0  # read and written in the device's memory, see `hlo.traffic`
  collectives: tuple[collectives_lib.Collective, ...] = ()
  lower_seconds: float = 0
  compile_seconds: float = 0

  @property
  def needed(self) -> float:
    """Bytes of a device: the peak, or what the compiler asked for."""
    return self.peak if self.compiled else self.asked


def mesh_of(tree: Any) -> Mesh | None:
  """The mesh that the arguments of a program lie on."""
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf.sharding, NamedSharding) and isinstance(leaf.sharding.mesh, Mesh):
      return leaf.sharding.mesh
  return None


def bytes_per_device(tree: Any) -> int:
  """Returns bytes of a device that abstract arrays take; the whole of those without a sharding.

  Half of an array that is cut in two counts; one that is replicated counts in full; one that waits
  in the memory of the host does not.
  """
  total = 0
  for leaf in jax.tree.leaves(tree):
    if leaf.sharding is not None and leaf.sharding.memory_kind == 'pinned_host':
      continue
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    total += math.prod(shape) * jax.dtypes.itemsize_bits(leaf.dtype) // 8  # int4 has 4
  return total


def measure(one: program.Program, *, per_host: int = 0) -> Fit:
  """Lowers and compiles a program for the mesh that its arguments lie on, or the default device."""
  mesh = mesh_of(one.abstract_args)
  axes = dict(mesh.shape) if mesh else {}
  began = time.monotonic()
  traced = one.jit().trace(*one.abstract_args)
  lowered = traced.lower()
  lowered_at = time.monotonic()
  fit = Fit(
    name=one.name,
    mesh={axis: size for axis, size in axes.items() if size > 1},
    num_devices=math.prod(axes.values()),
    compiled=False,
    asked=0.0,
    arguments=bytes_per_device(one.abstract_args),
    flops=flops.count(traced.jaxpr, max_trips=one.trips),
    lower_seconds=lowered_at - began,
  )
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    asked = refused_bytes(str(error))
    if asked is None:
      raise
    return dataclasses.replace(fit, asked=asked, compile_seconds=time.monotonic() - lowered_at)
  seconds = time.monotonic() - lowered_at
  module = hlo.Module(compiled.as_text(), max_trips=one.trips)
  return dataclasses.replace(
    fit,
    compiled=True,
    **_memory(compiled.memory_analysis(), platform(mesh)),
    moved=hlo.traffic(module, flops.kernels(traced.jaxpr)),
    collectives=collectives_lib.read(module, axes, per_host=per_host),
    compile_seconds=seconds,
  )


def platform(mesh: Mesh | None) -> str:
  """'cpu', 'gpu', 'tpu': of the mesh's devices, which need not be there."""
  return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def _memory(said, platform: str) -> dict[str, Any]:
  """Returns XLA's own numbers; on a CPU, whose peak lacks temporaries, with these added."""
  arguments, outputs = said.argument_size_in_bytes, said.output_size_in_bytes
  aliased, temporaries = said.alias_size_in_bytes, said.temp_size_in_bytes
  on_cpu = arguments + outputs - aliased + temporaries
  on_host = said.host_argument_size_in_bytes + said.host_output_size_in_bytes
  on_host += said.host_temp_size_in_bytes - said.host_alias_size_in_bytes
  return dict(
    arguments=arguments,
    outputs=outputs,
    aliased=aliased,
    temporaries=temporaries,
    peak=on_cpu if platform == 'cpu' else said.peak_memory_in_bytes,
    host=on_host,
  )


def refused_bytes(message: str) -> float | None:
  """Returns the bytes of HBM that a compiler asked for; None if its refusal is not for memory.

  >>> refused_bytes('RESOURCE_EXHAUSTED: ... Used 16.00G of 15.75G hbm.') / 2**30
  16.0
  """
  if 'RESOURCE_EXHAUSTED' not in message and 'out of memory' not in message.lower():
    return None
  found = re.search(r'Used ([\d.]+)([KMGTP]?)i?B? of [\d.]+[KMGTP]?i?B? hbm', message)
  found = found or re.search(r'allocat\w+ ([\d.]+)([KMGTP]?)i?B', message)
  return float(found[1]) * _UNIT[found[2]] if found else math.inf


@dataclasses.dataclass(frozen=True)
class Entry:
  """One entry of a memory plan: a program of a run, and what the devices hold while it runs.

  `residents` are abstract trees of what stays besides the program's arguments, by name.
  """

  part: str  # of a step: 'write', 'judge', 'learn'
  program: program.Program  # at the largest shapes that it will meet
  residents: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  calls: int = 1  # per step, at most


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Bytes of a device that an entry of a memory plan needs, against what the device has."""

  part: str
  fit: Fit
  residents: dict[str, float]  # bytes of a device, by name
  capacity: float  # bytes that a device has for a run
  calls: int = 1

  @property
  def needed(self) -> float:
    return self.fit.needed + sum(self.residents.values())

  @property
  def fits(self) -> bool:
    return self.fit.compiled and self.needed <= self.capacity


def estimate(entry: Entry, chip: hardware.Chip, *, per_host: int = 0) -> Estimate:
  """Compiles the program of an entry and adds up what the devices hold."""
  residents = {name: float(bytes_per_device(tree)) for name, tree in entry.residents.items()}
  fitted = measure(entry.program, per_host=per_host)
  return Estimate(entry.part, fitted, residents, hardware.usable(chip), entry.calls)


def seconds(fit: Fit, chip: hardware.Chip) -> dict[str, float]:
  """Returns seconds of one call by `hardware.MODEL`, per bound; {} if they are unknown."""
  if not fit.compiled or not chip.flops:
    return {}
  far = sum(c.bytes for c in fit.collectives if c.crosses)
  return hardware.seconds(
    chip,
    flops=fit.flops / fit.num_devices,
    moved=fit.moved,
    sent=sum(c.bytes for c in fit.collectives) - far,
    sent_far=far,
  )


def check(plan: Sequence[Entry], chip: hardware.Chip) -> list[Estimate]:
  """Compiles a run's programs before it begins, and returns what each needs.

  `chip` is that of the run's own devices: `topology.load('local').chip`.

  Raises ValueError if a program does not fit, and says by how much.
  """
  estimates = [estimate(entry, chip) for entry in plan]
  too_large = [describe(one) for one in estimates if not one.fits]
  if too_large:
    raise ValueError(f'the run does not fit its {chip.name} devices:\n' + '\n'.join(too_large))
  return estimates


def describe(one: Estimate) -> str:
  """`learn: grpo needs 20.1 GiB of a device with 15.8, 4.2 of them for the reward model`."""
  gib = hardware.GIB
  parts = [f'{size / gib:.2f} of them for {name}' for name, size in one.residents.items()]
  said = f'{one.needed / gib:.2f} GiB' if one.needed < math.inf else 'more than there is'
  needs = f'{one.part}: {one.fit.name} needs {said} of a device with {one.capacity / gib:.2f}'
  return ', '.join([needs, *parts])
