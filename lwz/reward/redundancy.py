"""Redundancy of a text: a lexical, causal measure, linear in the number of words.

The paper's Format RM penalises repeated content "based on semantic overlap metrics" (arXiv
2506.18841) and names none; this is ours.
"""

import collections
import functools
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from lwz import text as texts
from lwz.reward import padding

# Thresholds were set on honest technical prose (hard: few words, many formulas) and
# on the same prose paraphrased by machine: shuffled, with a tenth to a half of its words new.

# A run of 12 words is not written twice by chance. At 8 twice as much honest prose was marked, for
# its set phrases. A Chinese word has about 1.6 characters: 20 characters say as much. In laws terms
# are as long (`departments of the governments of cities and counties in charge of ...`), so such a
# run counts where runs fill FILLED of its sentence, or more than TERMS of the text up to there.
LOOP, LOOP_HAN = 12, 20
FILLED, TERMS = 2 / 3, 0.2
# A whole sentence needs less: every run of 5 words, 8 characters, in it stood earlier.
RUN, RUN_HAN = 5, 8
# An unpunctuated loop is shorter than LOOP: the same unit twice in a row, and at least 4 words of
# echo where the unit has 2 or 3 (`again and again and` is honest), 2 where it has one.
ECHO = 4
# A paraphrase keeps half the content words of a sentence, and with its little words 0.6 of all.
# Honest sentences of one topic share the first by chance, both seldom. It has at least 8
# different words, 3 shared ones with content: below that, sentences resemble by chance.
SENTENCE_CONTENT, SENTENCE_ALL = 0.5, 0.6
SENTENCE_WORDS, SENTENCE_SHARED = 8, 3
# Characters are shared by chance far more than words are, and sentences of a law share its terms
# and frames (`who violates article ... shall be fined`). So Chinese also shares this much of its
# characters by weight: one of many earlier sentences weighs little (`lwz.text.weigher`). At 0.78
# paraphrases with an opening of their own (`in other words`) were lost, at 0.72 laws had 0.14.
WEIGHT_HAN = 0.75
# A passage (at least 80 words, half overlapping the next) that keeps 0.6 of the content words of an
# earlier one repeats it, however its sentences are cut, merged or ordered. Only those of its
# sentences count of which 0.6 of the content words stand in that earlier passage.
PASSAGE, STEP = 80, 40
PASSAGE_CONTENT, PASSAGE_SHARED = 0.6, 12
# Text without full stops is cut into pieces of this many words, longer than nearly all sentences.
LONGEST = 60
# A line of which a tenth is symbols is code or a table, whose lines resemble each other by nature:
# it can repeat (runs, loops, whole lines), it cannot paraphrase.
CODE = 0.1

# Rows of a table, and headings and items of at most LOOP words, say the same again in every section
# of a report. What repeats in them is left out of the text, up to this share of it.
LAYOUT = 0.2

_HAN = re.compile(f'[{texts.CHARACTERS}]')
_ROW, _SHORT = re.compile(r'\|'), re.compile(r'#+ |[-*+] ')
_SYMBOL = re.compile(r'[=<>{}\[\]()\\|/_#$%^&~*+`@]')


@functools.lru_cache(maxsize=256)  # the reward and the monitor ask for the same texts
def share(text: str) -> float:
  """Returns the share of a text's words, in [0, 1], that repeat or paraphrase earlier ones.

  Words are those of `lwz.text.words` in lower case, without numbers, so that a counter
  (`Item 1 ... Item 2 ...`) hides no loop. A word is redundant where it stands in

    1. a run of LOOP words (LOOP_HAN characters, unless it is a term in a sentence of its own) that
       stood earlier, or the echo of a unit of fewer words (`go home now go home now`);
    2. a sentence that stood earlier, or of which every run of RUN words did;
    3. a sentence that paraphrases one earlier sentence: of the stems of its content words at least
       SENTENCE_CONTENT, of all its words at least SENTENCE_ALL are shared, in any order, and in
     Chinese WEIGHT_HAN of its characters, the rarer the weightier;
    4. a passage of about PASSAGE words that shares PASSAGE_CONTENT of its content words with one
       earlier passage, in Chinese also WEIGHT_HAN of its characters.

  What is redundant in rows, headings and items of a list is left out, words and all, while it is at
  most LAYOUT of the text up to there: reports repeat them, and loops of them go further.

  A drone of symbols (`;;;;;;;;;;`) counts as a redundant word for every DRONE of them after the
  first DRONE; the rule under a heading, no longer than the heading, does not. So does every number
  after COUNTED in a row. A word longer than WORD characters is several. Shares are of the larger of
  two sets. In Chinese the words are characters, and pairs of characters are content words too. The
  text decides from the left: whether a word is redundant depends on what precedes it and on its own
  sentence, so to append text never redeems any, and to append a copy of earlier sentences or
  paragraphs, after a sentence end or a line break, never lowers the value. A text
  without words and drones has none to repeat: 0. Meaning is out of reach: a sentence rewritten in
  all new words counts as new.

    share('It rains. ' * 4) -> 0.75
  """
  counts = profile(text)
  drones = padding.drones(text)
  redundant, counted = (int(total) + drones for total in counts[:, 1:].sum(0))
  return redundant / counted if counted else 0.0


