"""Verdict: whether a policy that judges two answers names the better one.

    r = 1 if the verdict of an answer is that of the prompt's last reference, else 0

Source: RLCS (arXiv 2601.07149), where a generative reward model is trained by GRPO on human
preferences. Each pair is asked in both orders, see `data.comparisons`, so that what looks at places
alone earns 1/2, and gains nothing by one letter.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lwz import types
from lwz.reward import components


def wanted(prompt: types.Prompt, read: Callable[[str], str]) -> str:
  """Returns the verdict that `read` finds in the last reference of a prompt.

  Raises ValueError if there is none: that prompt asks for no verdict.
  """
  found = read(prompt.references[-1]) if prompt.references else ''
  if not found:
    raise ValueError(
      'the reward verdict reads the right one, such as [[A]], in the last reference of a prompt, '
      f'and prompt {prompt.id!r} has none: name preference pairs under data.prompts'
    )
  return found


def right(samples: Sequence[components.Sample], *, read: Callable[[str], str]) -> np.ndarray:
  """Returns 1 where `read` finds the same verdict in answer and reference, else 0. [B]

  A broken structure and an answer without a verdict have 0. Raises ValueError as `wanted` does.
  """
  found = (s.parsed.valid and read(s.parsed.answer) == wanted(s.prompt, read) for s in samples)
  return np.array([*found], np.float64)
