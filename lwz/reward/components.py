"""The rewards of a sample, kept apart: `scores_PGR`.

A reward is a function from samples to one number each, NaN where its judge failed, and what that
function reads. Rewards are not averaged here: `learn.advantage` removes their scales first.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from lwz import hosts, types
from lwz.reward import format as format_lib
from lwz.reward import length as length_lib


@dataclasses.dataclass(frozen=True)
class Sample:
  """A trajectory as text: the request, what was written, and its parts."""

  prompt: types.Prompt
  text: str
  parsed: format_lib.Parsed


Component = Callable[[Sequence[Sample]], np.ndarray]
Unit = tuple[Sample, ...]  # what one judgement reads: a single sample, or the G of a group


@dataclasses.dataclass(frozen=True)
class Reward:
  """A reward function and what it reads; made by `per_answer`, `per_group` or `on_device`.

  A `deferred` reward is computed only after all samples of the step have been written; of any other
  `threads` units are judged at a time. A reward of groups whose `fn` takes `many` of them returns
  an array of one row for each. `faults` counts those of the servers that it asks, by cause.
  """

  fn: Callable[..., np.ndarray]
  reads: Literal['answer', 'group', 'device']
  deferred: bool = False
  threads: int = 1
  many: bool = False
  faults: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter, compare=False
  )

  def unit_size(self, group_size: int) -> int:
    return group_size if self.reads == 'group' else 1

  def of_units(self, units: Sequence[Unit]) -> np.ndarray:
    """Returns the rewards of one or more units of one size: float64 [num_units, unit_size]."""
    if self.many:
      values = np.asarray(self.fn(units), np.float64)
    elif self.reads == 'group':
      values = np.array([self.fn(unit) for unit in units], np.float64)
    else:
      values = np.asarray(self.fn([sample for unit in units for sample in unit]), np.float64)
    return values.reshape(len(units), len(units[0]))

  def values(
    self,
    samples: Sequence[Sample],
    group_size: int,
    of_units: Callable[[Sequence[Unit]], np.ndarray] | None = None,
  ) -> np.ndarray:
    """Returns one number per sample of a step, in the order p * G + g. [B]

    Samples, or whole groups, are divided over the processes; a reward on our devices is computed by
    all processes together. `of_units` replaces the method of that name, where results are cached.
    """
    if self.reads == 'device':
      return self.fn(samples)
    size = self.unit_size(group_size)
    units = [tuple(samples[b : b + size]) for b in range(0, len(samples), size)]
    return hosts.divide(of_units or self.of_units, units, shape=(size,)).reshape(-1)


def per_answer(fn: Component, *, deferred: bool = False, threads: int = 1) -> Reward:
  """A reward whose value for a sample depends on that sample alone.

  It is computed on any subset of the samples, while others are still being written.
  """
  return Reward(fn, 'answer', deferred, threads)


def per_group(fn: Component) -> Reward:
  """A reward that compares siblings: each call gets the G samples of exactly one group.

  It is computed as soon as the group is complete, while others are still being written.
  """
  return Reward(fn, 'group')


def per_groups(
  fn: Callable[[Sequence[Unit]], np.ndarray], *, deferred: bool = False, threads: int = 1
) -> Reward:
  """As `per_group`, of a function of several groups at once: it returns [num_groups, G]."""
  return Reward(fn, 'group', deferred, threads, many=True)


def on_device(fn: Component) -> Reward:
  """A reward that computes on our devices: all processes call it with all samples of the step."""
  return Reward(fn, 'device', deferred=True)


def length(samples: Sequence[Sample], *, max_words: int) -> np.ndarray:
  """Returns Eq. 3 on the answer's words; 0 where the structure is broken. [B]"""
  num_words = np.array([length_lib.count_words(s.parsed.answer) for s in samples])
  lower = np.array([s.prompt.lower for s in samples])
  upper = np.array([s.prompt.upper for s in samples])
  rewards = length_lib.length_reward(num_words, lower, upper, max_words)
  return np.where([s.parsed.valid for s in samples], rewards, 0.0)


def format(samples: Sequence[Sample]) -> np.ndarray:
  """Returns 1 - redundancy of the answer; 0 where the structure is broken (section 4). [B]"""
  return np.array(
    [1.0 - format_lib.redundancy(s.parsed.answer) if s.parsed.valid else 0.0 for s in samples]
  )


def writing(
  samples: Sequence[Sample],
  *,
  scorer: Callable[[Sequence[tuple[str, str]]], np.ndarray],
  floor: float,
) -> np.ndarray:
  """Returns the reward model's scores; `floor` where the structure is broken. [B]

  `scorer` maps (request, answer) pairs to rewards, NaN where it failed. It never sees the thoughts.
  """
  rewards = np.full(len(samples), floor, np.float64)
  valid = [i for i, s in enumerate(samples) if s.parsed.valid]
  if valid:
    pairs = [(samples[i].prompt.text, samples[i].parsed.answer) for i in valid]
    rewards[valid] = scorer(pairs)
  return rewards


def judge(
  samples: Sequence[Sample], rewards: Mapping[str, Reward], num_prompts: int
) -> types.Scores:
  """Returns the scores of every sample by every reward; samples are in the order p * G + g."""
  G = len(samples) // num_prompts
  return scores({name: reward.values(samples, G) for name, reward in rewards.items()}, num_prompts)


def scores(values_by: Mapping[str, np.ndarray], num_prompts: int) -> types.Scores:
  """Returns the scores made of each reward's values [B]; their order is that of the last dimension.

  A sample that any judge failed on is invalid, never zero.
  """
  values_BR = np.stack(list(values_by.values()), axis=-1)
  values_PGR = values_BR.reshape(num_prompts, -1, len(values_by)).astype(np.float32)
  valid_PG = np.asarray(np.isfinite(values_PGR).all(axis=-1))
  return types.Scores(values=np.where(valid_PG[:, :, None], values_PGR, 0.0), valid=valid_PG)
