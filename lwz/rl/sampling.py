"""Draws: what a step writes and has judged; and drawing again while too few groups teach anything.

Dynamic sampling (DAPO, arXiv 2503.14476, Eq. 11), bounded by `rl.max_redraws`; with 0, the paper's,
a step draws once. Every draw has a number of its own, step * (1 + max_redraws) + k: it names its
prompts, its randomness and its place in the archive, so a resumed step finds all of them again.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lwz import types
from lwz.data import prompts
from lwz.learn import advantage
from lwz.reward import components

_REDRAWN = 2**32  # beside the seed: the order in which redraws go through the prompts


@dataclasses.dataclass(frozen=True)
class Draw:
  """P prompts and G answers to each, judged; answer p * G + g is the g-th to the p-th prompt."""

  prompt_ids: list[np.ndarray]
  samples: list[components.Sample]
  rollout: types.Rollout
  scores: types.Scores
  figures: dict[str, float] = dataclasses.field(default_factory=dict)  # what the writing took


def numbers(c, step: int) -> range:
  """The draws that a step may make, by number."""
  times = 1 + c.rl.max_redraws
  return range(step * times, (step + 1) * times)


def take(c, asked: Sequence[types.Prompt], number: int) -> list[types.Prompt]:
  """The prompts of a draw.

  First draws go through all prompts in the order that they have without redraws; redraws, of which
  a step may make fewer than it might, go through them in another.
  """
  step, again = divmod(number, 1 + c.rl.max_redraws)
  if not again:
    return prompts.take(asked, step, c.rl.prompts_per_step, c.seed)
  place = step * c.rl.max_redraws + again - 1
  return prompts.take(asked, place, c.rl.prompts_per_step, c.seed + _REDRAWN)


def enough(
  draw: Callable[[int], Draw], numbers: Sequence[int], teaches: Callable[[Draw], np.ndarray]
) -> tuple[list[Draw], np.ndarray]:
  """Draws until as many groups teach as a draw has, or the numbers end.

  `teaches` says of a draw which of its groups do. Returns the draws, and this of all their groups.
  """
  draws, teaching = [], np.zeros(0, bool)
  for number in numbers:
    draws.append(draw(number))
    teaching = np.concatenate([teaching, teaches(draws[-1])])
    if teaching.sum() >= len(draws[0].prompt_ids):
      break
  return draws, teaching


def choose(draws: Sequence[Draw], teaching: np.ndarray) -> Draw:
  """As many groups as a draw has, as one draw: those that teach first."""
  if len(draws) == 1:
    return draws[0]
  num, G = draws[0].scores.valid.shape
  chosen, _ = advantage.choose_groups(teaching, num)
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


def figures(draws: Sequence[Draw], teaching: np.ndarray, seconds: float) -> dict[str, float]:
  """Of all draws, which took so long to write; trajectories are described by the first.

  There is no speed where some of them had been written before the run was started again.
  """
  first = draws[0].rollout
  num = sum(float(np.sum(draw.rollout.lengths)) for draw in draws)
  speed = {'tokens/per_second': num / seconds} if all(draw.figures for draw in draws) else {}
  return (
    draws[0].figures
    | speed
    | {
      'draws/num': float(len(draws)),
      'draws/teaching': float(np.mean(teaching)),
      'tokens/trajectory': float(np.mean(first.lengths)),
      'tokens/finished': float(np.mean(first.finished)),
    }
  )
