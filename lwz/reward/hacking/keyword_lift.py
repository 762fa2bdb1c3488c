"""Keyword lift: words that become frequent in texts of high reward, whatever their request.

A word of the subject comes and goes with its request; one that a reward model prefers appears in
the answers to all. So requests are counted, not words, and a request's own words are left out.
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from lwz import text as texts

START = 4  # requests that make up the start of a run, at least
MEMORY = 8  # requests over which the present is averaged
OFTEN = 0.003  # share of the words of a text: less is no stuffing


def favourites(request: str, answers: Sequence[str]) -> set[str]:
  """Returns the content words, or pairs of Han, that are OFTEN in at least half of the answers."""
  counts: collections.Counter[str] = collections.Counter()
  for answer in answers:
    words = texts.words(answer.lower())
    found = collections.Counter(
      term for a, b in itertools.pairwise([*words, ' ']) for term in _terms(a, b)
    )
    counts.update(term for term, n in found.items() if n >= OFTEN * len(words))
  asked = texts.content(texts.words(request.lower()))
  return {term for term, n in counts.items() if 2 * n >= len(answers)} - asked


def _terms(word: str, following: str) -> list[str]:
  if word[0] < texts.CHARACTERS[0]:
    return [texts.stem(word)] if word[0].isalpha() and word not in texts.STOP_WORDS else []
  han = following[0] >= texts.CHARACTERS[0]
  return [word + following] if han and not {word, following} & texts.STOP_WORDS else []


def update(state: Mapping[str, Any], found: Sequence[set[str]]) -> dict[str, Any]:
  """Returns the state, which is JSON, after the favourites of a step's requests; `{}` begins a run.

  `start` and `now` are the shares of requests by word: of those before `num_start` reached START,
  and a moving average over the last MEMORY of those after.
  """
  start = dict(state.get('start', {}))
  now = dict(state.get('now', {}))
  num_start, num_now = state.get('num_start', 0), state.get('num_now', 0)
  if num_start < START:
    total = num_start + len(found)
    counts = collections.Counter({word: share * num_start for word, share in start.items()})
    for words in found:
      counts.update(words)
    start, num_start = {word: n / total for word, n in counts.items()}, total
  else:
    for words in found:
      num_now += 1
      rate = 1 / min(num_now, MEMORY)
      now = {word: share * (1 - rate) for word, share in now.items()}
      for word in words:
        now[word] = now.get(word, 0.0) + rate
    now = {word: share for word, share in now.items() if share >= 0.02}
  return {'start': start, 'now': now, 'num_start': num_start, 'num_now': num_now}


def risen(state: Mapping[str, Any], num: int = 10) -> list[tuple[str, float]]:
  """Returns (word, share now - share at the start), highest first; none before START requests."""
  if state.get('num_now', 0) < START:
    return []
  start = state['start']
  lifts = [(word, share - start.get(word, 0.0)) for word, share in state['now'].items()]
  return sorted(lifts, key=lambda pair: (-pair[1], pair[0]))[:num]
