"""Several judgements of each sample, kept apart: `scores_PGR`.

A component is a function from samples to one number each, NaN where its judge failed. Components
are averaged nowhere here: their scales are removed first, in `learn.advantage`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lwz import types
from lwz.reward import format as format_lib
from lwz.reward import length as length_lib


@dataclasses.dataclass(frozen=True)
class Sample:
  """A trajectory as text: the request, what was written, and its parts."""

  prompt: types.Prompt
  text: str
  parsed: format_lib.Parsed


Component = Callable[[Sequence[Sample]], np.ndarray]


def length(samples: Sequence[Sample], *, max_words: int) -> np.ndarray:
  """Eq. 3 on the answer's words; 0 where the structure is broken. [B]"""
  num_words = np.array([length_lib.count_words(s.parsed.answer) for s in samples])
  lower = np.array([s.prompt.lower for s in samples])
  upper = np.array([s.prompt.upper for s in samples])
  rewards = length_lib.length_reward(num_words, lower, upper, max_words)
  return np.where([s.parsed.valid for s in samples], rewards, 0.0)


def format(samples: Sequence[Sample]) -> np.ndarray:
  """1 - redundancy of the answer; 0 where the structure is broken (section 4). [B]"""
  return np.array(
    [1.0 - format_lib.redundancy(s.parsed.answer) if s.parsed.valid else 0.0 for s in samples]
  )


def writing(
  samples: Sequence[Sample],
  *,
  scorer: Callable[[Sequence[tuple[str, str]]], np.ndarray],
  floor: float,
) -> np.ndarray:
  """What the reward model thinks of (request, answer); `floor` where the structure is broken. [B]

  `scorer` maps (request, answer) pairs to rewards, NaN where it failed. It never sees the thoughts.
  """
  rewards = np.full(len(samples), floor, np.float64)
  valid = [i for i, s in enumerate(samples) if s.parsed.valid]
  if valid:
    pairs = [(samples[i].prompt.text, samples[i].parsed.answer) for i in valid]
    rewards[valid] = scorer(pairs)
  return rewards


def judge(
  samples: Sequence[Sample], components: Mapping[str, Component], num_prompts: int
) -> types.Scores:
  """Every component on every sample; a sample that any judge failed on is invalid, never zero.

  Samples come in the order p * G + g; components give the last dimension its order.
  """
  values_BR = np.stack([component(samples) for component in components.values()], axis=-1)
  values_PGR = values_BR.reshape(num_prompts, -1, len(components)).astype(np.float32)
  valid_PG = np.asarray(np.isfinite(values_PGR).all(axis=-1))
  return types.Scores(values=np.where(valid_PG[:, :, None], values_PGR, 0.0), valid=valid_PG)
