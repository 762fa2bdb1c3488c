"""Words, sentences, near-duplicate search, shingles and MinHash of English and Chinese text.

Everything is a pure function of the text: hashes come from blake2b, never from Python's salted
`hash`, so two processes agree.
"""

import collections
import functools
import hashlib
import heapq
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

# Scripts without spaces, in which a character counts as a word: kana, Han and its extensions.
CHARACTERS = '\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff'
WORD = re.compile(rf"[{CHARACTERS}]|[^\W_{CHARACTERS}]+(?:['’-][^\W_{CHARACTERS}]+)*")

_SMALL = """
  zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
  sixteen seventeen eighteen nineteen
"""
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'
NUMERALS = {name: value for value, name in enumerate(_SMALL.split())}
NUMERALS |= {name: 10 * value for value, name in enumerate(_TENS.split(), start=2)}

# LongWriter's two patterns.
_HAN = re.compile(r'[\u4e00-\u9fff]')
_ENGLISH = re.compile(r'\b[a-zA-Z]+\b')

# A sentence ends at a full-width mark, at an ASCII mark that a space, a Han character or the end
# follows, and at a line break. Closing quotes and brackets belong to it.
# The pattern begins with one character class, so that the search skips all others fast, and a run
# of marks is matched once, from its beginning: the time is linear in the text.
_END = re.compile(
  r'[。！？….!?\n](?:'
  r'(?<=\n)'
  r'|(?<=[。！？…])[。！？…]*+["”’」』）)\]]*+'
  rf'|(?<=[.!?])(?<![.!?]{{2}})[.!?]*+["”’」』）)\]*]*+(?=\s|[{CHARACTERS}]|$))'
)
_ABBREVIATIONS = """
  mr mrs ms dr prof st sr jr vs etc cf al fig figs eq eqs no nos vol pp ed eds inc ltd co corp dept
  approx e.g i.e jan feb mar apr jun jul aug sept oct nov dec
"""
_BEFORE = 24  # characters before a full stop that decide whether it ends a sentence
_ABBREVIATED = frozenset(_ABBREVIATIONS.split())

# Stop words, English and Chinese.
_STOP_WORDS_ENGLISH = """
  a about above after again against all also although am an and any are as at be because been
  before being below between both but by can cannot could did do does doing down during each even
  every few for from further had has have having he her here hers herself him himself his how
  however i if in into is it its itself just let like made make many may me might more most much
  must my myself no nor not now of off often on once one only or other our ours out over own same
  shall she should so some such than that the their theirs them themselves then there these they
  this those through thus to too two under until up upon us very was we well were what when where
  whether which while who whom whose why will with within without would yet you your yours
  aren't can't couldn't didn't doesn't don't isn't it's that's wasn't won't wouldn't
"""
_STOP_WORDS_HAN = (
  '的了是在不一有和这那中我们他她它个也就都而及与或之其'
  '等对为以到说要会可能被把从但所于着过还很上下来去'
)
STOP_WORDS = frozenset(_STOP_WORDS_ENGLISH.split()) | frozenset(_STOP_WORDS_HAN)

# Limits of the search for candidates, which bound the work per word: the last 32 sets of a word
# are indexed, the rarest words of a set give up to 128 of them, and 6 candidates are compared.
_REMEMBERED, _NAMED, _CANDIDATES = 32, 128, 6

# Mersenne prime 2^31 - 1: the products below stay under 2^62, so uint64 never overflows.
_PRIME = np.uint64(2**31 - 1)
_FACTOR = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: odd, and its powers mod 2^64 spread the bits


def words(text: str) -> list[str]:
  """The words as a reader counts them: a Han or kana character, or a run of letters or digits.

  Unlike `count_words`, LongWriter's counter, it handles digits, accents, inner apostrophes and
  hyphens, and English next to Han.

    words("It's 3 well-known cafés在北京") -> ["It's", '3', 'well-known', 'cafés', '在', '北', '京']
  """
  return WORD.findall(text)


