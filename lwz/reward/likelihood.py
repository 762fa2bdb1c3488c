"""The likelihood reward: how much likelier a thought makes the true text, without a judge.

Verifiable rewards by completion likelihood improvement, VR-CLI (arXiv 2503.22828): a plan is good
if a frozen model that reads it expects the text that was really written.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lwz import types
from lwz.reward import components, writing

# (request, thought, text) -> mean log p(token of the text | request, thought) [B], in nats per
# token, by a frozen model; a thought of None is the request alone; NaN where a text has no place.
MeanLogprob = Callable[[Sequence[tuple[str, str | None, str]]], np.ndarray]


def true_text(prompt: types.Prompt) -> str:
  """Returns the best reference of a prompt, its last; raises ValueError if it has none."""
  if not prompt.references or not prompt.references[-1].strip():
    raise ValueError(
      f'the reward likelihood needs the true text of every prompt, and {prompt.text[:80]!r} (id '
      f'{prompt.id!r}) has no references: add them, or leave out reward.weights.likelihood'
    )
  return prompt.references[-1]


def gain(samples: Sequence[components.Sample], *, mean_logprob: MeanLogprob) -> np.ndarray:
  """Returns the gain in log-likelihood of the true text y by the thought z; x is the request. [B]

    gain = (log p(y | x, z) - log p(y | x)) / |y|, in nats per token

  so that the improvement of VR-CLI in percent, 100 (1 - PPL(y | x, z) / PPL(y | x)), is
  100 (1 - exp(-gain)). x stands in the instruction that asks for thoughts, or in the one that asks
  for none: the difference of the two is part of every gain, about the same within a group. NaN
  where the structure is broken, or the model cannot hold the text.
  """
  gains = np.full(len(samples), np.nan)
  valid = [i for i, sample in enumerate(samples) if sample.parsed.valid]
  if not valid:
    return gains
  alone = list(dict.fromkeys(samples[i].prompt for i in valid))
  given = [(samples[i].prompt, samples[i].parsed.think) for i in valid]
  asked = [*given, *((prompt, None) for prompt in alone)]
  found = mean_logprob([(prompt.text, think, true_text(prompt)) for prompt, think in asked])
  before = dict(zip(alone, found[len(valid) :], strict=True))
  gains[valid] = found[: len(valid)] - np.array([before[samples[i].prompt] for i in valid])
  return gains


def reward(samples: Sequence[components.Sample], *, mean_logprob: MeanLogprob) -> np.ndarray:
  """Returns 1 / (1 + exp(-gain)): 0.5 for a thought that changes nothing. [B]

  With P the likelihood per token, exp(log p / |y|), it is P_with / (P_with + P_without): it orders
  thoughts as `gain` does, without the steps into which VR-CLI cuts its improvement, and lies in
  [0, 1] like every reward. 0 where the structure is broken, NaN where the model failed.
  """
  found = writing.squash(gain(samples, mean_logprob=mean_logprob), writing.Scale(0.0, 1.0))
  return np.where([sample.parsed.valid for sample in samples], found, 0.0)
