"""Ranking: one judgement of a whole group, as normalised ranks.

    r_g = (number of answers below o_g + 1/2 number of others beside it) / (G - 1)

The best of G answers has 1, the worst 0, and the mean of a group is 1/2. Source: RULER of
OpenPipe's ART, which has a judge score a group at once; ranks keep of it what is comparable.
"""

from collections.abc import Sequence

import numpy as np

from lwz.reward import components, questions


def normalised(ranks: Sequence[int | float]) -> np.ndarray:
  """Returns the share of the others that each rank is better than, a tie as half. [G]

  normalised([0, 1, 1, 2]) -> [1, 0.5, 0.5, 0]; a single one has 0.5
  """
  ranks_G = np.asarray(ranks, np.float64)
  below = (ranks_G[:, None] < ranks_G).sum(axis=1)
  beside = (ranks_G[:, None] == ranks_G).sum(axis=1) - 1
  others = len(ranks_G) - 1
  return (below + beside / 2) / others if others else np.full(1, 0.5)


def ranking(
  groups: Sequence[components.Unit], judge: questions.Judge, *, seed: int, floor: float = 0.0
) -> np.ndarray:
  """Returns the normalised rank of each answer in its group. [P, G]

  The judge sees the distinct answers of valid structure, in a random order by their texts and the
  seed, and is not asked about a single one. A broken answer stands below all of these, and has
  `floor`. Where the judge failed, the valid answers of the group are NaN.
  """
  rewards = np.array([[floor] * len(group) for group in groups], np.float64)
  valid = [[g for g, sample in enumerate(group) if sample.parsed.valid] for group in groups]
  shown = [
    questions.shuffled([group[g].parsed.answer for g in places], seed)
    for group, places in zip(groups, valid, strict=True)
  ]
  todo = [p for p, answers in enumerate(shown) if len(answers) > 1]
  asked = [questions.Ranking(groups[p][0].prompt, tuple(shown[p])) for p in todo]
  said = dict(zip(todo, judge(asked) if asked else (), strict=True))
  for p, (group, answers) in enumerate(zip(groups, shown, strict=True)):
    if valid[p] and said.get(p, ()) is None:
      rewards[p, valid[p]] = np.nan
    elif valid[p]:
      ranks = dict(zip(answers, said.get(p, (0,)), strict=True))
      whole = [ranks[sample.parsed.answer] if sample.parsed.valid else np.inf for sample in group]
      rewards[p, valid[p]] = normalised(whole)[valid[p]]
  return rewards