def count_words(text: str) -> int:
  """LongWriter's word count, bug for bug: Han characters plus runs of ASCII letters.

  Digits and punctuation count nothing. The word boundaries are LongWriter's too: a run of letters
  that touches a Han character, a digit, an underscore or an accented letter counts zero, and an
  apostrophe or a hyphen makes two words of one. `words` counts as a reader would.

    count_words('Hello, world! 2024') -> 2
    count_words('你好 world') -> 3
    count_words('用Python写') -> 2
  """
  return len(_HAN.findall(text)) + len(_ENGLISH.findall(text))


def sentences(text: str) -> list[str]:
  """The sentences of a text in order, stripped, without empty ones.

  They end at `. ! ?` before white space, at full-width marks, and at every line break (a heading, a
  list item and a line of verse are sentences), but not after a known abbreviation, an initial
  (`J. Smith`) or a number at the beginning (`1. Introduction`).

    sentences('Dr. Li left. 他走了。She stayed!') -> ['Dr. Li left.', '他走了。', 'She stayed!']
  """
  found, start = [], 0
  for match in _END.finditer(text):
    if match.group() == '.':
      before = text[max(start, match.start() - _BEFORE) : match.start()].strip()
      last = before[before.rfind(' ') + 1 :].lstrip('("\'“‘[')
      initial = len(last) == 1 and last.isupper() and last != 'I'
      if initial or before.isdigit() or last.lower() in _ABBREVIATED:
        continue
    found.append(text[start : match.end()].strip())
    start = match.end()
  found.append(text[start:].strip())
  return [sentence for sentence in found if sentence]


def placed(text: str) -> Iterator[tuple[int, str]]:
  """Yields where each sentence of a text begins, in characters, and the sentence."""
  at = 0
  for sentence in sentences(text):
    at = text.index(sentence, at)
    yield at, sentence
    at += len(sentence)


@functools.lru_cache(maxsize=2**16)
def stem(word: str) -> str:
  """The word without an English ending: 'walks', 'walked' and 'walking' are one."""
  for ending in ('ing', 'ed', 'es', 'ly', 's'):
    if word.endswith(ending) and len(word) - len(ending) >= 3:
      return word[: -len(ending)]
  return word


def content(tokens: Sequence[str]) -> frozenset[str]:
  """The content of lower-case words: stems of all words but stop words, and pairs of Han.

  content(['the', 'river', 'flows', '大', '河']) -> {'river', 'flow', '大', '河', '大河'}
  """
  found = {stem(word) for word in tokens if word not in STOP_WORDS}
  for left, right in itertools.pairwise(tokens):
    if left >= CHARACTERS[0] <= right and not (left in STOP_WORDS and right in STOP_WORDS):
      found.add(left + right)
  return frozenset(found)


def match_earlier(
  sets: Sequence[frozenset[str]],
  barriers: Sequence[int],
  share: float,
  accept: Callable[[int, int], bool],
) -> list[int]:
  """For each set k, the index j < barriers[k] of an earlier set with accept(k, j), or -1.

  Linear in the words of all sets: an inverted index of the last sets with a word proposes the few
  that share most of the rarest words of set k, and none if it holds less than half of `share` of
  its words. `barriers` never decreases, and barriers[k] <= k.
  """
  index: dict[str, collections.deque[int]] = {}
  found, entered = [], 0
  for k, (members, barrier) in enumerate(zip(sets, barriers, strict=True)):
    for j in range(entered, barrier):
      for word in sets[j]:
        if word in index:
          index[word].append(j)
        else:
          index[word] = collections.deque((j,), maxlen=_REMEMBERED)
    entered = max(entered, barrier)
    known = [places for word in members if (places := index.get(word))]
    candidates: list[int] = []
    if len(known) > share * len(members) / 2:
      known.sort(key=len)
      named = itertools.accumulate(map(len, known))
      asked = known[: sum(1 for _ in itertools.takewhile(_NAMED.__ge__, named))]
      shared = collections.Counter(itertools.chain.from_iterable(asked))
      wanted = share * len(asked) / 2
      likely = [(-count, -j) for j, count in shared.items() if count >= wanted]
      candidates = [-j for _, j in heapq.nsmallest(_CANDIDATES, likely)]
    found.append(next((j for j in candidates if accept(k, j)), -1))
  return found


