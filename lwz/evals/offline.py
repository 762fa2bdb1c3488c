"""A rule-based judge, 'offline-rules', that needs no model.

It scores a text by given rules, such as length and repetition, and reads no meaning. Its verdicts
test the pipeline and say nothing about quality, so every output names it.
"""

import json
from collections.abc import Callable, Mapping

NAME = 'offline-rules'
MARGIN = 0.02  # difference of quality below which two texts tie

# (question, answer, required words or 0) -> [0, 1], or None if the rule does not apply
Rule = Callable[[str, str, int], float | None]


def quality(question: str, answer: str, length: int, rules: Mapping[str, Rule]) -> float:
  """The mean of the rules that apply, in [0, 1]; 0 for an empty answer."""
  if not answer.strip():
    return 0.0
  values = [rule(question, answer, length) for rule in rules.values()]
  known = [value for value in values if value is not None]
  return sum(known) / len(known) if known else 0.0


def compare(question: str, first: str, second: str, length: int, rules: Mapping[str, Rule]) -> str:
  """The reply of a judge of two answers, in the format of `arena.verdict`."""
  a, b = (quality(question, text, length, rules) for text in (first, second))
  letter = 'C' if abs(a - b) < MARGIN else 'A' if a > b else 'B'
  return f'{NAME}: {a:.3f} against {b:.3f}. [[{letter}]]'


def mark(question: str, answer: str, length: int, rules: Mapping[str, Rule]) -> str:
  """The reply of a judge of one answer, in the format of `marks.read`: 1 to 10."""
  value = quality(question, answer, length, rules)
  reason = f'{NAME}: {value:.3f}, the same for every criterion'
  return json.dumps({'score': 1 + round(9 * value), 'reason': reason})
