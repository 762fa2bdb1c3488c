"""Questions of reward forms to a judge, which is a function: questions in, verdicts out.

    Check(prompt, answer)               ->  ('yes', 'no', 'partly'), one for each criterion
    Comparison(prompt, first, second)   ->  'A', 'B', or 'C' for a tie
    Ranking(prompt, answers)            ->  (1, 0, 1), the rank of each answer, the best has 0

A verdict is None where the judge failed. Equal questions have equal verdicts.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from lwz import types

VALUES = {'yes': 1.0, 'partly': 0.5, 'no': 0.0}  # of a criterion's verdict


@dataclasses.dataclass(frozen=True)
class Check:
  """An answer, to be checked against each of its prompt's criteria."""

  prompt: types.Prompt
  answer: str


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Two answers, of which the first (A) or the second (B) is better."""

  prompt: types.Prompt
  first: str
  second: str


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Distinct answers, to be put in order from the best to the worst."""

  prompt: types.Prompt
  answers: tuple[str, ...]


Question = Check | Comparison | Ranking
Judge = Callable[[Sequence[Any]], Sequence[Any]]  # questions -> verdicts, None for a failed one


def outcomes(pairs: Sequence[tuple[types.Prompt, str, str]], judge: Judge) -> np.ndarray:
  """Returns the outcome for the first text of each (prompt, text, other), asked in both orders.

    1     both orders prefer it
    0     both prefer the other
    0.5   anything else, and equal texts, which are not asked about
    NaN   the judge failed in one of the orders

  A judge that looks at places alone gives 0.5 to every pair.
  """
  unlike = [i for i, (_, one, other) in enumerate(pairs) if one != other]
  chosen = [pairs[i] for i in unlike]
  asked = [Comparison(prompt, one, other) for prompt, one, other in chosen]
  asked += [Comparison(prompt, other, one) for prompt, one, other in chosen]
  said = judge(asked) if asked else ()
  found = np.full(len(pairs), 0.5)
  for i, forward, backward in zip(unlike, said[: len(unlike)], said[len(unlike) :], strict=True):
    if forward is None or backward is None:
      found[i] = np.nan
    elif (forward, backward) in (('A', 'B'), ('B', 'A')):
      found[i] = float(forward == 'A')
  return found


def shuffled(texts: Collection[str], seed: int) -> list[str]:
  """Returns the distinct texts in a random order that follows from them and the seed alone."""

  def key(text: str) -> bytes:
    return hashlib.blake2b(f'{seed}\n{text}'.encode(errors='surrogatepass')).digest()

  return sorted(set(texts), key=key)
