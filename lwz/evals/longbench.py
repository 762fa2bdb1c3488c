"""LongBench-Write's quality score: six dimensions from 1 to 5, and the mean with its length score.

The arithmetic is that of LongWriter's eval_quality.py (Bai et al., 2024, arXiv 2408.07055). If
the benchmark's judge.txt lies beside its file it is used, word for word; else a prompt of our own
with the same task and the same form of reply.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from lwz.evals import replies

DIMENSIONS = (
  *('Relevance', 'Accuracy', 'Coherence', 'Clarity', 'Breadth and Depth', 'Reading Experience'),
)
LOWEST, HIGHEST = 1.0, 5.0
FORM = '{"Analysis": "...", ' + ', '.join(f'"{name}": 1 to 5' for name in DIMENSIONS) + '}'
OWN = f"""\
Judge how good an answer to a writing request is, strictly, in six dimensions. Each gets an \
integer from 1, the worst, to 5, the best:

1. Relevance: does everything in it serve the request?
2. Accuracy: is it free of errors of fact and of misleading statements?
3. Coherence: is it well ordered, each part following from the one before?
4. Clarity: is it plain to understand, and rich in detail?
5. Breadth and Depth: does it cover its subject, and go beyond the surface?
6. Reading Experience: does one like to read it to the end?

The request:
<request>
$INST$
</request>

The answer:
<answer>
$RESPONSE$
</answer>

Whether the answer is as long as the request asks is judged elsewhere and counts nothing here. \
First analyse, in a few sentences, then give the scores: reply with this JSON and nothing else:
{FORM}"""


def prompt(path: epath.PathLike) -> tuple[str, str]:
  """Returns the judge's prompt and its source: judge.txt beside the benchmark, or own wording."""
  path = epath.Path(path)
  file = (path if path.is_dir() else path.parent) / 'judge.txt'
  if file.exists():
    text = file.read_text()
    if '$INST$' in text and '$RESPONSE$' in text:
      return text, 'the benchmark’s judge.txt'
    raise ValueError(f'{file}: no $INST$ and $RESPONSE$ in it; restore the published file')
  return OWN, 'own wording'


def messages(prompt: str, request: str, answer: str) -> list[dict[str, str]]:
  """Returns the chat that asks the judge; neither text can fill the other's place."""
  slots = {'$INST$': request, '$RESPONSE$': answer}
  text = re.sub(r'\$INST\$|\$RESPONSE\$', lambda m: slots[m[0]], prompt)
  return [{'role': 'user', 'content': text}]


def read(reply: str) -> dict[str, float] | None:
  """Returns the six scores of a reply, None if one is missing, outside of 1 to 5, or ambiguous.

  The last object with a dimension counts; names are met in any case. A reply with scores outside of
  its objects, or with two different ones for a dimension, has none.
  """
  found, _ = replies.objects(replies.spoken(reply))
  names = {name.lower(): name for name in DIMENSIONS}
  for pairs in reversed(found):
    fields = [(names.get(str(key).strip().lower()), value) for key, value in pairs]
    scores: dict[str, set[float | None]] = {}
    for name, value in fields:
      if name:
        scores.setdefault(name, set()).add(_number(value))
    if scores:
      values = {name: of.pop() for name, of in scores.items() if len(of) == 1}
      whole = {name: value for name, value in values.items() if value is not None}
      return {name: whole[name] for name in DIMENSIONS} if len(whole) == len(DIMENSIONS) else None
  return None


def _number(value: Any) -> float | None:
  """Returns a score from 1 to 5, of a number or a text that is one."""
  if isinstance(value, bool):
    return None
  try:
    number = float(value.strip(' "“”') if isinstance(value, str) else value)
  except (TypeError, ValueError, OverflowError):
    return None
  return number if LOWEST <= number <= HIGHEST else None


def quality(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Returns each dimension in [0, 100], and their mean `S_q`, as LongWriter's eval_quality.py.

  S_d = 25 (mean over answers of the score - 1), S_q = the mean of the six; NaN without answers.
  """
  means = {
    name: 25 * (float(np.mean([score[name] for score in scores])) - 1) if scores else math.nan
    for name in DIMENSIONS
  }
  return means | {'S_q': float(np.mean(list(means.values())))}
