"""Rubric: the share of a prompt's weighted criteria that an answer meets.

    r = sum_i w_i v_i / sum_i w_i,    v_i = 1 (yes), 1/2 (partly), 0 (no)
    r = 0                             where a criterion of the kind 'hard' has v_i = 0

Source: ACE-RL (arXiv 2509.04903), which checks the criteria of a request one by one; the veto is
that of Rubric Anchors (arXiv 2508.12790).
"""

from collections.abc import Sequence

import numpy as np

from lwz import types
from lwz.reward import components, questions


def share(criteria: Sequence[types.Criterion], verdicts: Sequence[str]) -> float:
  """Returns the share of the criteria's weight that is met; 0 where a hard one is not met at all.

  share([Criterion('a', '...', 3.0), Criterion('b', '...')], ['yes', 'partly']) -> 0.875
  """
  if not criteria:
    raise ValueError('a prompt without criteria has no share of them: give its line criteria')
  values = [questions.VALUES[verdict] for verdict in verdicts]
  met = zip(criteria, values, strict=True)
  if any(criterion.kind == 'hard' and not value for criterion, value in met):
    return 0.0
  weights = [criterion.weight for criterion in criteria]
  return float(np.dot(weights, values) / np.sum(weights))


def rubric(
  samples: Sequence[components.Sample], judge: questions.Judge, *, floor: float = 0.0
) -> np.ndarray:
  """Returns the share of the criteria that each answer meets, NaN where the judge failed. [B]

  Where the structure is broken it is `floor`, and nobody is asked. The thoughts are not judged.
  """
  rewards = np.full(len(samples), floor, np.float64)
  valid = [i for i, sample in enumerate(samples) if sample.parsed.valid]
  asked = [questions.Check(samples[i].prompt, samples[i].parsed.answer) for i in valid]
  for i, said in zip(valid, judge(asked) if asked else (), strict=True):
    rewards[i] = np.nan if said is None else share(samples[i].prompt.criteria, said)
  return rewards
