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

# '1. ', '2) ', '**3、', at the beginning of a line or behind ';', ':' or a full stop; where there
# are none '- ', 'Part 2: ', '第三章', '四、' at the beginning of a line.
_NUMBERED = re.compile(r'(?:^|(?<=[\n;；:：.。]))[\s#*_(（]{0,8}\d{1,2}[.)、）]\s*')
_LISTED = re.compile(
  r'^[ \t#*_]{0,8}(?:[-•*][ \t]+|'
  r'(?:chapter|part|section|paragraph|step|act)[ \t]+\w{1,9}\b[ \t*_]*[:.–—-]|'
  r'第[一二三四五六七八九十\d]{1,3}(?:[章节段幕]|部分)|[一二三四五六七八九十]{1,3}、)',
  re.I | re.M,
)
# The length of a point, '(400 words)', and its number.
_SIZE = re.compile(r'\d[\d,]{0,9}\s*(?:words?|字)|(?<!\d)\d{1,2}(?!\d)')
# A sentence, with the next one, covers a point if it holds these shares of its content words, of
# the most that the points of the plan hold in the median, and of the most that any holds of it.
# Chosen on one half of the books in results/evaluation.md.
COVERED, USUAL, NEAR = 0.35, 0.6, 0.9
MOST = 200  # points that are read of an outline
READ = 20_000  # sentences that are read of an answer: shares of all points take 64 MB then


class Place(NamedTuple):
  """A point of an outline, the place of the answer that covers it, and whether it is in order.

  `at` is from 0 to 1, NaN where nothing covers the point.
  """

  point: str
  at: float
  ordered: bool


def points(think: str) -> list[str]:
  """Returns the points of an outline: its numbered or listed parts, or else its sentences.

  At most the first MOST, so that a thought that goes round in circles takes a bounded time.

  >>> points('Plan: 1. Rivers carry water; 2. Lakes keep it.')
  ['Rivers carry water;', 'Lakes keep it.']
  """
  found = next((of for form in (_NUMBERED, _LISTED) if len(of := form.split(think)[1:]) > 1), [])
  if found and not any('\n\n' in point.strip() for point in found[:-1]):
    found[-1] = found[-1].strip().partition('\n\n')[0]  # what follows the last one is no point
  found = found or texts.sentences(think)
  return [point.strip() for point in found if point.strip()][:MOST]


def places(think: str, answer: str) -> list[Place]:
  """Returns where the answer covers each point of the outline that has content words.

  A sentence, with the one behind it, covers a point by the share that they hold of its content
  words, which weigh log(1 + sentences / (1 + sentences with the word)), so that what the whole
  answer is about covers nothing alone; words of most points, as 'Paragraph', say nothing of one. A
  share counts that is not small, beside those of the other points either, as a plan in the answer's
  own words is followed more closely than one in others, and is nearly as large as that of any
  sentence, so that a few words which occur where the point should stand do not stand for it. It is
  at the one of the two that holds more. Points are in order that lie on the best alignment: at most
  one sentence for each point, in ascending order, with the greatest sum of shares (Needleman and
  Wunsch, 1970). Others are at a place that covers them.
  """
  read = [(point, _terms(_SIZE.sub('', point))) for point in points(think)]
  told = collections.Counter(term for _, terms in read for term in terms)
  common_to = {term for term, num in told.items() if num > max(len(read) / 2, 3)}
  named = [(point, terms) for point, whole in read if (terms := whole - common_to)]
  said = [_terms(sentence) for sentence in texts.sentences(answer)[:READ]] + [frozenset()]
  num = max(len(said) - 1, 1)
  common = collections.Counter(term for terms in said for term in terms)
  holding: dict[str, list[int]] = {}  # term -> sentences that hold it, with the one behind them
  for i, (own, behind) in enumerate(itertools.pairwise(said)):
    for term in own | behind:
      holding.setdefault(term, []).append(i)
  share_KN = np.zeros((len(named), num))
  for (_, terms), share_N in zip(named, share_KN, strict=True):
    weights = {term: math.log1p(num / (1 + common[term])) for term in sorted(terms)}  # in one order
    whole = sum(weights.values())
    for term, weight in weights.items():
      share_N[holding.get(term, [])] += weight / whole
  most_K1 = share_KN.max(1, keepdims=True)
  usual = USUAL * np.median(most_K1) if named else 0.0
  least_K1 = np.maximum(max(COVERED, usual), NEAR * most_K1)
  share_KN[share_KN < least_K1 - 1e-9] = 0
  best_KN = np.zeros((len(named) + 1, num))  # the greatest sum of k points up to each sentence
  for k, share_N in enumerate(share_KN):
    best_KN[k + 1] = np.maximum.accumulate(best_KN[k] + share_N)
  found, last = [], num - 1
  for (point, terms), share_N, best_N in reversed(
    [*zip(named, share_KN, best_KN[1:], strict=True)]
  ):
    last = int(np.searchsorted(best_N, best_N[last]))  # the first sentence with that sum
    place = last if share_N[last] else int(share_N.argmax())
    later = place + 1 < len(said) and len(terms & said[place + 1]) > len(terms & said[place])
    at = (place + later) / num if share_N[place] else math.nan
    found.append(Place(point, at, bool(share_N[last])))
  return found[::-1]


def following(think: str, answer: str) -> float:
  """Returns the share of the outline's points that the answer covers in their order, in [0, 1].

  NaN where no point has content words; see `places`.
  """
  found = places(think, answer)
  return sum(place.ordered for place in found) / len(found) if found else math.nan


def _terms(text: str) -> frozenset[str]:
  """Returns the content words of a text, or its pairs of Han."""
  parts = re.split(r"[^\w\s’'-]+", text.lower())  # no pair of Han has a mark in it
  return frozenset().union(*(texts.content(texts.words(part)) for part in parts))
