"""Changes of a config with which a run would fit, computed from what it needs."""

import dataclasses
import math

from lwz.programs.cost import fit, topology

HEADROOM = 0.95  # of the capacity: what a suggestion aims at


@dataclasses.dataclass(frozen=True)
class Suggestion:
  """One change that should suffice by itself."""

  keys: dict[str, int | str]  # of the config; 'preflight.topology' is more chips
  reason: str  # what it changes, with numbers


def suggest(
  estimate: fit.Estimate, *, name: str, micro_rows: int, heads: int, remat: str
) -> list[Suggestion]:
  """Returns changes for a program that does not fit, the cheapest first; `name` is the topology's.

  What a program works in, beside its arguments, shrinks with the rows of a pass and with
  `mesh.tensor`, which must divide the query `heads`; what stays shrinks with the number of devices.
  """
  gib = 2**30
  stays = estimate.fit.arguments + sum(estimate.residents.values())
  works = max(estimate.needed - stays, 0.0)
  free = HEADROOM * estimate.capacity - stays
  found = []
  if free > 0 and works < math.inf:
    times = works / free
    reason = f'{works / gib:.1f} GiB to work in, where {free / gib:.1f} are free'
    if estimate.part == 'learn' and remat != 'full':
      found.append(Suggestion({'train.remat': 'full'}, f'{reason}: keep nothing of a layer'))
    if estimate.part in ('learn', 'judge') and (rows := int(micro_rows / times)) >= 1:
      found.append(Suggestion({'train.micro_rows': rows}, f'{reason}: fewer rows in a pass'))
    tensor = estimate.fit.mesh.get('tensor', 1)
    wider = [
      ways
      for ways in (tensor * 2**i for i in range(1, 5))
      if heads % ways == 0 and ways <= estimate.fit.num_devices and ways >= tensor * times
    ]
    if wider:
      found.append(Suggestion({'mesh.tensor': wider[0]}, f'{reason}: cut activations further'))
  least = stays / (HEADROOM * estimate.capacity - works) if works < estimate.capacity else 2.0
  least = estimate.fit.num_devices * (least if least > 1 else 2.0)
  if larger := _larger(name, estimate.fit.num_devices, least):
    reason = (
      f'{stays / gib:.1f} GiB stay on each of {estimate.fit.num_devices} devices that have '
      f'{estimate.capacity / gib:.1f}: at least {math.ceil(least)} devices'
    )
    found.append(Suggestion({'preflight.topology': larger}, reason))
  return found


def _larger(name: str, num_devices: int, least: float) -> str:
  """Returns the smallest slice of the same chip with `least` devices; '' if none is known."""
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
