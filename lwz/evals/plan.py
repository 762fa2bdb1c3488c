"""Plan following: does the answer do what its thoughts announce?

The paper's case for the think prompt is that the policy plans before it writes (section 4.2); this
measures whether the plan is carried out, by content words and without a judge.
"""

import bisect
import itertools
import math
import re

from lwz import text as texts

# '1. ', '2) ', '3、', at the beginning of a line or behind ';', ':' or a full stop.
_NUMBERED = re.compile(r'(?:^|(?<=[\n;；:：.。]))\s*\(?\d{1,2}[.)、）]\s*')
COVERED = 0.5  # share of a point's content words that a sentence, with the next one, must hold


def points(think: str) -> list[str]:
  """Returns the points of an outline: its numbered parts, or its sentences if none is numbered.

  >>> points('Plan: 1. Rivers carry water; 2. Lakes keep it.')
  ['Rivers carry water;', 'Lakes keep it.']
  """
  numbered = _NUMBERED.split(think)[1:]
  found = numbered if len(numbered) > 1 else texts.sentences(think)
  return [point.strip() for point in found if point.strip()]


def following(think: str, answer: str) -> float:
  """Returns the share of the outline's points that the answer covers in their order, in [0, 1].

  A point is covered by a sentence that, with the one behind it, holds half of the point's content
  words; points count that are on the longest run of covered ones in ascending order. NaN where no
  point has content words.
  """
  terms = [_terms(point) for point in points(think)]
  terms = [of_point for of_point in terms if of_point]
  if not terms:
    return math.nan
  said = [_terms(sentence) for sentence in texts.sentences(answer)] + [frozenset()]
  pairs = [a | b for a, b in itertools.pairwise(said)]
  ends: list[int] = []  # ends[n]: the least sentence at which a run of n + 1 points may end
  for of_point in terms:
    held = [i for i, words in enumerate(pairs) if len(of_point & words) >= COVERED * len(of_point)]
    for sentence in reversed(held):
      at = bisect.bisect_right(ends, sentence)
      ends[at : at + 1] = [sentence]
  return len(ends) / len(terms)


def _terms(text: str) -> frozenset[str]:
  """Returns the content words of a text, or its pairs of Han."""
  return frozenset(texts.content(texts.words(text.lower())))
