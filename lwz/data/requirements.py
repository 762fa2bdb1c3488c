"""Preference pairs made by dropping requirements (arXiv 2604.27453), without a model that writes.

A request names some terms of a passage, `Write about Rivers. Cover: estuary, silt, flood.` The
passage covers them all; in the worse answer, sentences that carry some of them have given way to
others of about the same length, of the same document where it has such. Every sentence is sound:
what tells the two apart is what was asked for.
"""

import collections.abc
import itertools

import numpy as np

from lwz import text as words
from lwz import types
from lwz.data import corpus, formatted, preferences, templates

SOURCE = 'require'  # of the pairs

_MIN_LETTERS = 4  # of a term in letters: shorter words name little
_AROUND = 5  # a document's own sentences are looked for in so many times the passage's length
_SLACK = 0.15  # the share of its words by which the worse answer may be longer or shorter


def from_documents(
  found: collections.abc.Iterable[types.Document],
  *,
  num: int,
  lower: int,
  upper: int,
  seed: int,
  share: tuple[float, float] = (0.0, 1.0),
) -> list[types.Preference]:
  """Returns a pair for each document with an opening of `lower` to `upper` words that allows it.

  A request names up to `num` terms; `share` is of the requests without them, see
  `preferences.is_in`.
  """
  pairs, kept = [], list(corpus.openings(found, lower, upper))
  for i, (document, text) in enumerate(kept):
    request = formatted.request(document, text)
    if not preferences.is_in(request, share):
      continue
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, i], np.uint64)))
    facets = named(text, document.title, num, rng)
    other = kept[(i + 1 + int(rng.integers(max(1, len(kept) - 1)))) % len(kept)][1]
    worse = dropped(text, facets, _rest(document, text), other, rng)
    sizes = words.count_words(text), words.count_words(worse)
    if covered(worse, facets) < len(facets) and abs(sizes[1] - sizes[0]) <= _SLACK * sizes[0]:
      pairs.append(types.Preference(formatted.covering(request, facets), text, worse, SOURCE))
  return pairs


def terms(text: str) -> dict[str, str]:
  """Returns the terms of a text by their stems: content words, and pairs of Han.

  terms('The river flows.') == {'river': 'river', 'flow': 'flows'}
  """
  found = words.words(text)
  known = {
    words.stem(word.lower()): word
    for word in found
    if len(word) >= _MIN_LETTERS and word.isalpha() and word.lower() not in words.STOP_WORDS
  }
  for left, right in itertools.pairwise(found):
    both = left + right
    is_han = len(both) == 2 and left >= words.CHARACTERS[0] <= right
    if is_han and not {left, right} & words.STOP_WORDS and both in text:
      known[both] = both
  return known


def named(text: str, title: str, num: int, rng: np.random.Generator) -> list[str]:
  """Returns up to `num` terms of a text that its title has not, of different sentences first."""
  known, sentences = terms(title), words.sentences(text)
  found = []
  for i in rng.permutation(len(sentences)):
    fresh = [item for item in terms(sentences[i]).items() if item[0] not in known]
    found.append([fresh[j] for j in rng.permutation(len(fresh))])
  rounds = itertools.chain.from_iterable(itertools.zip_longest(*found))
  return list(dict(item for item in rounds if item).values())[:num]


def covered(text: str, facets: collections.abc.Sequence[str]) -> int:
  """Returns the number of terms that a text has, in any of their forms."""
  known = terms(text)
  return sum(not terms(facet).keys().isdisjoint(known) for facet in facets)


def dropped(
  text: str,
  facets: collections.abc.Sequence[str],
  own: collections.abc.Sequence[str],
  other: str,
  rng: np.random.Generator,
) -> str:
  """Returns the text without the sentences that carry some of the terms, one at least.

  Sentences of `own`, else of the text `other`, take their places and about their length. The text
  comes back as it is where there are no terms.
  """
  if not facets:
    return text
  lost = [facets[i] for i in rng.permutation(len(facets))[: int(rng.integers(len(facets))) + 1]]
  near, far = (
    [(words.count_words(sentence), sentence) for sentence in part if not covered(sentence, lost)]
    for part in (own, words.sentences(other))
  )
  pieces, end, missing = [], 0, 0
  for first, last in corpus.spans(text):
    sentence = text[first:last]
    if covered(sentence, lost):
      missing += words.count_words(sentence)
      filling, missing = _filling(near, far, missing)
      sentence = ('' if templates.language(sentence) == 'zh' else ' ').join(filling)
    pieces += [text[end:first], sentence]
    end = last
  return ''.join(pieces).strip()


def _filling(
  near: list[tuple[int, str]], far: list[tuple[int, str]], size: int
) -> tuple[list[str], int]:
  """Takes (words, sentence) out of the lists, about `size` words; returns what is missing, too."""
  found: list[str] = []
  while near or far:
    places = [(abs(words_here - size), i) for i, (words_here, _) in enumerate([*near, *far])]
    fits = [place for place in places[: len(near)] if place[0] <= size / 4] or places
    distance, i = min(fits)
    if distance >= size:
      break  # it would be further from its length than without
    num_words, sentence = near.pop(i) if i < len(near) else far.pop(i - len(near))
    found.append(sentence)
    size -= num_words
  return found, size


def _rest(document: types.Document, text: str) -> list[str]:
  """Returns the sentences of a document after its opening, as far as they are looked at."""
  start = document.text.index(text) + len(text)
  return words.sentences(document.text[start : start + _AROUND * len(text)])[:-1]
