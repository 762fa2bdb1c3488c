"""LongBench-Write's length score (Bai et al., 2024; arXiv 2408.07055, section 4.1)."""

from collections.abc import Mapping

from lwz import text as words_lib


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
