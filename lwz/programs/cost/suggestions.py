"""What to change where a run does not fit, computed from what it needs."""

import dataclasses
import math

from lwz.programs.cost import fit, topology

HEADROOM = 0.95  # of the capacity: what a remedy aims at


@dataclasses.dataclass(frozen=True)
class Remedy:
  """One change that should suffice by itself.

  Attributes:
    keys: of the config, and their new values; 'preflight.topology' among them for more chips.
    reason: what it changes, with the figures.
  """

  keys: dict[str, int | str]
  reason: str


def remedies(
  verdict: fit.Verdict, *, name: str, micro_rows: int, heads: int, remat: str
) -> list[Remedy]:
  """Changes for a phase that does not fit, the cheapest first.

  What a program works in, beside its arguments, shrinks with the rows of a pass and with
  `mesh.tensor`; what stays shrinks with the number of devices.

  Args:
    verdict: of the phase.
    name: of the topology.
    micro_rows, remat: as in `train`.
    heads: query heads, which `mesh.tensor` must divide.
  """
  gib = 2**30
  stays = verdict.fit.arguments + sum(verdict.residents.values())
  works = max(verdict.needed - stays, 0.0)
  free = HEADROOM * verdict.capacity - stays
  found = []
  if free > 0 and works < math.inf:
    times = works / free
    reason = f'{works / gib:.1f} GiB to work in, where {free / gib:.1f} are free'
    if verdict.phase == 'learn' and remat != 'full':
      found.append(Remedy({'train.remat': 'full'}, f'{reason}: keep nothing of a layer'))
    if verdict.phase in ('learn', 'judge') and (rows := int(micro_rows / times)) >= 1:
      found.append(Remedy({'train.micro_rows': rows}, f'{reason}: fewer rows in a pass'))
    tensor = verdict.fit.mesh.get('tensor', 1)
    wider = [
      ways
      for ways in (tensor * 2**i for i in range(1, 5))
      if heads % ways == 0 and ways <= verdict.fit.num_devices and ways >= tensor * times
    ]
    if wider:
      found.append(Remedy({'mesh.tensor': wider[0]}, f'{reason}: cut activations further'))
  least = stays / (HEADROOM * verdict.capacity - works) if works < verdict.capacity else 2.0
  least = verdict.fit.num_devices * (least if least > 1 else 2.0)
  if larger := _larger(name, verdict.fit.num_devices, least):
    reason = (
      f'{stays / gib:.1f} GiB stay on each of {verdict.fit.num_devices} devices that have '
      f'{verdict.capacity / gib:.1f}: at least {math.ceil(least)} devices'
    )
    found.append(Remedy({'preflight.topology': larger}, reason))
  return found


def _larger(name: str, num_devices: int, least: float) -> str:
  """The smallest slice of the same chip with so many devices; '' where none is known."""
  kind, _, size = name.partition(':')
  if kind == 'gpu':
    chip, _, shape = size.partition(':')
    hosts, per_host = (int(n) for n in shape.split('x'))
    return f'gpu:{chip}:{math.ceil(least / (hosts * per_host)) * hosts}x{per_host}'
  if kind not in topology.TPUS:
    return ''
  per_chip = num_devices / math.prod(int(n) for n in size.split('x'))
  for shape in topology.TPUS[kind]:
    if math.prod(int(n) for n in shape.split('x')) * per_chip >= least:
      return f'{kind}:{shape}'
  return ''
