"""Marks from 1 to 10: read from a critic's reply, and aggregated as in WritingBench."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lwz.evals import arena, writingbench

# A critic that replies in the text's language may translate the names.
_SCORES = (
  'score',
  '评分',
  '分数',
  '得分',
  '打分',
  'スコア',
  '点数',
  '점수',
  'оценка',
  'puntuación',
)
_REASONS = ('reason', 'reasons', '理由', '原因', '说明', '이유', 'причина', 'razón')
_SCORE = re.compile(
  rf'(?<![A-Za-z])(?:{"|".join(_SCORES)})["”’\'*_\s]*(?:[:：=]|is|为|是)\s*["“‘\'*_\s]*'
  r'(\d{1,2}(?:\.\d+)?)(?![\dA-Za-z.]*\d)\s*(?:[/／]\s*(\d+))?',
  re.I,
)
_REASON = re.compile(rf'(?:{"|".join(_REASONS)})["”’\'*_\s]*[:：=]\s*["“‘\'*_]*(.+)', re.I | re.S)


class Mark(NamedTuple):
  """An integer from 1 to 10, and the critic's reason."""

  score: int
  reason: str


def read(text: str) -> Mark | None:
  """The mark in a critic's reply, None if there is none.

  It is read from the JSON object, or Python dict, with a score and a reason, anywhere in the reply
  (in a code fence, after a preface, after thoughts); else, for truncated or badly quoted replies,
  from "score": 8, in English or Chinese. A score that is not an integer from 1 to 10 is no mark.
  """
  text = arena.spoken(text)
  for start in (m.start() for m in re.finditer('{', text)):
    found = _mark_of(_object(text, start))
    if found:
      return found
  for match in _SCORE.finditer(text):
    score = _integer(match[1])
    if score is not None and match[2] in (None, '10'):
      reason = _REASON.search(text)
      return Mark(score, reason[1].strip(' \n`}"”\'') if reason else '')
  return None


def _object(text: str, start: int) -> Any:
  try:
    return json.JSONDecoder(strict=False).raw_decode(text, start)[0]
  except (ValueError, RecursionError):
    end = text.find('}', start)
    if end < 0 or end - start > 20_000:
      return None
    try:
      return ast.literal_eval(text[start : end + 1])
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
      return None


def _mark_of(value: Any) -> Mark | None:
  if not isinstance(value, dict):
    return None
  named = {str(key).strip().lower(): item for key, item in value.items()}
  score = next((_integer(named[name]) for name in _SCORES if name in named), None)
  reason = next((named[name] for name in _REASONS if name in named), None)
  return Mark(score, str(reason)) if score is not None and reason is not None else None


def _integer(value: Any) -> int | None:
  if isinstance(value, str):
    match = re.fullmatch(r'\s*(\d{1,2}(?:\.0+)?)\s*(?:[/／]\s*10)?\s*分?\s*', value)
    value = float(match[1]) if match else None
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  return int(value) if value in range(1, 11) else None


def aggregate(
  benchmark: writingbench.Benchmark, scores: Mapping[int, Mapping[str, int]]
) -> dict[str, float]:
  """The scores of a system, computed as by the benchmark's calculate_scores.py.

  Args:
    benchmark: the queries.
    scores: index -> criterion's name -> score, without failed ones.

  Returns:
    'overall', the mean over all criterion scores; 'D/...' and 'domain2/...', means of the queries'
    means; 'zh' and 'en', means over the criterion scores of the language; 'R/...', the mean of the
    queries' means over a requirement's subset; 'C/...', the mean over that subset's own criteria.
    A column without scores is NaN.
  """
  queries = {query.index: query for query in benchmark.queries}
  kept = {i: list(named.values()) for i, named in scores.items() if named and i in queries}
  means = {i: _mean(values) for i, values in kept.items()}
  out = {'overall': _mean([v for values in kept.values() for v in values])}
  for language in ('zh', 'en'):
    out[language] = _mean(
      [v for i, values in kept.items() if queries[i].language == language for v in values]
    )
  for level, prefix in (('domain1', 'D'), ('domain2', 'domain2')):
    there = dict.fromkeys(getattr(query, level) for query in benchmark.queries)
    names = [name for name in writingbench.DOMAINS if name in there]
    names += [name for name in there if name not in names]
    for name in names:
      found = [m for i, m in means.items() if getattr(queries[i], level) == name]
      out[f'{prefix}/{name}'] = _mean(found)
  for requirement, members in benchmark.subsets.items():
    out[f'R/{requirement}'] = _mean([means[i] for i in members if i in means])
    own = [
      scores[i][name]
      for i, names in members.items()
      if i in kept
      for name in names
      if name in scores[i]
    ]
    out[f'C/{requirement}'] = _mean(own)
  return out


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values)) if len(values) else float('nan')
