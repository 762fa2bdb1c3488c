"""Collectives of an optimised program: what its devices send each other, along which axes."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

from lwz.programs.cost import hlo

KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)


@dataclasses.dataclass(frozen=True)
class Collective:
  """Traffic of one kind between the devices along some axes of the mesh.

  `bytes` are by the ring algorithms: operand x (n - 1) for a gather, x (n - 1) / n for a scatter or
  all-to-all, twice that for an all-reduce.
  """

  kind: str  # the HLO operation, 'all-gather'
  axes: tuple[str, ...]  # of the mesh, in its order; () where the groups follow no axes
  group: int  # devices that talk to each other
  shape: str  # of the result on a device, as HLO writes it: 'bf16[1,5120,3456]'
  count: int  # executions in one call of the program
  bytes: float  # sent by each device in all of them
  crosses: bool = False  # whether a group spans hosts, where `read` was told `per_host`


def read(
  module: hlo.Module, axes: Mapping[str, int], *, per_host: int = 0
) -> tuple[Collective, ...]:
  """Returns all collectives, one entry per kind, group and shape, the largest first.

  The module is compiled for a mesh with these `axes` (name -> size), devices numbered in its order.
  `per_host` is the devices of a host, where the wire between hosts is another; else 0.
  """
  found: dict[tuple, list] = collections.defaultdict(lambda: [0, 0.0])
  for times, one in _executed(module):
    kind = 'reduce-scatter' if _is_scatter(module, one) else one.opcode.removesuffix('-start')
    groups = _groups(one.rest, math.prod(axes.values()))
    size = max(len(group) for group in groups)
    if size < 2:
      continue
    sent = sum(_operand_bytes(module, one)) * _share(kind, size)
    crosses = bool(per_host) and any(len({i // per_host for i in g}) > 1 for g in groups)
    key = (kind, _axes(groups, axes), size, _plain(one.shape), crosses)
    found[key][0] += times
    found[key][1] += sent * times
  made = [
    Collective(kind, along, size, shape, count, sent, crosses)
    for (kind, along, size, shape, crosses), (count, sent) in found.items()
  ]
  return tuple(sorted(made, key=lambda c: -c.bytes))


def _executed(module: hlo.Module) -> list[tuple[int, hlo.Instruction]]:
  """Returns the collectives, and how often each is started.

  A TPU may cut an asynchronous one into steps that stand inside other fusions, even in a loop that
  it overlaps with, all under one channel: it counts where it starts.
  """
  begun = {
    name
    for name, body in module.computations.items()
    if any('AsyncCollectiveStart' in one.rest for one in body.values())
  }
  found: dict[str, dict[bool, list]] = {}
  for name, times in module.control():
    seen = set()
    for one in module.reached(name):
      if one.opcode.removesuffix('-start') not in KINDS:
        continue
      channel = re.search(r'channel_id=(\d+)', one.rest)
      key = channel[1] if channel else one.name
      if key in seen:
        continue
      seen.add(key)
      starts = any(one.name in module.computations[home] for home in begun)
      found.setdefault(key, {}).setdefault(starts, []).append((times, one))
  return [item for one in found.values() for item in (one.get(True) or one[False])]


def _share(kind: str, n: int) -> float:
  """Bytes that a device sends, per byte of its operand."""
  if kind == 'all-gather':
    return n - 1
  if kind == 'all-reduce':
    return 2 * (n - 1) / n
  return 1.0 if kind.startswith('collective') else (n - 1) / n


def _is_scatter(module: hlo.Module, one: hlo.Instruction) -> bool:
  """TPU writes a reduce-scatter as an all-reduce inside a computation of that name."""
  return one.opcode == 'all-reduce' and any(
    'all-reduce-scatter' in name and one.name in body for name, body in module.computations.items()
  )


def _operand_bytes(module: hlo.Module, one: hlo.Instruction) -> list[float]:
  home = next(body for body in module.computations.values() if body.get(one.name) is one)
  return [hlo.shape_bytes(home[name].shape) for name in one.operands if name in home]


def _plain(shape: str) -> str:
  """Dtype and dimensions of a shape; of a start's tuple, the largest."""
  leaves = [f'{dtype}[{dims}]' for dtype, dims, _ in hlo.LEAF.findall(shape)]
  return max(leaves, key=hlo.shape_bytes, default='')


def _groups(rest: str, num_devices: int) -> list[list[int]]:
  """Devices that talk to each other, from any form of `replica_groups`, or from pairs."""
  if pairs := re.search(r'source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}', rest):
    return [[int(a), int(b)] for a, b in re.findall(r'\{(\d+),(\d+)\}', pairs[1])] or [[0]]
  if along := re.search(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}', rest):
    return [_along(along[1], along[2])]
  iota = re.search(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', rest)
  if iota:
    shape, source = ([int(n) for n in part.split(',')] for part in iota.groups()[:2])
    order = [int(n) for n in iota[3].split(',')] if iota[3] else list(range(len(source)))
    flat = _transposed(source, order)
    width = math.prod(shape[1:])
    return [flat[i : i + width] for i in range(0, len(flat), width)]
  listed = re.search(r'replica_groups=\{((?:\{[\d,]*\},?)*)\}', rest)
  groups = re.findall(r'\{([\d,]+)\}', listed[1]) if listed else []
  return [[int(n) for n in group.split(',')] for group in groups] or [list(range(num_devices))]


def _along(mesh: str, axes: str) -> list[int]:
  """The group of device 0, from `'a'=4,'b'=2` and the axes `'b'`, or a part of one, `'a':(1)2`."""
  sizes = [(name, int(size)) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)]
  group = [0]
  for name, major, part in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", axes):
    at = [axis for axis, _ in sizes].index(name)
    size = sizes[at][1]
    part = int(part or size)
    stride = math.prod(n for _, n in sizes[at + 1 :]) * (size // (int(major or 1) * part))
    group = [base + i * stride for base in group for i in range(part)]
  return group


def _transposed(shape: list[int], order: list[int]) -> list[int]:
  """`arange(prod(shape)).reshape(shape).transpose(order).ravel()`."""
  strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
  flat = [0]
  for axis in order:
    flat = [base + i * strides[axis] for base in flat for i in range(shape[axis])]
  return flat


def _axes(groups: list[list[int]], axes: Mapping[str, int]) -> tuple[str, ...]:
  """Axes of the mesh along which the members of a group differ."""
  found = []
  for i, name in enumerate(axes):
    stride = math.prod(list(axes.values())[i + 1 :])
    if any(len({member // stride % axes[name] for member in group}) > 1 for group in groups):
      found.append(name)
  return tuple(found)
