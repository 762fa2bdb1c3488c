"""Sibling: each answer against one sampled sibling of its group, in both orders.

    r_g = 1 if o_g beats o_s, 1/2 for a tie, 0 if it loses;    s one of the group, r_s = 1/2

Source: BRPO of Writing-Zero (arXiv 2506.00103), where the reference is a sampled answer of the
policy's own group, and needs no stronger writer. There the reward is +1 or -1 and is its own
advantage; `rl.advantage` says here what becomes of it ('centred' keeps its scale).
"""

from collections.abc import Sequence

import numpy as np

from lwz.reward import components, questions


def sibling(
  groups: Sequence[components.Unit], judge: questions.Judge, *, seed: int, floor: float = 0.0
) -> np.ndarray:
  """Returns the outcome of each answer against its group's reference. [P, G]

  The reference is sampled among the answers of valid structure, by a key of their texts and the
  seed: neither the order in which they came nor other groups matter. A broken answer has `floor`,
  and is neither judged nor a reference. NaN where the judge failed.
  """
  rewards = np.array([[floor] * len(group) for group in groups], np.float64)
  places, pairs = [], []
  for p, group in enumerate(groups):
    valid = [g for g, sample in enumerate(group) if sample.parsed.valid]
    order = questions.shuffled([group[g].parsed.answer for g in valid], seed)
    for g in valid:
      places.append((p, g))
      pairs.append((group[g].prompt, group[g].parsed.answer, order[0]))
  for place, outcome in zip(places, questions.outcomes(pairs, judge), strict=True):
    rewards[place] = outcome
  return rewards
