"""HLO text of an optimised program: its computations, loops, and traffic to memory.

XLA's own `cost_analysis` counts the body of a loop once; here every instruction counts as often as
the loops around it run. The end of a loop is the constant in its condition (a scan's length); where
that is known only at run time, the caller says at most how many.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.+)$')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
LEAF = re.compile(r'\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
_CALLED = re.compile(r'\b(calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)')
_KERNEL = re.compile(r'op_name="[^"]*?(\w+)/pallas_call"')
_BITS = re.compile(r'\d+')

# Instructions that name, order or pass on what others have written: they touch no memory.
_FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id'),
  *('while', 'conditional', 'call', 'opt-barrier', 'iota', 'replica-id', 'domain'),
}


@dataclasses.dataclass(frozen=True)
class Instruction:
  """`name = shape opcode(operands), rest`."""

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
    self.computations: dict[str, dict[str, Instruction]] = {}
    self.max_trips = max_trips
    current: dict[str, Instruction] = {}
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

  def called(self, instruction: Instruction) -> list[str]:
    names = [name for _, name in _CALLED.findall(instruction.rest)]
    if branches := re.search(r'branch_computations=\{([^}]*)\}', instruction.rest):
      names += [name.strip().lstrip('%') for name in branches[1].split(',')]
    return [name for name in names if name in self.computations]

  def trips(self, loop: Instruction) -> int:
    """How often a while loop's body runs."""
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
      return int(known[1])
    condition = re.search(r'condition=%?([\w.\-]+)', loop.rest)
    reached = list(self.reached(condition[1])) if condition else []
    ends = [int(i.literal) for i in reached if i.opcode == 'constant' and i.literal.isdigit()]
    ends = [end for end in ends if end > 0]
    return max(ends) if ends else self.max_trips

  def reached(self, name: str) -> Iterator[Instruction]:
    """Instructions of a computation and of its fusions; loops and branches are not entered."""
    for instruction in self.computations.get(name, {}).values():
      yield instruction
      if instruction.opcode in ('fusion', 'async-start'):
        for inner in self.called(instruction):
          yield from self.reached(inner)


def _instruction(line: str, name: str, text: str) -> Instruction:
  cut = _balanced(text) if text.startswith('(') else text.index(' ')
  shape, text = text[:cut], text[cut:].lstrip()
  opcode, _, text = text.partition('(')
  end = _balanced('(' + text) - 1
  literal = text[: end - 1]
  operands = tuple(re.findall(r'%([\w.\-]+)', literal))
  return Instruction(
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
  for dtype, dims, layout in LEAF.findall(shape):
    if any(space in layout for space in spaces):
      continue
    bits = 8 if dtype == 'pred' else int(found[0]) if (found := _BITS.search(dtype)) else 0
    total += bits / 8 * math.prod(int(n) for n in dims.split(',') if n)
  return total


def traffic(module: Module, kernels: Mapping[str, float] | None = None) -> float:
  """Bytes that the instructions read from and write to a device's memory in one call.

  What a fusion slices counts by the slice, what is updated in place by the update. Of a Pallas
  kernel that is one of `kernels`, see `flops.kernels`, what it states to read.
  """
  total = 0.0
  for name, times in module.control():
    body = module.computations[name]
    for one in body.values():
      found = _KERNEL.search(one.rest) if one.opcode == 'custom-call' else None
      if kernels and found and found[1] in kernels:
        total += times * (kernels[found[1]] + _hbm(one.shape))
      else:
        total += times * _touched(module, body, one)
  return total


def _touched(module: Module, body: dict[str, Instruction], one: Instruction) -> float:
  if one.opcode in _FREE or one.opcode.endswith(('-done', '-update')):
    return 0.0
  if one.opcode == 'fusion' and (inner := module.called(one)):
    fused = module.computations[inner[0]]
    passed = _passed_on(one.rest)
    entering = [i for i in fused.values() if i.opcode == 'parameter']
    read = [_read(module, fused, i) for i in entering if int(i.literal) not in passed.values()]
    return sum(read) + _written(module, fused, _root(fused), passed)
  if one.opcode in ('slice', 'dynamic-slice', 'gather'):
    return 2 * _hbm(one.shape)
  if one.opcode == 'dynamic-update-slice':
    return 2 * _hbm(body[one.operands[1]].shape)
  read = [_hbm(body[name].shape) for name in one.operands if name in body]
  return sum(read) + (0.0 if one.opcode.endswith('-start') else _hbm(one.shape))


def _passed_on(rest: str) -> dict[str, int]:
  """{place in the result: operand} of buffers that a fusion with several results hands on."""
  listed = re.search(r'output_to_operand_aliasing=\{(.*?\)\s*)\}', rest)
  pairs = re.findall(r'\{([\d,]+)\}: \((\d+),', listed[1]) if listed else []
  return {place: int(operand) for place, operand in pairs}


def _root(body: dict[str, Instruction]) -> Instruction:
  return next(one for one in body.values() if one.root)


def _read(module: Module, fused: dict[str, Instruction], one: Instruction) -> float:
  """Bytes that a fusion reads of one of its parameters: all, where not every user slices it."""
  whole, total = _hbm(one.shape), 0.0
  for user in fused.values() if whole else ():
    if one.name not in user.operands:
      continue
    first = user.operands[0] == one.name
    if first and user.opcode in ('slice', 'dynamic-slice', 'gather'):
      total += shape_bytes(user.shape)
    elif user.opcode in ('bitcast', 'copy') or _lays_anew(module, user):
      total += _read(module, fused, user)
    elif user.opcode == 'fusion':
      inner = module.computations[module.called(user)[0]]
      entering = {int(i.literal): i for i in inner.values() if i.opcode == 'parameter'}
      places = [place for place, name in enumerate(user.operands) if name == one.name]
      total += sum(_read(module, inner, entering[place]) for place in places)
    elif not (first and user.opcode == 'dynamic-update-slice'):
      return whole
  return min(whole, total)


def _lays_anew(module: Module, one: Instruction) -> bool:
  """Returns whether it is a fusion that only changes the layout of its operand."""
  inside = module.computations[module.called(one)[0]] if one.opcode == 'fusion' else {}
  return bool(inside) and all(
    i.opcode in ('parameter', 'copy', 'bitcast') or _lays_anew(module, i) for i in inside.values()
  )


def _written(
  module: Module, fused: dict[str, Instruction], one: Instruction, passed: dict[str, int]
) -> float:
  """Bytes that a fusion writes: of a buffer that it updates in place, the update."""
  if one.opcode == 'tuple':
    names = [name for place, name in enumerate(one.operands) if str(place) not in passed]
    return sum(_written(module, fused, fused[name], {}) for name in names if name in fused)
  if one.opcode == 'bitcast' and one.operands[0] in fused:
    return _written(module, fused, fused[one.operands[0]], {})
  if one.opcode == 'fusion' and _hbm(one.shape):
    inner = module.computations[module.called(one)[0]]
    return _written(module, inner, _root(inner), {})
  if one.opcode == 'dynamic-update-slice' and _hbm(one.shape):
    return shape_bytes(fused[one.operands[1]].shape)
  return _hbm(one.shape)


def _hbm(shape: str) -> float:
  return shape_bytes(shape, spaces=('S(1)', 'S(2)', 'S(4)', 'S(5)', 'S(6)'))
