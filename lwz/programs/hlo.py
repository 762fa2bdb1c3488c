"""What an optimised program does per device, read from its HLO text: collectives, memory traffic.

XLA's own `cost_analysis` counts the body of a loop once; here every instruction counts as often as
the loops around it run. The end of a loop is the constant in its condition (a scan's length); where
that is known only at run time, the caller says at most how many.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.+)$')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_LEAF = re.compile(r'\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
_CALLED = re.compile(r'\b(calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)')
_BITS = re.compile(r'\d+')

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)

# Instructions that name, order or pass on what others have written: they touch no memory.
_FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id'),
  *('while', 'conditional', 'call', 'opt-barrier', 'iota', 'replica-id', 'domain'),
}


@dataclasses.dataclass(frozen=True)
class Collective:
  """Traffic of one kind between the devices along some axes of the mesh.

  Attributes:
    kind: the HLO operation, 'all-gather'.
    axes: of the mesh, in its order; () where the groups follow no axes.
    group: devices that talk to each other.
    shape: the result's dtype and shape on a device, as HLO writes it: 'bf16[1,5120,3456]'.
    count: executions in one call of the program.
    bytes: sent by each device in all of them, by the ring algorithms: operand x (n - 1) for a
      gather, x (n - 1) / n for a scatter or all-to-all, twice that for an all-reduce.
    crosses: whether a group spans hosts, where `hosts` were given to `collectives`.
  """

  kind: str
  axes: tuple[str, ...]
  group: int
  shape: str
  count: int
  bytes: float
  crosses: bool = False


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str  # attributes
  literal: str  # what stands between the parentheses
  root: bool


class Module:
  """Computations of an HLO module by name, each a dict of its instructions."""

  def __init__(self, text: str, *, max_trips: int = 1):
    self.entry = ''
    self.computations: dict[str, dict[str, _Instruction]] = {}
    self.max_trips = max_trips
    current: dict[str, _Instruction] = {}
    for line in text.splitlines():
      if found := _COMPUTATION.match(line):
        current = self.computations[found[2]] = {}
        self.entry = found[2] if found[1] else self.entry
      elif (found := _INSTRUCTION.match(line)) and self.computations:
        current[found[1]] = _instruction(line, found[1], found[2])

  def control(self) -> Iterator[tuple[str, int]]:
    """Computations whose instructions run one by one (entry, bodies of loops), and how often."""
    stack = [(self.entry, 1)]
    while stack:
      name, times = stack.pop()
      yield name, times
      for instruction in self.computations[name].values():
        if instruction.opcode == 'while':
          trips = self.trips(instruction)
          stack += [(body, times * trips) for body in self.called(instruction)]
        elif instruction.opcode in ('call', 'conditional'):
          stack += [(body, times) for body in self.called(instruction)]

  def called(self, instruction: _Instruction) -> list[str]:
    names = [name for _, name in _CALLED.findall(instruction.rest)]
    if branches := re.search(r'branch_computations=\{([^}]*)\}', instruction.rest):
      names += [name.strip().lstrip('%') for name in branches[1].split(',')]
    return [name for name in names if name in self.computations]

  def trips(self, loop: _Instruction) -> int:
    """How often a while loop's body runs."""
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
      return int(known[1])
    condition = re.search(r'condition=%?([\w.\-]+)', loop.rest)
    reached = list(self.reached(condition[1])) if condition else []
    ends = [int(i.literal) for i in reached if i.opcode == 'constant' and i.literal.isdigit()]
    ends = [end for end in ends if end > 0]
    return max(ends) if ends else self.max_trips

  def reached(self, name: str) -> Iterator[_Instruction]:
    """Instructions of a computation and of the fusions in it; loops and branches are not entered."""
    for instruction in self.computations.get(name, {}).values():
      yield instruction
      if instruction.opcode in ('fusion', 'async-start'):
        for inner in self.called(instruction):
          yield from self.reached(inner)


def _instruction(line: str, name: str, text: str) -> _Instruction:
  cut = _balanced(text) if text.startswith('(') else text.index(' ')
  shape, text = text[:cut], text[cut:].lstrip()
  opcode, _, text = text.partition('(')
  end = _balanced('(' + text) - 1
  literal = text[: end - 1]
  operands = tuple(re.findall(r'%([\w.\-]+)', literal))
  return _Instruction(
    name, shape, opcode, operands, text[end:], literal, line.lstrip().startswith('ROOT')
  )


def _balanced(text: str) -> int:
  """The length of the parenthesised expression that a text begins with."""
  depth = 0
  for i, char in enumerate(text):
    depth += (char == '(') - (char == ')')
    if depth == 0:
      return i + 1
  return len(text)


