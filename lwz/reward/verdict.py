"""Verdict: whether a policy that judges two answers names the better one.

    r = 1 if the verdict of an answer is that of the prompt's last reference, else 0

Source: RLCS (arXiv 2601.07149), where a generative reward model is trained by GRPO on human
preferences. Each pair is asked in both orders, see `data.comparisons`, so that what looks at places
alone earns 1/2, and gains nothing by one letter.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lwz.reward import components


def right(samples: Sequence[components.Sample], *, read: Callable[[str], str]) -> np.ndarray:
  """Returns 1 where `read` finds the same verdict in answer and reference, else 0. [B]

  A broken structure and an answer without a verdict have 0. Raises ValueError if a reference has
  none: that prompt asks for no verdict.
  """
  rewards = np.zeros(len(samples))
  for i, sample in enumerate(samples):
    wanted = read(sample.prompt.references[-1]) if sample.prompt.references else ''
    if not wanted:
      raise ValueError(
        'the reward verdict reads the right one, such as [[A]], in the last reference of a prompt, '
        f'and prompt {sample.prompt.id!r} has none: name preference pairs under data.prompts'
      )
    rewards[i] = sample.parsed.valid and read(sample.parsed.answer) == wanted
  return rewards
