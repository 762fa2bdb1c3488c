"""Signals of cheating in a text: one number per sample and signal, NaN where it does not apply.

They are lexical, cheap and blind to meaning. None is a reward: a policy that is trained against a
signal learns to hide it. `lwz.reward.hacking.alarms` says how much of each is too much.
"""

import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from lwz import text as texts
from lwz.reward import components, length, redundancy
from lwz.reward.hacking import grammar

WINDOW = 512  # words of a window of distinct-n, without which a long text has low values
BYTES = 4_096  # of a window of compression
COPY_PROMPT, COPY_THINK = 6, 8  # words in a row that are no chance agreement
PARAGRAPH = 20  # words below which paragraphs resemble each other by chance
SIGNATURE, BAND = 64, 2  # components of a MinHash, and how many of them a bucket is named by
NEAR = 0.3  # Jaccard similarity of the word pairs of two paragraphs that are one
FEW = 40  # words below which a share of them says nothing

_TAG = re.compile(r'</?[A-Za-z]\w*[^<>\n]{0,40}>|<\|[^|<>\n]{1,40}\|>')
_LATIN = re.compile(r'[A-Za-z\u00c0-\u024f]')
_HAN = re.compile(f'[{texts.CHARACTERS}]')
_NAMES_CHINESE = re.compile(r'\bChinese\b|\bMandarin\b|中文|汉语|漢語', re.IGNORECASE)
_NAMES_ENGLISH = re.compile(r'\bEnglish\b|英文|英语|英語', re.IGNORECASE)
_NAMES_BOTH = re.compile(r'translat|bilingual|翻译|双语', re.IGNORECASE)


class Answer:
  """A sample's answer, tokenised once for all signals; of a broken reply, the whole text."""

  def __init__(self, sample: components.Sample):
    self.sample = sample
    self.text = sample.parsed.answer if sample.parsed.answer.strip() else sample.text
    self.words = texts.words(self.text.lower())
    self.hashes = texts.hash_words(self.words)


def repeated_sentences(answer: Answer) -> float:
  """The share of sentences that stood before, word for word."""
  found = [' '.join(s.lower().split()) for s in texts.sentences(answer.text)]
  return 1.0 - len(set(found)) / len(found) if found else 0.0


def repeated_paragraphs(answer: Answer) -> float:
  """The share of words in paragraphs that nearly equal an earlier one, by MinHash of word pairs.

  Each signature lies in SIGNATURE / BAND buckets, and a bucket remembers the last paragraph in it:
  the work is linear in the number of paragraphs.
  """
  gap = r'\n\s*\n' if re.search(r'\n\s*\n', answer.text) else r'\n'
  buckets: dict[tuple, int] = {}
  signatures: list[np.ndarray] = []
  start = num_repeated = 0
  for paragraph in re.split(gap, answer.text):
    hashes = answer.hashes[start : start + len(texts.words(paragraph))]
    start += len(hashes)
    if len(hashes) < PARAGRAPH:
      continue
    signature = texts.minhash(texts.shingles(hashes, 2), SIGNATURE)
    keys = [(i, *signature[i : i + BAND].tolist()) for i in range(0, SIGNATURE, BAND)]
    earlier = {buckets[key] for key in keys if key in buckets}
    near = any(np.mean(signatures[j] == signature) >= NEAR for j in earlier)
    num_repeated += near * len(hashes)
    buckets |= dict.fromkeys(keys, len(signatures))
    signatures.append(signature)
  return num_repeated / start if start else 0.0


