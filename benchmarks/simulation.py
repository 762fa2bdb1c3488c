"""Discrete-event simulation of the scheduler without a model, to compare plans of a rollout.

    JAX_PLATFORMS=cpu python benchmarks/simulation.py     # what would speed up writing at 32B

Seconds of a step of decoding are the roofline of a preflight record, scaled by the bytes of the
weights and of the cache that is read. Learning and judging are the record's, by the token. Needs
'lwz[cuda13]' for the shapes, but no GPU. Nothing is measured on a GPU.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from lwz.model import config as config_lib
from lwz.model import sharding
from lwz.programs import rollout
from lwz.programs.cost import fit, hardware, topology
from lwz.rollout import queue, sampler, scheduler
from lwz.rollout import spec as spec_lib

RECORD = 'results/preflight/grpo_think-32b_gpu-h100-4x8.json'
GROUP = 32  # samples of a prompt
PROMPT = 2_048  # tokens, at most; a prompt has 300
MOST = 14_000  # tokens of a text
SHAPES = {  # of the record
  **{'rl.prompts_per_step': 1, 'rl.group_size': GROUP},
  **{'rollout.max_prompt_tokens': PROMPT, 'rollout.max_tokens': MOST},
}
WORDS = 500, 9_000  # asked for, evenly in their logarithm
PER_WORD = 1.4  # tokens of thoughts and answer together
SPREAD = 0.3  # of the logarithm of a length in its group


@dataclasses.dataclass(frozen=True)
class Plan:
  """How the trajectories of a step are written."""

  prompts: int = 1
  slots: int = 32
  weights: str = 'float'
  int8: bool = False  # keys and values
  longest_first: bool = True  # where there are fewer slots than trajectories
  alike: bool = False  # prompts of a step ask for similar lengths: sorted over 16 steps


PLANS = (
  Plan(),
  Plan(weights='int8'),
  Plan(4, 32, longest_first=False),
  Plan(4, 32),
  Plan(4, 64),
  Plan(4, 128),
  Plan(4, 128, alike=True),
  Plan(4, 128, weights='int8'),
  Plan(4, 128, weights='int8', alike=True),
  Plan(4, 128, weights='int8', int8=True),
)
INTRO = f"""# Writing at 32B, by simulation

`JAX_PLATFORMS=cpu python benchmarks/simulation.py --out results/rollout_32b.md` has made it. It is
no measurement: the scheduler runs without a model, and a step of decoding takes what
`{RECORD}` says, scaled by the
bytes of the weights and of the cache that it reads. Learning and judging take what the record says,
by the token.

Prompts ask for {WORDS[0]:,} to {WORDS[1]:,} words, evenly in their logarithm. A text has {PER_WORD}
tokens for each, times a log-normal spread of {SPREAD} within its group, at most {MOST:,}. A step
ends with its longest text. "alike": the prompts of 16 steps are sorted by length (`rl.alike=16`).

"""


def simulate(
  engine: scheduler.Engine | spec_lib.EngineSpec,
  lengths: Sequence[int],
  order: Sequence[int],
  *,
  num_steps: int,
  prompt_tokens: int,
  step_seconds: Callable[[int, int], float],
  block_seconds: float = 0.0,
) -> scheduler.Stats:
  """Returns the stats of a rollout whose trajectories turn out to have these lengths.

  Args:
    engine: only its shapes are used (`batch_sizes`, `read_lengths`, `exact`).
    lengths: tokens of each trajectory.
    order: indices of trajectories as they start: `queue.longest_first(guesses)`, or
      `range(len(lengths))` for first come, first served.
    num_steps: of a block, at most.
    prompt_tokens: of each prompt.
    step_seconds: (batch size, read length) -> seconds of a step, as measured.
    block_seconds: time of the host between two blocks.

  Raises ValueError if `order` does not name every trajectory once.
  """
  if sorted(order) != list(range(len(lengths))):
    raise ValueError('the order must name every trajectory once')
  queue = collections.deque(order)
  stats = scheduler.Stats(tokens=sum(lengths))
  active: list[list[int]] = []  # [tokens left, tokens cached]
  while queue or active:
    while queue and len(active) < engine.batch_sizes[-1]:
      active.append([lengths[queue.popleft()], prompt_tokens - 1])
    batch_size, read_length, until_active = scheduler.plan(
      engine, len(active), max(cached for _, cached in active), bool(queue)
    )
    ends = sorted(left for left, _ in active)
    steps = min(num_steps, ends[len(active) - until_active - 1])
    active = [[left - steps, cached + steps] for left, cached in active]
    stats.steps += steps
    stats.computed += steps * batch_size
    stats.capacity += steps * engine.batch_sizes[-1]
    stats.blocks += 1
    stats.seconds += steps * step_seconds(batch_size, read_length) + block_seconds
    if not stats.first and any(left <= 0 for left, _ in active):
      stats.first = stats.seconds
    active = [one for one in active if one[0] > 0]
  return stats


def roofline(
  spec: spec_lib.EngineSpec, compiled: spec_lib.EngineSpec, decode: dict
) -> Callable[[int, int], float]:
  """Returns (batch size, read length) -> seconds of a step, all slots among the batch.

  `decode` is what preflight says of the program of `compiled`, at its longest read: bytes moved are
  taken to grow with those of the weights and of the cache that is read, FLOPs and bytes sent with
  the slots.
  """
  weights, cache = held(spec)
  moved = decode['seconds']['memory'] / compiled.num_steps / sum(held(compiled))
  rest = max(seconds for bound, seconds in decode['seconds'].items() if bound != 'memory')
  rest *= spec.num_slots / compiled.num_slots / compiled.num_steps

  def seconds(batch_size: int, read_length: int) -> float:
    return max(rest, moved * (weights + cache * read_length / spec.cache_layout.capacity))

  return seconds


def held(spec: spec_lib.EngineSpec) -> tuple[int, int]:
  """Returns the bytes of a device that the weights of decoding take, and the cache."""
  params, slots, *_ = rollout.decode(
    spec, batch_size=spec.num_slots, read_length=spec.read_lengths[-1]
  ).abstract_args
  return fit.bytes_per_device(params), fit.bytes_per_device(slots.cache)


def steps_of(plan: Plan, num: int, seed: int = 0) -> list[tuple[list[int], np.ndarray]]:
  """Returns the lengths of each step's trajectories, and what their prompts ask for, in words."""
  rng = np.random.default_rng(seed)
  words = np.exp(rng.uniform(*np.log(WORDS), num * plan.prompts))
  if plan.alike:
    pools = np.sort(words.reshape(-1, min(num, 16) * plan.prompts), axis=1)
    words = pools.reshape(-1)
  found = []
  for asked in words.reshape(num, plan.prompts):
    asked_B = np.repeat(asked, GROUP)
    tokens_B = PER_WORD * asked_B * np.exp(SPREAD * rng.standard_normal(asked_B.size))
    found.append((np.clip(tokens_B, 64, MOST).astype(int).tolist(), asked_B))
  return found