def shape_bytes(shape: str, *, spaces: tuple[str, ...] = ()) -> float:
  """Bytes of an HLO shape, tuples summed.

  `spaces` leaves out what lies in other memories than the device's main one: on a TPU, `S(1)` in a
  layout is VMEM, which no bandwidth of HBM is spent on.

  >>> shape_bytes('(bf16[2,3]{1,0}, s32[])')
  16.0
  """
  total = 0.0
  for dtype, dims, layout in _LEAF.findall(shape):
    if any(space in layout for space in spaces):
      continue
    bits = 8 if dtype == 'pred' else int(found[0]) if (found := _BITS.search(dtype)) else 0
    total += bits / 8 * math.prod(int(n) for n in dims.split(',') if n)
  return total


def collectives(
  module: Module, axes: Mapping[str, int], *, per_host: int = 0
) -> tuple[Collective, ...]:
  """All collectives, those of one kind, group and shape together, the largest first.

  Args:
    module: compiled for a mesh with these `axes` (name -> size), devices numbered in its order.
    axes: of the mesh.
    per_host: devices of a host, where the wire between hosts is another; 0 where it is not.
  """
  found: dict[tuple, list] = collections.defaultdict(lambda: [0, 0.0])
  for name, times in module.control():
    seen = set()
    for one in module.reached(name):
      kind = one.opcode.removesuffix('-start')
      if kind not in COLLECTIVES:
        continue
      # An asynchronous one may stand in several fusions (start, steps, done), under one channel.
      channel = re.search(r'channel_id=(\d+)', one.rest)
      if channel and channel[1] in seen:
        continue
      seen.add(channel[1] if channel else None)
      kind = 'reduce-scatter' if _is_scatter(module, one) else kind
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


def _share(kind: str, n: int) -> float:
  """Bytes that a device sends, per byte of its operand."""
  if kind == 'all-gather':
    return n - 1
  if kind == 'all-reduce':
    return 2 * (n - 1) / n
  return 1.0 if kind.startswith('collective') else (n - 1) / n


def _is_scatter(module: Module, one: _Instruction) -> bool:
  """TPU writes a reduce-scatter as an all-reduce inside a computation of that name."""
  return one.opcode == 'all-reduce' and any(
    'all-reduce-scatter' in name and one.name in body for name, body in module.computations.items()
  )


def _operand_bytes(module: Module, one: _Instruction) -> list[float]:
  home = next(body for body in module.computations.values() if body.get(one.name) is one)
  return [shape_bytes(home[name].shape) for name in one.operands if name in home]


def _plain(shape: str) -> str:
  """Dtype and dimensions of a shape; of a start's tuple, the largest."""
  leaves = [f'{dtype}[{dims}]' for dtype, dims, _ in _LEAF.findall(shape)]
  return max(leaves, key=shape_bytes, default='')


def _groups(rest: str, num_devices: int) -> list[list[int]]:
  """Devices that talk to each other, from either form of `replica_groups`, or from pairs."""
  if pairs := re.search(r'source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}', rest):
    return [[int(a), int(b)] for a, b in re.findall(r'\{(\d+),(\d+)\}', pairs[1])] or [[0]]
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


def traffic(module: Module) -> float:
  """Bytes that the instructions read from and write to a device's memory in one call.

  What a fusion slices counts by the slice, what is updated in place by the update.
  """
  total = 0.0
  for name, times in module.control():
    body = module.computations[name]
    total += times * sum(_touched(module, body, one) for one in body.values())
  return total


def _touched(module: Module, body: dict[str, _Instruction], one: _Instruction) -> float:
  if one.opcode in _FREE or one.opcode.endswith(('-done', '-update')):
    return 0.0
  inner = module.called(one) if one.opcode == 'fusion' else []
  if inner:
    fused = module.computations[inner[0]]
    return sum(_through(fused, i) for i in fused.values())
  if one.opcode in ('dynamic-slice', 'gather'):
    return 2 * _hbm(one.shape)
  if one.opcode == 'dynamic-update-slice':
    return 2 * _hbm(body[one.operands[1]].shape)
  read = sum(_hbm(body[name].shape) for name in one.operands if name in body)
  return read + (0.0 if one.opcode.endswith('-start') else _hbm(one.shape))


def _through(fused: dict[str, _Instruction], one: _Instruction) -> float:
  """What one instruction inside a fusion reads as a parameter, or writes as the root."""
  if one.opcode == 'parameter':
    users = [user for user in fused.values() if one.name in user.operands]
    sliced = [u for u in users if u.opcode in ('dynamic-slice', 'gather') and u.operands[0] == one.name]
    updated = [u for u in users if u.opcode == 'dynamic-update-slice' and u.operands[0] == one.name]
    if users and len(sliced) + len(updated) == len(users) and _hbm(one.shape):
      return sum(shape_bytes(user.shape) for user in sliced)
    return _hbm(one.shape)
  if not one.root:
    return 0.0
  written = [fused[n] for n in one.operands if n in fused] if one.opcode == 'tuple' else [one]
  return sum(
    shape_bytes(fused[w.operands[1]].shape) * bool(_hbm(w.shape))
    if w.opcode == 'dynamic-update-slice'
    else _hbm(w.shape)
    for w in written
  )


def _hbm(shape: str) -> float:
  return shape_bytes(shape, spaces=('S(1)', 'S(2)', 'S(4)', 'S(5)', 'S(6)'))
