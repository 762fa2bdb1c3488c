"""Published numbers of accelerators, and the roofline: the least time of a program on one.

Numbers are those that vendors publish (Google Cloud's TPU pages, NVIDIA's data sheets), per JAX
device: a v4 chip is one device here (megacore), a tpu7x chip is two. Capacity of a TPU is what its
compiler states as usable; of a GPU, the board's memory, of which JAX takes the share below.
"""

import dataclasses
import os

import jax

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device.

  `link` is what it sends to the others of its slice or NVLink domain. On a torus: by the two links
  of one dimension, which is what a collective along one mesh axis can use.
  """

  name: str  # as topologies name it
  flops: float  # peak bf16 FLOP/s, dense
  capacity: float  # usable bytes of memory
  bandwidth: float  # bytes/s of that memory
  link: float  # bytes/s
  network: float = 0.0  # bytes/s to other hosts, where that is another wire; else 0
  kind: str = ''  # how `jax.Device.device_kind` begins


_ALL = (
  # Other spellings, and boards with other rates. `CHIPS` has the last of a name.
  Chip('v5e', 197e12, 15.75 * GIB, 0.819e12, 100e9, kind='TPU v5e'),
  Chip('v6e', 918e12, 31.25 * GIB, 1.640e12, 200e9, kind='TPU v6e'),
  Chip('a100', 312e12, 40e9, 1.555e12, 300e9, 25e9, kind='NVIDIA A100-SXM4-40GB'),
  Chip('a100', 312e12, 40e9, 1.555e12, 32e9, 25e9, kind='NVIDIA A100-PCIE-40GB'),
  Chip('a100', 312e12, 80e9, 1.935e12, 32e9, 25e9, kind='NVIDIA A100 80GB PCIe'),
  Chip('h100', 756e12, 80e9, 2.04e12, 64e9, 50e9, kind='NVIDIA H100 PCIe'),
  Chip('h100', 835e12, 94e9, 3.9e12, 64e9, 50e9, kind='NVIDIA H100 NVL'),
  Chip('v4', 275e12, 30.75 * GIB, 1.228e12, 100e9, kind='TPU v4'),
  Chip('v5e', 197e12, 15.75 * GIB, 0.819e12, 100e9, kind='TPU v5 lite'),
  Chip('v5p', 459e12, 95.74 * GIB, 2.765e12, 200e9, kind='TPU v5'),
  Chip('v6e', 918e12, 31.25 * GIB, 1.640e12, 200e9, kind='TPU v6 lite'),
  Chip('tpu7x', 1153.5e12, 94.75 * GIB, 3.690e12, 100e9, kind='TPU7x'),
  # It has no bfloat16: the peak is that of float32, in which a run computes there.
  Chip('t4', 8.1e12, 15 * GIB, 0.320e12, 16e9, 3e9, kind='Tesla T4'),
  Chip('rtx4090', 165.2e12, 24 * GIB, 1.008e12, 32e9, 3e9, kind='NVIDIA GeForce RTX 4090'),
  Chip('a100', 312e12, 80e9, 2.039e12, 300e9, 25e9, kind='NVIDIA A100'),
  Chip('h100', 989e12, 84942979072, 3.352e12, 450e9, 50e9, kind='NVIDIA H100'),
  Chip('h200', 989e12, 151397597184, 4.8e12, 450e9, 50e9, kind='NVIDIA H200'),
)
CHIPS = {chip.name: chip for chip in _ALL}
GPUS = ('t4', 'rtx4090', 'a100', 'h100', 'h200')

# Of the published peaks, what large matrix products, streams through memory and rings reach.
REACHED = {'flops': 0.5, 'bandwidth': 0.8, 'link': 0.8}
MODEL = (
  'time = the largest of FLOPs / (50% of the bf16 peak), bytes / (80% of the memory bandwidth), '
  'and bytes sent / (80% of the link): the three overlap perfectly. An estimate, not a measurement.'
)


def usable(chip: Chip) -> float:
  """Returns usable bytes: on a GPU, what JAX allocates beforehand (75% by default)."""
  return chip.capacity * _share(chip)


def _share(chip: Chip) -> float:
  """The share of a device's memory that JAX may allocate."""
  if chip.name in GPUS:
    return float(os.environ.get('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.75'))
  return 1.0


def local(device: jax.Device) -> Chip:
  """The chip of an attached device of this process; its usable memory is what the backend says.

  A CPU has no published peaks: they are 0, and its capacity is an equal share of the host's memory.
  """
  kind = [chip for chip in _ALL if device.device_kind.startswith(chip.kind)]
  chip = max(kind, key=lambda chip: len(chip.kind), default=Chip(device.device_kind, 0, 0, 0, 0))
  stats = device.memory_stats() or {}
  if 'bytes_limit' in stats:
    return dataclasses.replace(chip, capacity=stats['bytes_limit'] / _share(chip))
  if device.platform == 'cpu':
    host = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return dataclasses.replace(chip, capacity=host / jax.local_device_count())
  return chip


def seconds(chip: Chip, *, flops: float, moved: float, sent: float, sent_far: float = 0.0) -> dict:
  """{'compute', 'memory', 'network'}: what each takes on one device; the largest is the roofline.

  Of the device: `flops`, bytes `moved` in its memory, bytes `sent` over `link` and `sent_far` over
  `network`.
  """

  def over(amount, rate):
    return amount / rate if rate else 0.0

  return {
    'compute': over(flops, chip.flops * REACHED['flops']),
    'memory': over(moved, chip.bandwidth * REACHED['bandwidth']),
    'network': over(sent, chip.link * REACHED['link'])
    + over(sent_far, (chip.network or chip.link) * REACHED['link']),
  }
