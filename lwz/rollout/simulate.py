"""What an order costs: the scheduler's blocks as a discrete-event simulation, without a model."""

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
) -> scheduler.Tally:
  """The tally of a rollout whose trajectories turn out to have these lengths.

  Args:
    engine: its shapes are used (`rungs`, `reads`, `exact`); none of its programs is called.
    lengths: tokens of each trajectory.
    order: indices of trajectories as they are begun: `order.longest_first(guesses)`, or
      `range(len(lengths))` for first come, first served.
    num_steps: of a block, at most.
    prompt_tokens: of each prompt.
    step_seconds: (rows, read) -> seconds of a step, as measured.
    block_seconds: what the host needs between two blocks.

  Raises ValueError where `order` does not name every trajectory once.
  """
  if sorted(order) != list(range(len(lengths))):
    raise ValueError('the order must name every trajectory once')
  queue = collections.deque(order)
  tally = scheduler.Tally(tokens=sum(lengths))
  live: list[list[int]] = []  # [tokens left, tokens cached]
  while queue or live:
    while queue and len(live) < engine.rungs[-1]:
      live.append([lengths[queue.popleft()], prompt_tokens - 1])
    rows, read, until = scheduler.plan(
      engine, len(live), max(cached for _, cached in live), bool(queue)
    )
    ends = sorted(left for left, _ in live)
    steps = min(num_steps, ends[len(live) - until - 1])
    live = [[left - steps, cached + steps] for left, cached in live]
    tally.steps += steps
    tally.row_steps += steps * rows
    tally.slot_steps += steps * engine.rungs[-1]
    tally.blocks += 1
    tally.seconds += steps * step_seconds(rows, read) + block_seconds
    if not tally.first and any(left <= 0 for left, _ in live):
      tally.first = tally.seconds
    live = [row for row in live if row[0] > 0]
  return tally
