"""Preference pairs: read from files, or made from the corpus by damaging its passages."""

import collections.abc
import dataclasses
import numbers
import re
import unicodedata
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl, types
from lwz import text as words
from lwz.data import corpus, files, formatted

Damage = collections.abc.Callable[[str, np.random.Generator, str], str]

_WORD = re.compile(r'[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+')


def load(path: epath.PathLike, *, skip_broken: bool = False) -> tuple[list[types.Preference], int]:
  """Reads pairs: prompt, chosen, rejected; source and margin if given.

  The file holds a JSON object per line, or is a Parquet file; or it is a folder of such files.
  A text may also be a chat, a list of {'role': ..., 'content': ...}: then the assistant's last turn
  counts, and for `prompt` the user's last turn. Returns the pairs, and the number of skipped lines.

  Raises FileNotFoundError if there is no such file; ValueError, beginning with `file:line`, if a
  line is broken or its texts are equal, unless `skip_broken`.
  """
  return files.read(path, _from_record, skip_broken=skip_broken)


def save(path: epath.PathLike, preferences: collections.abc.Iterable[types.Preference]) -> None:
  """Writes what `load` reads."""
  jsonl.write(path, map(dataclasses.asdict, preferences))


def _from_record(record: dict[str, Any]) -> types.Preference:
  texts = {
    name: _flat(record, name, role)
    for name, role in (('prompt', 'user'), ('chosen', 'assistant'), ('rejected', 'assistant'))
  }
  if _normal(texts['chosen']) == _normal(texts['rejected']):
    raise ValueError("'chosen' and 'rejected' are equal after normalisation: no preference")
  margin = float(jsonl.field(record, 'margin', numbers.Real, 0))
  if not 0 <= margin < float('inf'):
    raise ValueError(f"'margin' is {margin}: it must not be negative")
  return types.Preference(**texts, source=jsonl.field(record, 'source', str, ''), margin=margin)


def _normal(text: str) -> str:
  """The text with composed characters, as tokenizers see it, \n for line ends, no outer blanks."""
  return unicodedata.normalize('NFC', text.replace('\r\n', '\n').replace('\r', '\n')).strip()


def _flat(record: dict[str, Any], name: str, role: str) -> str:
  if not isinstance(record.get(name), list):
    text = jsonl.field(record, name, str)
  else:
    turns = [turn for turn in record[name] if isinstance(turn, dict) and turn.get('role') == role]
    if not turns:
      raise ValueError(f'{name!r} is a chat without a turn of the {role}')
    text = jsonl.field(turns[-1], 'content', str)
  if not text.strip():
    raise ValueError(f'{name!r} is empty')
  return text


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
  return _in_gaps(text, [_joined(rng.permutation(_split(part))) for part in _parts(text)])


def stutter(text: str, rng: np.random.Generator, other: str) -> str:
  """The text to a random word, then one word or mark repeated to the same length."""
  del other
  words = _split(text)
  if len(words) < 2:
    return text
  start = int(rng.integers(1, len(words)))
  unit = str(rng.choice([words[start - 1], *';,.(']))
  return _joined([*words[:start], *[unit] * (len(words) - start)])


def _split(text: str) -> list[str]:
  return re.findall(r'[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+', text)


def _joined(words: collections.abc.Iterable[str]) -> str:
  """Words joined with blanks, without blanks beside Han characters."""
  return re.sub(r'(?<=[\u4e00-\u9fff]) | (?=[\u4e00-\u9fff])', '', ' '.join(words))


# kind -> function of (text, rng, another text) that returns the damaged text, or an equal one
DAMAGES: dict[str, Damage] = {
  'shuffle': shuffle,
  'repeat': repeat,
  'cut': cut,
  'replace': replace,
  'mix': mix,
  'scramble': scramble,
  'stutter': stutter,
}


def from_documents(
  found: collections.abc.Iterable[types.Document],
  *,
  lower: int,
  upper: int,
  seed: int,
) -> list[types.Preference]:
  """A pair for each document with an opening of `lower` to `upper` words: original and damaged.

  The request is that of `prompts.from_documents`. The kind of damage is random (the next kind is
  used if it changes nothing) and is the pair's `source`.

  Raises ValueError if fewer than two documents have such an opening: nothing can be mixed.
  """
  openings = [(d, corpus.passage(d, lower, upper)) for d in found]
  kept = [(document, text) for document, text in openings if text is not None]
  if len(kept) < 2:
    raise ValueError(f'{len(kept)} documents with an opening of {lower} to {upper} words; need two')
  kinds = list(DAMAGES)
  preferences = []
  for i, (document, text) in enumerate(kept):
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, i], np.uint64)))
    other = kept[(i + 1 + int(rng.integers(len(kept) - 1))) % len(kept)][1]
    first = int(rng.integers(len(kinds)))
    for kind in kinds[first:] + kinds[:first]:
      damaged = DAMAGES[kind](text, rng, other)
      if damaged != text:
        num_words = words.count_words(text) if formatted.states_length(document) else None
        request = formatted.question(document.title, num_words)
        preferences.append(types.Preference(request, text, damaged, kind))
        break
  return preferences
