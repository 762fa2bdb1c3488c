"""The diversity reward: how far an answer is from its siblings, the other answers to its prompt."""

from collections.abc import Sequence

import numpy as np

from lwz import text
from lwz.reward import components

RUN = 3  # words of a shingle: a phrase, of which siblings on one subject share few by chance


def similarities(texts: Sequence[str], run: int = RUN) -> np.ndarray:
  """Returns the Jaccard similarity of any two texts, |A & B| / |A | B| of their shingles. [G, G]

  Shingles (Broder, 1997) are the runs of `run` words, in lower case; a shorter text is one. Two
  texts with the same shingles have 1, two without a common one 0. A text without words is like
  others without words alone.
  """
  hashes = [text.hash_words(text.words(one.lower())) for one in texts]
  sets = [set(text.shingles(h_T, min(run, max(len(h_T), 1))).tolist()) for h_T in hashes]
  found = np.eye(len(texts))
  for i, a in enumerate(sets):
    for j, b in enumerate(sets[:i]):
      both = len(a & b)
      found[i, j] = found[j, i] = both / (len(a) + len(b) - both) if a or b else 1.0
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
    rewards[valid] = 1.0 - (found.sum(axis=1) - 1.0) / max(len(valid) - 1, 1)
  return rewards
