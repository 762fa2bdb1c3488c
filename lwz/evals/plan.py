"""Plan following: does the answer do what its thoughts announce?

The paper's case for the think prompt is that the policy plans before it writes (section 4.2); this
measures whether the plan is carried out, by content words and without a judge.
"""

import collections
import itertools
import math
import re
from typing import NamedTuple

import numpy as np

from lwz import text as texts

# '1. ', '2) ', '3、', at the beginning of a line or behind ';', ':' or a full stop.
_NUMBERED = re.compile(r'(?:^|(?<=[\n;；:：.。]))\s*\(?\d{1,2}[.)、）]\s*')
COVERED = 0.5  # share of a point's content words that a sentence, with the next one, must hold
MOST = 200  # points that are read of an outline


class Place(NamedTuple):
  """A point of an outline, the place of the answer that covers it, and whether it is in order.

  `at` is from 0 to 1, NaN where nothing covers the point.
  """

  point: str
  at: float
  ordered: bool


def points(think: str) -> list[str]:
  """Returns the points of an outline: its numbered parts, or its sentences if none is numbered.

  At most the first MOST, so that a thought that goes round in circles takes a bounded time.

  >>> points('Plan: 1. Rivers carry water; 2. Lakes keep it.')
  ['Rivers carry water;', 'Lakes keep it.']
  """
  numbered = _NUMBERED.split(think)[1:]
  found = numbered if len(numbered) > 1 else texts.sentences(think)
  return [point.strip() for point in found if point.strip()][:MOST]


def places(think: str, answer: str) -> list[Place]:
  """Returns where the answer covers each point of the outline that has content words.

  A point is covered by a sentence that, with the one behind it, holds half of the point's content
  words by weight, log(1 + sentences / (1 + sentences with the word)), so that what the whole answer
  is about covers nothing alone; it is at the one of the two that holds more. Points are in order
  that lie on the longest run of covered ones in ascending order; others are at the first place that
  covers them.
  """
  named = [(point, terms) for point in points(think) if (terms := _terms(point))]
  said = [_terms(sentence) for sentence in texts.sentences(answer)] + [frozenset()]
  num = len(said) - 1
  common = collections.Counter(term for terms in said for term in terms)
  holding: dict[str, list[int]] = {}  # term -> sentences that hold it, with the one behind them
  for i, (own, behind) in enumerate(itertools.pairwise(said)):
    for term in own | behind:
      holding.setdefault(term, []).append(i)
  # Of runs of n + 1 points: the least sentence at which one may end, and the (point, sentence)
  # pairs of such a run, the last one first.
  ends: list[int] = []
  runs: list[tuple] = []
  found = [Place(point, math.nan, False) for point, _ in named]

  def at_share(terms: frozenset[str], i: int) -> float:
    behind = i + 1 < len(said) and len(terms & said[i + 1]) > len(terms & said[i])
    return (i + behind) / num

  for k, (point, terms) in enumerate(named):
    wanted, weight_K = 0.0, np.zeros(num)
    for term in sorted(terms):  # a set has no order, and a sum has one
      weight = math.log1p(num / (1 + common[term]))
      wanted += COVERED * weight
      weight_K[holding.get(term, [])] += weight
    held_H = np.flatnonzero(weight_K >= wanted - 1e-9)
    if len(held_H):
      found[k] = Place(point, at_share(terms, int(held_H[0])), False)
    # A run grows by the first sentence behind the end of each shorter one; the longest run first.
    grown_H, first = np.unique(np.searchsorted(ends, held_H, 'right'), return_index=True)
    for at, sentence in zip(grown_H[::-1].tolist(), held_H[first][::-1].tolist(), strict=True):
      ends[at : at + 1] = [sentence]
      runs[at : at + 1] = [((k, sentence), runs[at - 1] if at else ())]
  run = runs[-1] if runs else ()
  while run:
    (k, sentence), run = run
    found[k] = Place(found[k].point, at_share(named[k][1], sentence), True)
  return found


def following(think: str, answer: str) -> float:
  """Returns the share of the outline's points that the answer covers in their order, in [0, 1].

  NaN where no point has content words; see `places`.
  """
  found = places(think, answer)
  return sum(place.ordered for place in found) / len(found) if found else math.nan


def _terms(text: str) -> frozenset[str]:
  """Returns the content words of a text, or its pairs of Han."""
  return frozenset(texts.content(texts.words(text.lower())))