def weigher(sets: Sequence[frozenset[str]], skip: Sequence[bool]) -> Callable[[int, int], float]:
  """Returns a function of k and j: the weight that sets k and j share, over their mean weight.

  A word weighs log(1 + sets / sets with it), counted over the sets before k without those in `skip`
  (redundant ones, lest padding make its own words common). k may only grow. Where words are
  equally common, as in a short text or in a salad, this is the plain share.
  """
  counts: collections.Counter[str] = collections.Counter()
  read = 0
  counted = 0

  def weigh(k: int, j: int) -> float:
    nonlocal read, counted
    for i in range(read, k):
      if not skip[i]:
        counts.update(sets[i])
        counted += 1
    read = max(read, k)

    def weight(members: frozenset[str]) -> float:  # `fsum`: a set has no order
      return math.fsum(math.log1p(counted / max(counts[word], 1)) for word in members)

    both = weight(sets[k]) + weight(sets[j])
    return 2 * weight(sets[k] & sets[j]) / both if both else 0.0

  return weigh


def hash_words(tokens: Sequence[str]) -> np.ndarray:
  """A 64-bit blake2b hash of each word: uint64 [T], the same in every process."""
  table = {
    word: int.from_bytes(
      hashlib.blake2b(word.encode(errors='replace'), digest_size=8).digest(), 'little'
    )
    for word in set(tokens)
  }
  return np.array([table[word] for word in tokens], np.uint64)


def shingles(hashes_T: np.ndarray, n: int) -> np.ndarray:
  """Hashes of the runs of n words, from the hashes of the words: uint64 [T - n + 1], or [0].

  shingle_t = sum_i hash_{t+i} * factor^i (mod 2^64), so equal runs have equal shingles and the
  order within a run counts.
  """
  if n < 1:
    raise ValueError(f'a shingle has at least one word, not {n}')
  length = max(len(hashes_T) - n + 1, 0)
  out = np.zeros(length, np.uint64)
  for i in range(n):
    out += hashes_T[i : i + length] * np.uint64(pow(_FACTOR, i, 2**64))
  return out


def minhash(shingles_S: np.ndarray, num: int) -> np.ndarray:
  """The MinHash signature of a set of shingles (Broder, 1997): uint64 [num].

  Component i is the minimum over the set of (a_i x + b_i) mod (2^31 - 1). The share of components
  in which two signatures agree, `np.mean(a == b)`, estimates the Jaccard similarity J of the two
  sets with standard deviation sqrt(J (1 - J) / num). An empty set agrees with empty sets only.
  """
  if num < 1:
    raise ValueError(f'a signature has at least one component, not {num}')
  if not len(shingles_S):
    return np.full(num, _PRIME, np.uint64)
  a_N, b_N = _coefficients(num)
  mixed_NS = a_N[:, None] * ((shingles_S >> np.uint64(33)) % _PRIME) + b_N[:, None]
  for _ in range(2):  # x = q 2^31 + r is q + r modulo 2^31 - 1; twice leaves at most 2^31 - 1
    mixed_NS = (mixed_NS >> np.uint64(31)) + (mixed_NS & _PRIME)
  mixed_NS[mixed_NS == _PRIME] = 0
  return mixed_NS.min(axis=1)


@functools.lru_cache
def _coefficients(num: int) -> np.ndarray:
  return np.random.default_rng(0).integers(1, int(_PRIME), (2, num)).astype(np.uint64)
