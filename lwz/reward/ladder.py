"""Ladder: each answer against its prompt's current reference, which a policy that beats it leaves.

    r = 1 if the answer beats references[k], 1/2 for a tie, 0 if it loses
    k <- k + 1    once the mean reward of a group is above 1/2, up to the last reference

Source: Writing-RL (arXiv 2506.05760), pairwise comparison reward and dynamic reference scheduling.
The state, {prompt id: k}, is a value: `ladder` reads it, `advance` returns the next one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lwz import types
from lwz.reward import components, questions

BEATEN = 0.5  # mean reward of a group, above which the policy counts as better than the reference

State = Mapping[str, int]  # the rung of each prompt, by its id; 0 where there is none


def reference(prompt: types.Prompt, state: State) -> str:
  """Returns the prompt's current reference; raises ValueError if it has none."""
  if not prompt.references:
    raise ValueError(f'prompt {prompt.id!r} has no references: give its line some')
  return prompt.references[min(state.get(prompt.id, 0), len(prompt.references) - 1)]


def ladder(
  samples: Sequence[components.Sample],
  judge: questions.Judge,
  *,
  state: State,
  floor: float = 0.0,
) -> np.ndarray:
  """Returns the outcome of each answer against the current reference of its prompt. [B]

  A broken structure has `floor`, and nobody is asked; NaN where the judge failed.
  """
  rewards = np.full(len(samples), floor, np.float64)
  valid = [i for i, sample in enumerate(samples) if sample.parsed.valid]
  pairs = [
    (samples[i].prompt, samples[i].parsed.answer, reference(samples[i].prompt, state))
    for i in valid
  ]
  rewards[valid] = questions.outcomes(pairs, judge)
  return rewards


def advance(
  state: State, prompts: Sequence[types.Prompt], values_PG: np.ndarray, valid_PG: np.ndarray
) -> dict[str, int]:
  """Returns the state after a batch: the prompts whose reference was beaten are one rung further.

  Only valid samples count; a group without any leaves its prompt where it is.
  """
  found = dict(state)
  for prompt, values, valid in zip(prompts, values_PG, valid_PG, strict=True):
    if valid.any() and values[valid].mean() > BEATEN:
      found[prompt.id] = min(state.get(prompt.id, 0) + 1, len(prompt.references) - 1)
  return found
