"""Discrete-event simulation of the scheduler without a model, to compare orders of the queue."""

import collections
from collections.abc import Callable, Sequence

from lwz.rollout import scheduler


def simulate(
  engine: scheduler.Engine,
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
    order: indices of trajectories as they start: `order.longest_first(guesses)`, or
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
