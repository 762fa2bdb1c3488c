"""Asked against produced length: LongBench-Write's length score, and how answers end.

The score is that of Bai et al., 2024 (arXiv 2408.07055, section 4.1), in LongWriter's
script eval_length; no judge is needed.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from lwz import text as words_lib
from lwz.evals import standings

# An answer ends early below this share of the asked words, and runs away above that one.
EARLY, RUNAWAY = 0.5, 2.0
FEW = 10  # asked lengths that have a row of their own each


def score(required: float, produced: float) -> float:
  """The length score S_l in [0, 100], of x words required and y words produced.

      S_l = 100 max(0, 1 - (y / x - 1) / 3)    where y > x
            100 max(0, 1 - (x / y - 1) / 2)    where y <= x

  It is 0 if nothing was produced, from x / 3 down, and from 4 x up: too short costs more than too
  long.

    score(1000, 1000) -> 100; score(1000, 2500) -> 50; score(1000, 500) -> 50

  Raises ValueError unless required > 0 and produced >= 0.
  """
  if required <= 0 or produced < 0:
    raise ValueError(f'required={required} must be above 0, and produced={produced} not below')
  if produced == 0:
    return 0.0
  if produced > required:
    return 100 * max(0.0, 1 - (produced / required - 1) / 3)
  return 100 * max(0.0, 1 - (required / produced - 1) / 2)


def metrics(asked: Mapping[int, int], answers: Mapping[int, str]) -> dict[str, float]:
  """The mean length score and mean words of answers, and the number of empty ones.

  `asked[index]` is the required number of words, 0 for none. Means without values are NaN.
  """
  words = {idx: words_lib.count_words(text) for idx, text in answers.items()}
  scores = [score(asked[idx], num) for idx, num in words.items() if asked[idx]]
  return {
    'S_l': sum(scores) / len(scores) if scores else float('nan'),
    'words': sum(words.values()) / len(words) if words else float('nan'),
    'empty': sum(not text.strip() for text in answers.values()),
  }


def by_length(
  asked: Mapping[int, int], answers: Mapping[int, str], cut: Collection[int], seed: int
) -> list[dict[str, Any]]:
  """Returns a row for all answers whose length was asked, then one for each group of lengths.

  Groups are the asked lengths if they are few, as of LongWrite-Ruler, else LongBench-Write's. Each
  row has the number of `answers`, the means `asked` and `words`, `S_l` with its 95 % interval over
  answers, `rank`, Spearman's correlation of asked and produced words (NaN where one of them is the
  same everywhere), near 0 for answers of one good length, whatever was asked, and shares of
  answers: `early`, ended by themselves below EARLY of the asked words; `cap`, cut at the limit of
  tokens (their indices are in `cut`); `runaway`, beyond RUNAWAY times.
  """
  known = [index for index in answers if asked.get(index)]
  few = len({asked[index] for index in known}) <= FEW
  groups: dict[str, list[int]] = {'all': known}
  for index in sorted(known, key=lambda index: asked[index]):
    name = f'{asked[index]:,}' if few else standings.length_group(asked[index])
    groups.setdefault(name, []).append(index)
  return [_row(name, inside, asked, answers, cut, seed) for name, inside in groups.items()]


def _row(name, indices, asked, answers, cut, seed) -> dict[str, Any]:
  words = np.array([words_lib.count_words(answers[index]) for index in indices], float)
  wanted = np.array([asked[index] for index in indices], float)
  ended = np.array([index not in cut for index in indices], bool)
  scores = np.array([score(*pair) for pair in zip(wanted, words, strict=True)])
  mean, low, high = standings.clustered_mean(scores, indices, seed)
  shares = {
    'early': ended & (words < EARLY * wanted),
    'cap': ~ended,
    'runaway': words > RUNAWAY * wanted,
  }
  return {
    **{'group': name, 'answers': len(indices), 'asked': _mean(wanted), 'words': _mean(words)},
    **{'S_l': mean, 'low': low, 'high': high, 'rank': _rank(wanted, words)},
    **{kind: _mean(share) for kind, share in shares.items()},
  }


def _rank(asked: np.ndarray, words: np.ndarray) -> float:
  if min(len({*asked}), len({*words})) < 2:
    return math.nan
  from scipy import stats  # here, as it takes a second

  return float(stats.spearmanr(asked, words).statistic)


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if len(values) else math.nan