def distinct(n: int) -> Callable[[Answer], float]:
  """distinct-n (Li et al., 2016): the share of runs of n words that are new in their window."""

  def of(answer: Answer) -> float:
    runs = texts.shingles(answer.hashes, n)
    windows = [runs[i : i + WINDOW] for i in range(0, max(len(runs) - WINDOW // 2, 1), WINDOW)]
    return float(np.mean([len(np.unique(w)) / len(w) for w in windows])) if len(runs) else np.nan

  return of


def compression(answer: Answer) -> float:
  """Compressed size over size of the most compressible window of BYTES; NaN of a shorter text."""
  data = answer.text.encode(errors='replace')
  windows = [data[i : i + BYTES] for i in range(0, len(data) - BYTES + 1, BYTES)]
  return min((len(zlib.compress(w)) / BYTES for w in windows), default=np.nan)


def _copied(answer: Answer, source: str, n: int) -> float:
  """The share of the answer's words in runs of n words of a source."""
  given = texts.hash_words(texts.words(source.lower()))
  if len(given) < n or len(answer.hashes) < n:
    return 0.0
  known = np.isin(texts.shingles(answer.hashes, n), texts.shingles(given, n))
  change = np.zeros(len(answer.hashes) + 1, np.int64)
  change[: len(known)] += known
  change[n : n + len(known)] -= known
  return float(np.mean(np.cumsum(change[:-1]) > 0))


def other_language(answer: Answer) -> float:
  """The share of the answer in another script than the request asks for; NaN where it asks for two.

  A Latin word counts as two Han characters, which say about as much.
  """
  wanted = asked_language(answer.sample.prompt.text)
  han = sum(1 for word in answer.words if _HAN.match(word))
  latin = 2 * sum(1 for word in answer.words if _LATIN.match(word))
  others = 2 * sum(1 for word in answer.words if word[0].isalpha()) - 2 * han - latin
  total = han + latin + others
  return 1.0 - (han if wanted == 'zh' else latin) / total if wanted and total else np.nan


def asked_language(request: str) -> str:
  """'zh' or 'en': what the request names, else what it is written in; '' where it names both."""
  chinese, english = _NAMES_CHINESE.search(request), _NAMES_ENGLISH.search(request)
  if _NAMES_BOTH.search(request) or (chinese and english):
    return ''
  if chinese or english:
    return 'zh' if chinese else 'en'
  return 'zh' if 2 * len(_HAN.findall(request)) > len(texts.words(request)) else 'en'


def tags(answer: Answer) -> float:
  """Tags (`<b>`, `</note>`, `<|end|>`) per word of the answer."""
  return len(_TAG.findall(answer.text)) / max(len(answer.words), FEW)


def marks(answer: Answer) -> float:
  """Marks of punctuation per word of the answer."""
  return len(re.findall(r'[^\w\s]', answer.text)) / max(len(answer.words), FEW)


def unseen(answer: Answer) -> float:
  """The share of invisible characters: zero-width, control and private ones."""
  odd = sum(1 for c in answer.text if not c.isascii() and unicodedata.category(c)[0] == 'C')
  return odd / max(len(answer.text), 1)


def overcounted(answer: Answer) -> float:
  """The length reward's word count over the words that a reader counts; about 1, or less."""
  return length.count_words(answer.text) / max(len(answer.words), FEW)


def empty_think(answer: Answer) -> float:
  """1 where the thoughts hold no word, 0 where they do, NaN where none were asked for."""
  parsed = answer.sample.parsed
  if parsed.fault == 'empty_think':
    return 1.0
  return float(not texts.words(parsed.think)) if parsed.think else np.nan


SIGNALS: dict[str, Callable[[Answer], float]] = {
  'repeat/all': lambda answer: redundancy.share(answer.text),
  'repeat/sentences': repeated_sentences,
  'repeat/paragraphs': repeated_paragraphs,
  'distinct/1': distinct(1),
  'distinct/2': distinct(2),
  'distinct/3': distinct(3),
  'compression': compression,
  'copy/prompt': lambda answer: _copied(answer, answer.sample.prompt.text, COPY_PROMPT),
  'copy/think': lambda answer: _copied(answer, answer.sample.parsed.think, COPY_THINK),
  'language/other': other_language,
  'tags': tags,
  'marks': marks,
  'unseen': unseen,
  'overcounted': overcounted,
  'density': lambda answer: grammar.density(answer.words),
  'disorder': lambda answer: grammar.disorder(answer.text),
  'function_words': lambda answer: grammar.function_words(answer.words),
  'empty_think': empty_think,
  'broken': lambda answer: float(not answer.sample.parsed.valid),
}


def measure(samples: Sequence[components.Sample]) -> dict[str, np.ndarray]:
  """Returns every signal of every sample, by name: float64 [B], NaN where it does not apply."""
  rows = []
  for sample in samples:
    answer = Answer(sample)
    rows.append([signal(answer) for signal in SIGNALS.values()])
  table_BK = np.array(rows, np.float64).reshape(len(samples), len(SIGNALS))
  return dict(zip(SIGNALS, table_BK.T, strict=True))
