"""Kinds of damage to a text, for preference pairs: a passage is preferred to a damaged copy.

Three groups of kinds share nothing, so that a reward model can be tested on cheats that it never
saw: those that the writing reward model learns from, those that its referee learns from, and those
that no model learns from.
"""

import collections
import itertools
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lwz import text as texts
from lwz.data import corpus

# (text, rng, another text) -> the damaged text, or an equal one if there is nothing to damage
Damage = Callable[[str, np.random.Generator, str], str]

_WORD = re.compile(r'[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+')


def _parts(text: str) -> list[str]:
  """The sentences of a text, each with the white space that follows it."""
  starts = [start for start, _ in corpus.spans(text)]
  return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _in_gaps(text: str, sentences: list[str]) -> str:
  """The text with its sentences replaced by others; its white space stays."""
  gaps = [part[len(part.rstrip()) :] for part in _parts(text)]
  gaps = (gaps + [gaps[0] or ' '] * len(sentences))[: len(sentences)]
  pairs = zip(sentences, gaps, strict=True)
  return ''.join(sentence.rstrip() + gap for sentence, gap in pairs).rstrip()


def shuffle(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with its sentences in another order."""
  del other
  parts = _parts(text)
  return _in_gaps(text, [parts[i] for i in rng.permutation(len(parts))])


def repeat(text: str, rng: np.random.Generator, other: str) -> str:
  """The first sentences repeated to about the length of the text."""
  del other
  parts = _parts(text)
  kept = parts[: int(rng.integers(1, max(2, len(parts) // 2 + 1)))]
  sentences, length = [], 0
  while length < len(text):
    sentence = kept[len(sentences) % len(kept)]
    if sentences and length + len(sentence) / 2 > len(text):
      break
    sentences.append(sentence)
    length += len(sentence)
  return _in_gaps(text, sentences)


def cut(text: str, rng: np.random.Generator, other: str) -> str:
  """The text truncated inside a sentence, after four to nine tenths of its words."""
  del other
  words = list(_WORD.finditer(text))
  ends = {end for _, end in corpus.spans(text)}
  inner = [word.end() for word in words if not {word.end(), word.end() + 1} & ends]
  inner = [end for end in inner if 0.4 * len(text) <= end <= 0.9 * len(text)]
  return text[: inner[rng.integers(len(inner))]] if inner else text


def replace(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with three of ten words replaced by words of another text."""
  foreign = _WORD.findall(other)
  if not foreign:
    return text
  return _WORD.sub(
    lambda word: foreign[rng.integers(len(foreign))] if rng.random() < 0.3 else word[0], text
  )


def mix(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with every second sentence, from a random one on, taken from another text."""
  parts, foreign = _parts(text), _parts(other)
  if len(parts) < 2 or not foreign:
    return text
  first = int(rng.integers(2))
  sentences = [
    foreign[i // 2 % len(foreign)] if i % 2 == first else part for i, part in enumerate(parts)
  ]
  return _in_gaps(text, sentences)


def scramble(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with the words of each sentence in another order."""
  del other
  return _in_gaps(text, [_joined(rng.permutation(_split(part.strip()))) for part in _parts(text)])


def stutter(text: str, rng: np.random.Generator, other: str) -> str:
  """The text to a random word, then one word or mark repeated to the same length."""
  del other
  words = _split(text)
  if len(words) < 2:
    return text
  start = int(rng.integers(1, len(words)))
  unit = str(rng.choice([words[start - 1].strip(), *';,.(']))
  return _joined([*words[:start], *[unit] * (len(words) - start)])


def coin(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with words that do not exist: the beginning of one, and the end of another.

  In Chinese, with characters of the other text in place of some.
  """
  kinds = [re.compile(r'[^\W\d_\u4e00-\u9fff]{4,}'), re.compile(r'[\u4e00-\u9fff]')]
  word = max(kinds, key=lambda kind: len(kind.findall(text)))
  places, ends = list(word.finditer(text)), word.findall(other) or word.findall(text)
  if not places:
    return text
  share = rng.uniform(0.1, 0.4)
  chosen = [i for i in range(len(places)) if rng.random() < share] or [_place(rng, places, 0)]
  for place in reversed([places[i] for i in chosen]):
    end = ends[int(rng.integers(len(ends)))]
    begin = place[0][: int(rng.integers(1, len(place[0])))] if len(place[0]) > 1 else ''
    text = text[: place.start()] + begin + end[len(end) // 2 :] + text[place.end() :]
  return text


def _split(text: str) -> list[str]:
  """The words, each with the end of the paragraph that it closes."""
  return re.findall(r'[\u4e00-\u9fff]\n*|[^\s\u4e00-\u9fff]+\n*', text)


def _joined(words: Iterable[str]) -> str:
  """Words joined with blanks, without blanks beside Han characters and paragraphs."""
  apart = ' '.join(words).strip()
  return re.sub(r'(?<=[\u4e00-\u9fff\n]) | (?=[\u4e00-\u9fff])', '', apart)


def marks(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with needless punctuation behind up to four of ten words."""
  del other
  share, usual = rng.uniform(0.08, 0.4), str(rng.choice([*';,.(:', '']))
  return _joined(
    word.rstrip() + (usual or str(rng.choice([*';,.:)(']))) + word[len(word.rstrip()) :]
    if rng.random() < share
    else word
    for word in _split(text)
  )


def drop(text: str, rng: np.random.Generator, other: str) -> str:
  """The text without half or more of its function words."""
  del other
  share = rng.uniform(0.5, 1.0)
  words = [w for w in _split(text) if w.lower() not in texts.STOP_WORDS or rng.random() > share]
  return _joined(words) or text


def swap(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with neighbouring words exchanged in many places."""
  del other
  words, share, i = _split(text), rng.uniform(0.3, 0.7), 0
  while i + 1 < len(words):
    if rng.random() < share:
      words[i], words[i + 1] = words[i + 1], words[i]
      i += 1
    i += 1
  return _joined(words)


def chain(text: str, rng: np.random.Generator, other: str) -> str:
  """Words of both texts, each one that follows its predecessor somewhere in them."""
  words = _split(text)
  both = words + _split(other)
  followers = collections.defaultdict(list)
  for word, following in itertools.pairwise(both):
    followers[word].append(following)
  found = words[:1]
  while found and len(found) < len(words):
    found.append(str(rng.choice(followers[found[-1]] or both)))
  return _joined(found)


def splice(text: str, rng: np.random.Generator, other: str) -> str:
  """Phrases of two to five words, of the text and of the other one in turn."""
  words, foreign = _split(text), _split(other)
  found: list[str] = []
  for turn, start in enumerate(range(0, len(words), 4)):
    source, first = (words, start) if turn % 2 == 0 else (foreign, _place(rng, foreign, 4))
    found += source[first : first + int(rng.integers(2, 6))]
  return _joined(found)


def stuff(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with one of its words again and again between the others."""
  del other
  words = _split(text)
  keyword = str(rng.choice([w for w in words if len(w) > 4] or words or ['']))
  share = rng.uniform(0.1, 0.35)
  return _joined(w for word in words for w in [word] + [keyword] * (rng.random() < share))


def misspell(text: str, rng: np.random.Generator, other: str) -> str:
  """The text with a letter of some words lost, doubled or exchanged; in Chinese: exchanged."""
  del other
  places = list(re.finditer(r'[^\W\d_\u4e00-\u9fff]{4,}|[\u4e00-\u9fff]{2,4}', text))
  if not places:
    return text
  share = rng.uniform(0.1, 0.4)
  chosen = [place for place in places if rng.random() < share] or [places[_place(rng, places, 0)]]
  for place in reversed(chosen):
    word, change = place[0], int(rng.integers(3))
    i = int(rng.integers(len(word) - 1))
    if change == 0 or '\u4e00' <= word[i] <= '\u9fff':
      wrong = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    else:
      wrong = word[:i] + word[i] * (2 * (change == 1)) + word[i + 1 :]
    text = text[: place.start()] + wrong + text[place.end() :]
  return text


def echo(text: str, rng: np.random.Generator, other: str) -> str:
  """One phrase of the text after the other, each said two or three times."""
  del other
  words, size = _split(text), int(rng.integers(3, 7))
  parts = [words[i : i + size] for i in range(0, len(words), size)]
  said = [w for part in parts for w in part * int(rng.integers(2, 4))]
  return _joined(said[: len(words)])


def alphabet(text: str, rng: np.random.Generator, other: str) -> str:
  """The words of the text in alphabetical order, from a random one on."""
  del other
  words = sorted(_split(text), key=str.lower)
  first = _place(rng, words, 0)
  return _joined(words[first:] + words[:first])


def glue(text: str, rng: np.random.Generator, other: str) -> str:
  """Function words of both texts in random order: grammar's little words without anything said."""
  words = _split(text)
  little = [w for w in words + _split(other) if w.lower() in texts.STOP_WORDS]
  return _joined(rng.choice(little, len(words))) if little else text


def frame(text: str, rng: np.random.Generator, other: str) -> str:
  """One opening of three words before pairs of words of the text, sentence by sentence."""
  del other
  words = _split(text)
  first, size = words[:3], int(rng.integers(2, 5))
  parts = [words[i : i + size] for i in range(3, len(words), size)]
  said = [w for part in parts for w in (*first, *part[:-1], part[-1].rstrip('.,;\n') + '.')]
  return _joined(said[: len(words)])


def _place(rng: np.random.Generator, words: Sequence, room: int) -> int:
  return int(rng.integers(max(1, len(words) - room)))


DAMAGES: dict[str, Damage] = {
  damage.__name__: damage
  for damage in (
    *(shuffle, repeat, cut, replace, mix, scramble, stutter, coin),
    *(marks, drop, swap, chain, splice, stuff, misspell),
    *(echo, alphabet, glue, frame),
  )
}
# For the writing reward model, for its referee, and for tests of both.
TRAINED = ('shuffle', 'repeat', 'cut', 'replace', 'mix', 'scramble', 'stutter', 'coin')
REFEREE = ('marks', 'drop', 'swap', 'chain', 'splice', 'stuff', 'misspell')
UNSEEN = ('echo', 'alphabet', 'glue', 'frame')
