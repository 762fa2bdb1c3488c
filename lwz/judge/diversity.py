"""Diversity of answers: among siblings, answers to one prompt, and across prompts.

A policy that collapses writes one text to every prompt, opens every text alike, and gives every
hero the same name.
"""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lwz import text as texts
from lwz.reward import diversity

MOST = 48  # answers that are compared with one another, evenly spaced: their pairs take the time
OPENING = 4  # words
# A capitalised word in the middle of an English sentence: behind a word in lower case.
_NAME = re.compile(r"(?<=[a-z]\s)[A-Z][a-z]+(?:[-'][A-Z]?[a-z]+)*")
MEASURES = ('similarity', 'openings', 'shared_name')


def measure(answered: Mapping[int, str], prompts: Mapping[int, str]) -> dict[str, Any]:
  """Returns the diversity of answers to different prompts, both by the prompt's index.

  `similarity` is the mean over pairs of `reward.diversity.similarities`, `openings` the share of
  different first words, `shared_name` the share of answers with the commonest name that their
  prompts do not give; `opening` and `name` are the commonest. NaN where nothing can be compared;
  texts without words are left out.
  """
  kept = {i: text for i, text in answered.items() if texts.words(text)}
  opens = collections.Counter(_opening(text) for text in kept.values())
  named = collections.Counter(
    name
    for i, text in kept.items()
    for name in _names(text)
    if name not in _names(f'a {prompts.get(i, "")}')
  )
  opening, name = (next(iter(found.most_common(1)), ('', 0)) for found in (opens, named))
  return {
    'similarity': similarity([list(kept.values())]),
    'openings': len(opens) / len(kept) if kept else float('nan'),
    'shared_name': name[1] / len(kept) if named else float('nan'),
    'opening': f'{opening[0]} ({opening[1]})' if opening[1] > 1 else '',
    'name': f'{name[0]} ({name[1]})' if name[1] > 1 else '',
  }


def similarity(groups: Iterable[Sequence[str]]) -> float:
  """Returns the mean similarity of two texts of a group, over groups; NaN without a pair.

  Of a group of more than `MOST` texts so many are compared, evenly spaced.
  """
  means = []
  for group in groups:
    num = min(len(group), MOST)
    if num > 1:
      found = diversity.similarities([group[i * len(group) // num] for i in range(num)])
      means.append((found.sum() - num) / (num * (num - 1)))
  return float(np.mean(means)) if means else float('nan')


def _opening(text: str) -> str:
  return ' '.join(texts.words(text)[:OPENING]).lower()


def _names(text: str) -> list[str]:
  """Returns each name once, in order: of two that are as frequent, the first is said."""
  return [*dict.fromkeys(_NAME.findall(text))]