def measure(plan: Plan, step_seconds: Callable[[int, int], float], spec, record, num: int) -> dict:
  """Returns what a plan comes to, over `num` steps."""
  parts = {one['phase']: 0.0 for one in record['phases']}
  for one in record['phases']:
    parts[one['phase']] += one['calls'] * max(one['seconds'].values())
  per_token = (parts['judge'] + parts['learn']) / (
    record['shapes']['rl.group_size'] * record['shapes']['data.row_length']
  )
  total = scheduler.Stats()
  for lengths, asked in steps_of(plan, num):
    one = simulate(
      spec,
      lengths,
      queue.longest_first(asked) if plan.longest_first else range(len(lengths)),
      num_steps=spec.num_steps,
      prompt_tokens=300,
      step_seconds=step_seconds,
    )
    for name in ('tokens', 'capacity', 'seconds', 'steps'):
      setattr(total, name, getattr(total, name) + getattr(one, name))
  others = total.tokens * per_token
  return {
    'per_device': total.tokens / total.seconds / record['devices'],
    'active': total.tokens / total.capacity,
    'seconds': total.seconds / num,
    'milliseconds': 1e3 * total.seconds / total.steps,
    'share': total.seconds / (total.seconds + others),
    'trained': total.tokens / (total.seconds + others) / record['devices'],
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--record', default=RECORD, help='of the preflight, a JSON file')
  parser.add_argument('--steps', type=int, default=64, help='of GRPO, for each plan')
  parser.add_argument('--out', type=pathlib.Path, help='a Markdown file to write the table to')
  arguments = parser.parse_args()
  record = json.loads(pathlib.Path(arguments.record).read_text())
  if arguments.steps < 1 or (arguments.steps > 16 and arguments.steps % 16):
    parser.error(f'--steps={arguments.steps}: choose up to 16, or a multiple of 16')
  if apart := [key for key, value in SHAPES.items() if record['shapes'][key] != value]:
    parser.error(f'--record={arguments.record}: the plans are for {SHAPES}, and {apart} differ')
  over = topology.load(record['topology'])
  shape = [record['mesh'].get(axis, 1) for axis in ('data', 'fsdp', 'tensor')]
  mesh = sharding.make_mesh(shape, over.devices)
  size = record['experiment'].rpartition(':')[2]
  config = dataclasses.replace(config_lib.preset(size), dtype=jnp.dtype(jnp.bfloat16))

  def spec_of(plan: Plan) -> spec_lib.EngineSpec:
    return spec_lib.EngineSpec(
      config,
      num_slots=plan.slots,
      max_prompt_tokens=PROMPT,
      max_tokens=MOST,
      sampling=sampler.Sampling(0.8, stop_ids=(0,)),
      exact=False,
      int8=plan.int8,
      weights=plan.weights,
      mesh=mesh,
    )

  rows = [
    ('prompts x samples', 'slots', 'weights', 'cache', 'order', 'ms a step', 'slots in use'),
    ('---',) * 7,
  ]
  rows[0] += ('tokens/s a GPU', 'writing, s', 'share of a GRPO step', 'GiB a GPU')
  rows[1] += ('---',) * 4
  decode = next(one for one in record['phases'] if one['name'] == 'decode')
  for plan in PLANS:
    spec = spec_of(plan)
    found = measure(plan, roofline(spec, spec_of(PLANS[0]), decode), spec, record, arguments.steps)
    holds = sum(held(spec)) + sum(decode['residents'].values())
    waits = plan.prompts * GROUP > plan.slots
    said = 'longest first' if plan.longest_first else 'as they come'
    rows.append(
      (
        *(f'{plan.prompts} x {GROUP}', f'{plan.slots}', plan.weights),
        'int8' if plan.int8 else 'bfloat16',
        ' '.join([said if waits else 'all at once', *(['alike in a step'] if plan.alike else [])]),
        *(f'{found["milliseconds"]:.2f}', f'{found["active"]:.2f}', f'{found["per_device"]:.0f}'),
        *(f'{found["seconds"]:.1f}', f'{found["share"]:.2f}', f'{holds / hardware.GIB:.1f}'),
      )
    )
    print('| ' + ' | '.join(rows[-1]) + ' |', flush=True)
  if arguments.out:
    arguments.out.write_text(INTRO + ''.join(f'| {" | ".join(row)} |\n' for row in rows))


if __name__ == '__main__':
  main()
