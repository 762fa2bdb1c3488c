"""Draws: what a step writes and has judged; and drawing again while too few groups teach anything.

Dynamic sampling (DAPO, arXiv 2503.14476, Eq. 11), bounded by `rl.max_redraws`; with 0, the paper's,
a step draws once. Every draw has a number of its own, which names its prompts, its randomness and
its place in the archive, so that a resumed step finds all of them again.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lwz import types
from lwz.learn import advantage
from lwz.reward import compose

# Of a draw: which of its P groups teach something, bool [P].
Teaches = Callable[['Draw'], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draw:
  """P prompts and G answers to each, judged; answer p * G + g is the g-th to the p-th prompt."""

  prompt_ids: list[np.ndarray]
  samples: list[compose.Sample]
  rollout: types.Rollout
  scores: types.Scores


def numbers(c, step: int) -> range:
  """The draws that a step may make, by number."""
  times = 1 + c.rl.max_redraws
  return range(step * times, (step + 1) * times)


def enough(
  draw: Callable[[int], Draw], numbers: Sequence[int], teaches: Teaches
) -> tuple[list[Draw], Draw]:
  """Draws until as many groups teach as a draw has, or the numbers end.

  Returns all draws, and the batch to learn from: as many groups, those that teach first.
  """
  draws: list[Draw] = []
  for number in numbers:
    draws.append(draw(number))
    batch, missing = choose(draws, teaches)
    if not missing:
      break
  return draws, batch


def choose(draws: Sequence[Draw], teaches: Teaches) -> tuple[Draw, int]:
  """As many groups as a draw has, those that teach first; and how many of them do not."""
  useful = np.concatenate([teaches(draw) for draw in draws])
  chosen, missing = advantage.choose_groups(useful, len(draws[0].prompt_ids))
  return (_groups(draws, chosen) if len(draws) > 1 else draws[0]), missing


def figures(draws: Sequence[Draw], teaches: Teaches, seconds: float) -> dict[str, float]:
  """Of all draws, which took so long to write; trajectories are described by the first."""
  useful = np.concatenate([teaches(draw) for draw in draws])
  lengths, finished = draws[0].rollout.lengths, draws[0].rollout.finished
  return {
    'draws/num': float(len(draws)),
    'draws/teaching': float(useful.mean()),
    'tokens/trajectory': float(np.mean(lengths)),
    'tokens/finished': float(np.mean(finished)),
    'tokens/per_second': sum(float(np.sum(draw.rollout.lengths)) for draw in draws) / seconds,
  }


def _groups(draws: Sequence[Draw], chosen: Sequence[int]) -> Draw:
  """These groups, counted through all draws, as one draw."""
  G = draws[0].scores.valid.shape[1]
  chosen_B = (np.array(chosen)[:, None] * G + np.arange(G)).reshape(-1)
  prompt_ids = [ids for draw in draws for ids in draw.prompt_ids]
  samples = [sample for draw in draws for sample in draw.samples]
  joined = jax.tree.map(lambda *parts: np.concatenate(parts), *[draw.rollout for draw in draws])
  values = np.concatenate([draw.scores.values for draw in draws])
  valid = np.concatenate([draw.scores.valid for draw in draws])
  return Draw(
    prompt_ids=[prompt_ids[p] for p in chosen],
    samples=[samples[b] for b in chosen_B],
    rollout=jax.tree.map(lambda part: part[chosen_B], joined),
    scores=types.Scores(values[chosen], valid[chosen]),
  )
