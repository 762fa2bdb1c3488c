"""The diversity reward: how far an answer is from its siblings, the other answers to its prompt."""

from collections.abc import Sequence

import numpy as np

from lwz import text
from lwz.reward import components

RUNS = (1, 2, 3)  # words of a shingle: what is spoken of, and the phrases, as orders of BLEU


def similarities(texts: Sequence[str], runs: Sequence[int] = RUNS) -> np.ndarray:
  """Returns the Jaccard similarity of any two texts, |A & B| / |A | B| of their shingles. [G, G]

  It is the mean over shingles (Broder, 1997) of 1, 2 and 3 words in a row, in lower case; a shorter
  text is one. Two texts with the same shingles have 1, two without a common word 0. A text without
  words is like others without words alone.
  """
  hashes = [text.hash_words(text.words(one.lower())) for one in texts]
  found = np.eye(len(texts))
  for run in runs:
    sets = [set(text.shingles(h_T, min(run, max(len(h_T), 1))).tolist()) for h_T in hashes]
    for i, a in enumerate(sets):
      for j, b in enumerate(sets[:i]):
        both = len(a & b)
        share = both / (len(a) + len(b) - both) if a or b else 1.0
        found[i, j] = found[j, i] = found[i, j] + share / len(runs)
  return found


def distance(samples: Sequence[components.Sample]) -> np.ndarray:
  """Returns 1 - the mean similarity of each answer of a group to its siblings. [G]

  Self-BLEU (arXiv 1802.01886, section 3.2) compares each text of a set with the others likewise, by
  a measure that is not symmetric. Siblings of broken structure are no answers: they get 0, and are
  compared with nobody; an answer that is alone has 1. Noise is far from everything, so quality has
  to count, too: Darling (arXiv 2509.02534) multiplies both, as `rl.composition='product'` does.
  """
  rewards = np.zeros(len(samples))
  valid = [i for i, sample in enumerate(samples) if sample.parsed.valid]
  if valid:
    found = similarities([samples[i].parsed.answer for i in valid])
    others = (found.sum(axis=1) - 1.0) / max(len(valid) - 1, 1)
    rewards[valid] = np.clip(1.0 - others, 0.0, 1.0)  # a mean of ones may be above 1 by rounding
  return rewards