@functools.lru_cache(maxsize=256)
def profile(text: str) -> np.ndarray:
  """Returns where a text repeats itself: int64 [K, 3].

  Of each sentence, or of every LONGEST words of a longer one: the character at which it begins, its
  words that are redundant by the rules of `share`, and its words that count. Each is judged by all
  that stands before it.
  """
  pieces, contents, layout, places = [], [], [], []
  for at, sentence in texts.placed(text):
    tokens = padding.tokens(sentence)
    code = len(_SYMBOL.findall(sentence)) >= CODE * len(sentence)
    apart = _ROW.match(sentence) or (_SHORT.match(sentence) and len(tokens) <= LOOP)
    for i in range(0, len(tokens), LONGEST):
      places.append(at + i * len(sentence) // len(tokens))
      layout.append(bool(apart))
      pieces.append(tokens[i : i + LONGEST])
      contents.append(frozenset() if code else texts.content(pieces[-1]))
  if not pieces:
    return np.zeros((0, 3), np.int64)
  lengths = np.array([len(piece) for piece in pieces])
  words = list(itertools.chain.from_iterable(pieces))
  hashes = texts.hash_words(words)
  han = np.array([_HAN.match(word) is not None for word in words])
  starts = np.cumsum(lengths) - lengths
  chinese = (2 * np.add.reduceat(han, starts, dtype=int) > lengths).tolist()
  stems = [frozenset(map(texts.stem, piece)) for piece in pieces]
  whole = _repeated(pieces, hashes, starts, chinese)
  whole |= _paraphrased(stems, contents, whole, chinese)
  whole |= _passages(stems, contents, starts, lengths, whole, chinese)
  marked = _looped(hashes, han, starts, lengths) | np.repeat(whole, lengths)
  left_out = marked & np.repeat(layout, lengths)
  left_out &= np.cumsum(left_out) <= LAYOUT * np.arange(1, len(marked) + 1)
  counts = (np.add.reduceat(of, starts, dtype=np.int64) for of in (marked & ~left_out, ~left_out))
  return np.stack([np.array(places), *counts], axis=1)


def _stood(hashes: np.ndarray, n: int) -> np.ndarray:
  """Whether the run of n words from each place also begins at an earlier one: bool [T - n + 1]."""
  runs = texts.shingles(hashes, n)
  _, first, which = np.unique(runs, return_index=True, return_inverse=True)
  return first[which] < np.arange(len(runs))


def _spread(begins: np.ndarray, n: int, total: int) -> np.ndarray:
  """Marks the n words from each marked beginning: bool [total]."""
  change = np.zeros(total + 1, np.int64)
  change[: len(begins)] += begins
  change[n : n + len(begins)] -= begins
  return np.cumsum(change[:total]) > 0


def _mostly(han: np.ndarray, n: int) -> np.ndarray:
  """Whether more than half of the n words from each place are characters: bool [T - n + 1]."""
  count = np.cumsum(np.concatenate(([0], han)))
  return 2 * (count[n:] - count[:-n]) > n


def _looped(
  hashes: np.ndarray, han: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
  """Rule 1: runs that stood earlier, and echoes of the unit just before: bool [T]."""
  total = len(hashes)
  marked = np.zeros(total, bool)
  if total >= LOOP:
    marked |= _spread(_stood(hashes, LOOP) & ~_mostly(han, LOOP), LOOP, total)
  if total >= LOOP_HAN and han.any():
    runs = _spread(_stood(hashes, LOOP_HAN) & _mostly(han, LOOP_HAN), LOOP_HAN, total)
    filled = np.add.reduceat(runs | marked, starts, dtype=int) >= FILLED * lengths
    ends = starts + lengths
    filled |= np.cumsum(runs)[ends - 1] > TERMS * ends
    marked |= runs & np.repeat(filled, lengths)
  for unit in range(1, min(LOOP_HAN, total)):
    equal = np.concatenate(([0], np.cumsum(hashes[unit:] == hashes[:-unit])))
    echo = max(unit, min(2 * unit, ECHO))
    if len(equal) > echo:
      marked[unit:] |= _spread(equal[echo:] - equal[:-echo] == echo, echo, total - unit)
  return marked


def _repeated(
  pieces: Sequence[Sequence[str]], hashes: np.ndarray, starts: np.ndarray, chinese: Sequence[bool]
) -> np.ndarray:
  """Rule 2: whole sentences that stood earlier: bool [K]."""
  stood = {n: np.cumsum(np.concatenate(([0], _stood(hashes, n)))) for n in (RUN, RUN_HAN)}
  seen: set[tuple[str, ...]] = set()
  marked = np.zeros(len(pieces), bool)
  for k, (piece, start) in enumerate(zip(pieces, starts, strict=True)):
    n = RUN_HAN if chinese[k] else RUN
    runs = len(piece) - n + 1
    whole = runs > 0 and stood[n][start + runs] - stood[n][start] == runs
    marked[k] = tuple(piece) in seen or whole
    seen.add(tuple(piece))
  return marked


def _paraphrased(
  stems: Sequence[frozenset[str]],
  contents: Sequence[frozenset[str]],
  known: np.ndarray,
  chinese: Sequence[bool],
) -> np.ndarray:
  """Rule 3: sentences that paraphrase one earlier sentence, `known` ones left out: bool [K]."""
  alls = [content | stem for content, stem in zip(contents, stems, strict=True)]
  fit = [
    content
    if len(content) >= SENTENCE_SHARED and len(every) >= SENTENCE_WORDS and not skip
    else frozenset()
    for content, every, skip in zip(contents, alls, known, strict=True)
  ]
  skip = known.tolist()
  weigh = texts.weigher(stems, skip)

  def accept(k: int, j: int) -> bool:
    shared = len(contents[k] & contents[j])
    skip[k] = (
      shared >= SENTENCE_SHARED
      and shared >= SENTENCE_CONTENT * max(len(contents[k]), len(contents[j]))
      and len(alls[k] & alls[j]) >= SENTENCE_ALL * max(len(alls[k]), len(alls[j]))
      and (not chinese[k] or weigh(k, j) >= WEIGHT_HAN)
    )
    return skip[k]

  return np.array(texts.match_earlier(fit, range(len(fit)), SENTENCE_CONTENT, accept)) >= 0


def _passages(
  stems: Sequence[frozenset[str]],
  contents: Sequence[frozenset[str]],
  starts: np.ndarray,
  lengths: np.ndarray,
  known: np.ndarray,
  chinese: Sequence[bool],
) -> np.ndarray:
  """Rule 4: sentences of a passage that shares its content with an earlier one: bool [K].

  A passage begins every STEP words and holds the sentences that begin in its PASSAGE words; one
  that the text has not filled yet, and one all of whose sentences are `known`, is left out.
  """
  total = int(starts[-1] + lengths[-1])
  holds: list[list[int]] = [[] for _ in range(max((total - PASSAGE) // STEP + 1, 0))]
  for k, start in enumerate(starts):
    for members in holds[max((start - PASSAGE) // STEP + 1, 0) : start // STEP + 1]:
      members.append(k)
  sets = [
    frozenset() if known[members].all() else _multiset(contents[k] for k in members)
    for members in holds
  ]
  apart = PASSAGE // STEP - 1
  skip = [not members for members in sets]
  all_words = [_multiset(stems[k] for k in members) for members in holds] if any(chinese) else sets
  weigh = texts.weigher(all_words, skip)

  def accept(k: int, j: int) -> bool:
    shared = len(sets[k] & sets[j])
    skip[k] = (
      shared >= PASSAGE_SHARED
      and shared >= PASSAGE_CONTENT * max(len(sets[k]), len(sets[j]))
      and (2 * sum(chinese[m] for m in holds[k]) <= len(holds[k]) or weigh(k, j) >= WEIGHT_HAN)
    )
    return skip[k]

  marked = np.zeros(len(contents), bool)
  barriers = [max(k - apart, 0) for k in range(len(sets))]
  for k, j in enumerate(texts.match_earlier(sets, barriers, PASSAGE_CONTENT, accept)):
    if j >= 0:
      for member in holds[k]:
        shared = len(contents[member] & sets[j])
        marked[member] |= shared > 0 and shared >= PASSAGE_CONTENT * len(contents[member])
  return marked


def _multiset(contents: Iterable[frozenset[str]]) -> frozenset[str]:
  """The words of several sentences; one that stands in n of them gives n members."""
  counts = collections.Counter(itertools.chain.from_iterable(contents))
  again = [word + ' ' * i for word, count in counts.items() for i in range(1, count)]
  return frozenset(counts).union(again)
