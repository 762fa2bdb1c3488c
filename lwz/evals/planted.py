"""Texts with contradictions at known places: what a finder of contradictions is measured by.

Statements are put behind paragraphs of a given text; some are contradicted later on. Among them
stand statements that contradict nothing: the same said again, the same of somebody else, a change
that is told. Some contradictions are said in words that no rule of `statements` was written for.
"""

import collections
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from lwz import jsonl
from lwz.evals import consistency


class Pair(NamedTuple):
  """A planted contradiction: its class, and the characters of both statements."""

  kind: str
  first: tuple[int, int]
  second: tuple[int, int]
  free: bool  # in words of its own


class Planted(NamedTuple):
  """A text and the contradictions in it."""

  text: str
  pairs: tuple[Pair, ...]


class _Form(NamedTuple):
  """A statement of planted.jsonl, about any of its subjects, in several forms of words."""

  kind: str
  subjects: tuple[str, ...]
  values: tuple[str, ...]  # any two contradict each other, the second after the first
  forms: tuple[str, ...]  # {s} and {v}
  free: str  # in other words
  change: str  # the value changes, which contradicts nothing; '' if it cannot


@functools.cache
def _forms(language: str) -> tuple[_Form, ...]:
  found = jsonl.parsed(epath.Path(__file__).parent / 'planted.jsonl')
  rows = [record for record in found if record['language'] == language]
  return tuple(_Form(**{name: _plain(row[name]) for name in _Form._fields}) for row in rows)


def _plain(value):
  return tuple(value) if isinstance(value, list) else value


def plant(
  paragraphs: Sequence[str], language: str, seed: int, *, pairs: int, honest: int, free: float = 0.0
) -> Planted:
  """Returns the paragraphs as a text with `pairs` contradictions, and `honest` statements without.

  `language` is 'en' or 'zh'; the share `free` of the contradictions is said in other words. No two
  are about one subject, so at most as many are planted as there are subjects.

  Raises ValueError unless at least 8 paragraphs end as sentences do.
  """
  ended = [i for i, text in enumerate(paragraphs) if text.strip()[-1:] in tuple('.!?。！？')]
  if len(ended) < 8:
    raise ValueError(f'{len(ended)} paragraphs of sentences: facts are planted behind 8 or more')
  rng = np.random.default_rng(seed)
  every = [(form, subject) for form in _forms(language) for subject in form.subjects]
  order = [every[i] for i in rng.permutation(len(every))]
  # One of each form first, so that few contradictions are of all classes.
  seen: collections.Counter[_Form] = collections.Counter()
  rank = {}
  for pair in order:
    rank[pair] = seen[pair[0]]
    seen[pair[0]] += 1
  order.sort(key=rank.__getitem__)
  added: list[list[tuple[int, str]]] = [[] for _ in paragraphs]  # (statement, words) behind each
  kinds: list[tuple[str, bool]] = []
  for number, (form, subject) in enumerate(order[: pairs + honest]):
    values = [form.values[i] for i in sorted(rng.permutation(len(form.values))[:2])]
    first, second = (ended[int(i)] for i in sorted(rng.permutation(len(ended))[:2]))
    one, other = (str(rng.choice(form.forms)) for _ in range(2))
    is_pair = number < pairs
    is_free = is_pair and bool(form.free) and rng.random() < free
    if not is_pair:
      values[1] = values[0]
      if form.change and rng.random() < 0.5:
        other, values[1] = form.change, next(v for v in form.values if v != values[0])
    place = 2 * len(kinds)
    added[first].append((place, one.format(s=subject, v=values[0])))
    added[second].append(
      (place + 1, (form.free if is_free else other).format(s=subject, v=values[1]))
    )
    kinds.append((form.kind if is_pair else '', is_free))
  text, spans = '', {}
  blank = ' ' if language == 'en' else ''
  for paragraph, behind in zip(paragraphs, added, strict=True):
    text += paragraph.strip()
    for place, words in behind:
      spans[place] = (len(text) + len(blank), len(text) + len(blank) + len(words))
      text += blank + words
    text += '\n\n'
  names = {name.split()[0].split('-')[0]: name for name in consistency.CLASSES}
  found = [
    Pair(names[kind], spans[2 * i], spans[2 * i + 1], is_free)
    for i, (kind, is_free) in enumerate(kinds)
    if kind
  ]
  return Planted(text, tuple(found))


def hits(found: Sequence[consistency.Conflict], pairs: Sequence[Pair]) -> list[int | None]:
  """Returns, for each found conflict, the planted pair whose statements its quotations meet."""

  def meets(fact: consistency.Fact, span: tuple[int, int]) -> bool:
    return fact.start < span[1] and span[0] < fact.end

  return [
    next(
      (i for i, p in enumerate(pairs) if meets(one.first, p.first) and meets(one.second, p.second)),
      None,
    )
    for one in found
  ]
