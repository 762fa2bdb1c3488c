"""Whether the sentences of a text stand in an order, beside the same sentences shuffled."""

import collections
import itertools
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse

from lwz import text as texts
from lwz.evals import numerals, position

NEAR, MIDDLE, FAR = 2, 8, 60  # sentences from one that are near, a little off, and compared with
SHUFFLES = 6  # of the text, which say how much a sign varies where there is no order
LEAST, MOST = -1.0, 3.0  # deviations; prose has 1.6 to 2.4 in the mean

_QUOTES = re.compile(r'["“”「」『』]|‘(?=\w)|(?<=[.,!?…—])’')
_SPEECH = re.compile(r'["“”「」?？!！]')
_OPENING = dict(zip('“「『‘', '”」』’', strict=True))
_ORDINALS = {
  word: value
  for value, group in enumerate(
    ('first firstly 首先', 'second secondly 其次', 'third thirdly 再次', 'fourth fourthly'), 1
  )
  for word in group.split()
}
_NUMBERED = re.compile(
  r'[\s#*_"“「（(【\[]*(?:'
  rf'第(?P<a>{numerals.CHINESE})(?P<of_a>[条章节回款项步天周日部卷课])'
  rf'|(?P<of_b>chapter|section|part|step|week|day|floor)\s+(?P<b>{numerals.ENGLISH})\b'
  rf'|(?P<c>\d{{1,3}}|{numerals.HAN}{{1,3}})(?P<of_c>[.)、．）](?!\d))'
  rf'|(?P<ordinal>{"|".join(_ORDINALS)})[,，\s])',
  re.I,
)


def of(text: str, windows: Sequence[position.Window]) -> list[float]:
  """Returns how many deviations more in order each window is than if the text were shuffled.

  Near 0 where sentences stand in any order; from LEAST to MOST, beyond which nothing is said. The
  sum over signs of order, each minus its mean over shuffled sentences, in standard deviations of a
  window of these, over the root of the number of signs. A sign that is negative in the mean is
  turned: in a diary whose days have one form, sentences are least like their neighbours. Signs are
    cosines of content words with sentences at most NEAR away, and of those up to MIDDLE, minus
    those with sentences up to FAR away;
    the same of function words and form, up to MIDDLE: dialogue stands by dialogue;
    quotations that close before another opens, and numbers (`3.`, `第三条`, `Second`) in turn.
  Lexical, in the manner of TextTiling (Hearst, 1997). NaN of a window in which no sentence begins.
  """
  placed = [(at, said) for at, said in texts.placed(text) if texts.words(said)]
  num = len(placed)
  start_K = np.array([at for at, _ in placed])
  inside_WK = np.array([(start_K >= w.start) & (start_K < w.end) for w in windows], float)
  found_W, there_W = np.full(len(windows), math.nan), inside_WK.any(-1)
  if num < 3 or not there_W.any():
    return found_W.tolist()
  mean_WK = inside_WK[there_W] / inside_WK[there_W].sum(1, keepdims=True)
  rng = np.random.default_rng(0)
  orders = [np.arange(num), *(rng.permutation(num) for _ in range(SHUFFLES))]
  content = _vectors([texts.content(texts.words(said.lower())) for _, said in placed])
  form = _vectors([_form(said.lower()) for _, said in placed])
  marks = [_marks(said) for _, said in placed]
  ends = [at + len(said) for at, said in placed]
  begins = [k > 0 and '\n' in text[ends[k - 1] : start_K[k]] for k in range(num)]
  total_W, signs = np.zeros(len(mean_WK)), 0
  for value_OK in (
    _closeness(content, orders, 1, NEAR),
    _closeness(content, orders, NEAR + 1, MIDDLE),
    _closeness(form, orders, 1, MIDDLE),
    np.array([-_breaches([marks[k] for k in order], begins) for order in orders]),
  ):
    value_OW = value_OK @ mean_WK.T
    if (deviation := value_OW[1:].std()) > 1e-9:
      more_W = (value_OW[0] - value_OW[1:].mean()) / deviation
      total_W, signs = total_W + more_W * np.sign(more_W.mean()), signs + 1
  if signs:
    found_W[there_W] = np.clip(total_W / math.sqrt(signs), LEAST, MOST)
  return found_W.tolist()


