"""Devices by name, attached or not: 'v5p:4x4x4', 'gpu:h100:8x8', 'local'.

Devices that are not there can be compiled for all the same: TPUs through libtpu, GPUs through the
CUDA plugin. Neither needs the hardware, a driver, or a network.
"""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from lwz.programs.cost import hardware as hardware_lib

# Sizes that the libraries know; others may exist.
TPUS = {
  'v4': ('2x2x1', '2x2x2', '2x2x4', '4x4x4', '4x4x8', '8x8x8'),
  'v5e': ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16'),
  'v5p': ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '8x8x8'),
  'v6e': ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16'),
  'tpu7x': ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '8x8x8'),
}

# The cloud's names of slices, v5litepod-8, v5p-128: the chip, and what of a chip a name counts.
_CLOUD = {'v4': ('v4', 2), 'v5p': ('v5p', 2), 'v6e': ('v6e', 1)}
_CLOUD |= dict.fromkeys(('v5e', 'v5litepod'), ('v5e', 1))

# What libtpu asks of its surroundings: without these it looks for a metadata server, and for a TPU
# that no other process has.
_QUIET = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices to compile for."""

  name: str  # as a library knows it, or 'local'
  chip: hardware_lib.Chip  # what each device is
  devices: tuple[jax.Device, ...]  # in the library's order
  per_host: int = 0  # devices of a host where hosts are joined by a slower wire (GPUs), else 0

  @property
  def is_local(self) -> bool:
    return self.name == 'local'


def load(name: str) -> Topology:
  """Returns the devices of a name.

  Raises ValueError with the names that exist, RuntimeError with what to install.

  >>> load('local').devices == tuple(jax.devices())  # 'v5p:4x4x4' has 64
  True
  """
  name = _shaped(name)
  if name == 'local':
    return Topology(name, hardware_lib.local(jax.local_devices()[0]), tuple(jax.devices()))
  if found := re.fullmatch(r'gpu:(\w+):(\d+)x(\d+)', name):
    if found[1] in hardware_lib.GPUS:
      return _gpus(name, found[1], int(found[2]), int(found[3]))
  elif (found := re.fullmatch(r'(\w+):(\d+(?:x\d+)+)', name)) and found[1] in TPUS:
    return _tpus(name, found[1])
  raise ValueError(f'there is no topology {name!r}: {choices()}')


def _shaped(name: str) -> str:
  """Returns the name by its shape of a slice that the cloud calls by its size; others as given.

  >>> _shaped('v5p-128'), _shaped('v5litepod-1'), _shaped('local')
  ('v5p:4x4x4', 'v5e:1x1', 'local')
  """
  kind, _, size = name.partition('-')
  if kind in _CLOUD and size.isdecimal():
    chip, counted = _CLOUD[kind]
    for shape in TPUS[chip]:
      if math.prod(int(n) for n in shape.split('x')) * counted == int(size):
        return f'{chip}:{shape}'
  return name


def choices() -> str:
  """Returns the names that `load` knows, as part of a sentence."""
  tpus = '; '.join(f'{chip}:' + '|'.join(sizes) for chip, sizes in TPUS.items())
  gpus = '|'.join(hardware_lib.GPUS)
  return f"'local' (the attached devices), {tpus}, gpu:{gpus}:HOSTSxGPUS, or as v5litepod-8"


def _tpus(name: str, chip: str) -> Topology:
  for key, value in _QUIET.items():
    os.environ.setdefault(key, value)
  options: dict[str, Any] = {'chip_config_name': 'megacore'} if chip == 'v4' else {}
  if name.endswith(':1x1'):  # libtpu takes four chips for a host otherwise
    options['chips_per_host_bounds'] = (1, 1, 1)
  try:
    found = topologies.get_topology_desc(platform='tpu', topology_name=name, **options)
  except Exception as error:
    if not _installed('libtpu'):
      raise RuntimeError(
        f"{name}: compiling for TPUs needs libtpu: pip install 'lwz[tpu]' (no TPU is needed)"
      ) from error
    raise ValueError(f'{name}: libtpu refuses it ({_first_line(error)}): {choices()}') from error
  return Topology(name, hardware_lib.CHIPS[chip], tuple(found.devices))


def _gpus(name: str, chip: str, hosts: int, per_host: int) -> Topology:
  shape = f'1x{hosts}x{per_host}'
  try:
    found = topologies.get_topology_desc(
      platform='cuda',
      topology_name=shape,
      topology=shape,  # without it, only a plugin that finds a GPU knows the shape
      target_config=_target(hardware_lib.CHIPS[chip]),
    )
  except Exception as error:
    if _installed('jax_cuda13_plugin') or _installed('jax_cuda12_plugin'):
      hint = f'{_first_line(error)}; without a GPU set JAX_PLATFORMS=cpu'
    else:
      hint = "compiling for GPUs needs the CUDA plugin: pip install 'lwz[cuda13]'"
    raise RuntimeError(f'{name}: {hint}') from error
  return Topology(
    name, hardware_lib.CHIPS[chip], tuple(found.devices), per_host if hosts > 1 else 0
  )


def _installed(module: str) -> bool:
  return importlib.util.find_spec(module) is not None


def _first_line(error: Exception) -> str:
  return str(error).strip().split('\n')[0]


# Public numbers of a GPU as XLA's GpuTargetConfigProto: (compute capability, SMs, threads and lanes
# of an SM, shared memory of an SM and of a block, L2, MHz, NVLinks).
_SM = {
  't4': ((7, 5), 40, 1024, 64, 65536, 65536, 4194304, 1590, 0),
  'a100': ((8, 0), 108, 2048, 64, 167936, 166912, 41943040, 1410, 12),
  'rtx4090': ((8, 9), 128, 1536, 128, 102400, 101376, 75497472, 2520, 0),
  'h100': ((9, 0), 132, 2048, 128, 233472, 232448, 52428800, 1980, 18),
  'h200': ((9, 0), 132, 2048, 128, 233472, 232448, 52428800, 1980, 18),
}


def _target(chip: hardware_lib.Chip) -> str:
  (major, minor), cores, threads, lanes, shared, shared_block, cache, clock, links = _SM[chip.name]
  feature = 'feature_extension: ACCELERATED_FEATURES' if major >= 9 else ''
  return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {threads}
      shared_memory_per_block: 49152 shared_memory_per_core: {shared}
      shared_memory_per_block_optin: {shared_block}
      core_count: {cores} fpus_per_core: {lanes}
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
      memory_bandwidth: {int(chip.bandwidth)} l2_cache_size: {cache} clock_rate_ghz: {clock / 1000}
      device_memory_size: {int(chip.capacity)}
      cuda_compute_capability {{ major: {major} minor: {minor} {feature} }}
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      device_address_bits: 64 pcie_bandwidth: 34359738368 ecc_enabled: true
      device_vendor: "NVIDIA Corporation" name: "{chip.kind}"
      driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
      dnn_version: "9.12.0" device_interconnect_info {{ active_links: {links} }}
    }}
    platform_name: "CUDA"
    dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
    device_description_str: "{chip.kind}"
  """