def _vectors(sets: Sequence[Iterable[str]]) -> sparse.csr_array:
  """Returns unit vectors of terms that weigh log(sentences / sentences with it), 0 of no term."""
  terms_K = [sorted(terms) for terms in sets]
  common = collections.Counter(itertools.chain.from_iterable(terms_K))
  column = {term: i for i, term in enumerate(common)}
  weights = [math.log(len(terms_K) / common[term]) for terms in terms_K for term in terms]
  columns = [column[term] for terms in terms_K for term in terms]
  rows = np.repeat(np.arange(len(terms_K)), [len(terms) for terms in terms_K])
  found = sparse.csr_array((weights, (rows, columns)), shape=(len(terms_K), max(len(column), 1)))
  norm_K = np.sqrt(found.multiply(found).sum(axis=1))
  return sparse.diags_array(1 / np.maximum(norm_K, 1e-9)) @ found


def _form(said: str) -> set[str]:
  """Returns function words, marks of speech and about how long a sentence is."""
  words = texts.words(said)
  found = {word for word in words if word in texts.STOP_WORDS}
  return found | {*_SPEECH.findall(said), f'of {int(math.log2(len(words) + 1))}'}


def _closeness(
  vectors_KV: sparse.csr_array, orders: Sequence[np.ndarray], first: int, last: int
) -> np.ndarray:
  """Returns the mean cosine with sentences `first` to `last` away, in each order: [O, K].

  In the first order minus that with sentences up to FAR away; in the shuffled ones, where that is
  the same in the mean, minus the mean.
  """
  near_OK = np.array([_cosine(vectors_KV[order], range(first, last + 1)) for order in orders])
  near_OK[0] -= _cosine(vectors_KV, range(MIDDLE + 1, FAR + 1))
  near_OK[1:] -= near_OK[1:].mean()
  return near_OK


def _cosine(vectors_KV: sparse.csr_array, distances: Iterable[int]) -> np.ndarray:
  """Returns the mean cosine of each sentence with those at these distances, before and behind."""
  num = vectors_KV.shape[0]
  sum_K, count_K = np.zeros((2, num))
  for apart in distances:
    if apart < num:
      cosine = vectors_KV[:-apart].multiply(vectors_KV[apart:]).sum(axis=1)
      for side in (slice(None, -apart), slice(apart, None)):
        sum_K[side] += cosine
        count_K[side] += 1
  return sum_K / np.maximum(count_K, 1)


def _marks(said: str) -> list[tuple[str, int]]:
  """Returns (kind, 1 if it opens, else -1) of each quotation mark of a sentence, and its number."""
  found = []
  for match in _QUOTES.finditer(said):
    mark, before, after = match[0], said[: match.start()], said[match.end() :]
    opens = mark in _OPENING or (
      mark == '"' and (not before or before[-1] in ' (—-[') and bool(after.strip())
    )
    found.append((_OPENING.get(mark, mark), 1 if opens else -1))
  if begin := _NUMBERED.match(said):
    kind = begin['of_a'] or begin['of_b'] or begin['of_c'] or 'ordinal'
    written = begin['a'] or begin['b'] or begin['c'] or ''
    value = numerals.value(written) if written else _ORDINALS[begin['ordinal'].casefold()]
    if value is not None:
      found.append((f'number {kind.lower()}', value))
  return found


def _breaches(marks: Sequence[Sequence[tuple[str, int]]], begins: Sequence[bool]) -> np.ndarray:
  """Returns how many marks of each sentence cannot stand where they do, after all before.

  A quotation closes that is not open, opens where one is, or is open at the end of a paragraph
  whose next one does not open it again. A number is neither 1 nor the next one of its kind.
  """
  found_K, is_open, last = np.zeros(len(marks)), set[str](), dict[str, int]()
  for k, own in enumerate(marks):
    if begins[k]:
      found_K[k] += len(is_open - {kind for kind, _ in own[:1]})
      is_open.clear()
    for kind, value in own:
      if kind.startswith('number'):
        found_K[k] += kind in last and value not in (1, last[kind] + 1)
        last[kind] = value
      elif value > 0:
        found_K[k] += kind in is_open
        is_open.add(kind)
      else:
        found_K[k] += kind not in is_open
        is_open.discard(kind)
  return found_K
