"""Marks from 1 to 10: read from a critic's reply, and aggregated as in WritingBench."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lwz.evals import replies, writingbench

# A critic that replies in the text's language may translate the names.
_SCORE = (
  r'(?:(?:overall|final|total|综合|最终|总体|总)[\s_]*)?'
  r'(?:score|rating|mark|grade|评分|分数|得分|打分|总分|スコア|点数|점수|оценка|puntuación|note)'
)
_REASONS = ('reason', 'reasons', '理由', '原因', '说明', '이유', 'причина', 'razón')
_NAME = re.compile(rf'\W*{_SCORE}\s*(?:[(（/].*)?\W*', re.I)  # of a field or a column
_REASON = re.compile(
  rf'(?:{"|".join(_REASONS)})["”’\'*_\s]*[:：=]\s*["“‘\'*_]*(.+?)'
  rf'(?=["”]\s*[,，]\s*["“]\s*{_SCORE}|$(?![\s\S]))',
  re.I | re.S,
)
# A number, perhaps out of something, that no other number follows as in '7 or 8'.
_VALUE = re.compile(
  r'(?P<mark>\d{1,2})(?:\.0+)?(?![\d.,，]*\d|\s*[%％+½])'
  r'(?:\s*[(（]?\s*(?:[/／]|out\s+of)\s*(?P<of>\d+(?:\.\d+)?|ten)[)）]?)?\s*(?:分|points?\b)?'
  r'(?!\s*(?:[-–—−~～/／、→]|[,(（]?\s*\b(?:to|or|and|maybe|perhaps|possibly|even|almost|nearly)\b'
  r'|[，(（]?(?:至|到|或许|或者?|可能|也许))+\s*(?:maybe|even|an?\s)?\s*\d)',
  re.I,
)
_AROUND = re.compile(
  r'^[\s"“”\'*_`\[]+|(?<![\s"“”\'*_`.。\]])[\s"“”\'*_`.。\]]+$'
)  # of a whole text
_WRAP = r'[\s"“‘\'*_`\[【]{0,8}'
_TO_TEN = r'1\s*(?:[-–—~～]|to|至|到)\s*10\b'
_RANGE = rf'(?!{_TO_TEN})'  # of the scale
_SCALE = rf'(?:(?:on\s+(?:an?|the)\s+scale\s+)?(?:of|from)\s+{_TO_TEN}|out\s+of\s+(?:10|ten)\b),?'
_LABELLED = re.compile(
  rf'(?<![A-Za-z])(?:{_SCORE}|final\s+answer|最终答案)["”’\'*_`\],\s]{{0,8}}'
  rf'(?:[(（][^()（）\n]{{0,30}}[)）]|{_SCALE})?[*_\s]{{0,4}}'
  rf'(?:[:：=|→—–>]|\s-\s|\bis\b|\bof\b|为|是)\s*(?:an?\s)?{_WRAP}{_RANGE}(?P<at>[-−+~≈]?\d)'
  rf'|\\boxed\s*\{{\s*(?:\\text\s*\{{)?\s*(?P<box>\d)|\[\[\s*{_RANGE}(?P<both>\d)',
  re.I,
)
_GIVEN = re.compile(
  r'(?<![\d.,，/／~～–−-])(?P<ten>\d{1,2}(?:\.\d+)?)\s*(?:[/／]|out\s+of)\s*(?:10|ten)\b(?![./]\d)'
  rf'|(?:打|给出?|评为?|得)\s*{_WRAP}(?P<fen>\d{{1,2}})(?:\.\d+)?{_WRAP}分'
  r'|\b(?:rate|grade|give|award|score|deserves|earns|merits)(?:\s+(?:it|this|them|an?|the|text|answer|'
  rf'response|essay|piece)){{0,3}}\s+{_WRAP}{_RANGE}(?P<rate>\d{{1,2}})(?!\s*[A-Za-z])',
  re.I,
)


class Mark(NamedTuple):
  """An integer from 1 to 10, and the critic's reason."""

  score: int
  reason: str


def read(text: str) -> Mark | None:
  """The mark in a critic's reply, None if there is none, or several that contradict each other.

  Objects with a score decide (in a code fence, after a preface, after thoughts): the outermost, and
  of several one after another the last. Without one: a score with its name, in English or Chinese,
  in a table or in a sentence; else '7/10'; else a number alone. Nothing in a quotation counts, and
  a score that is not an integer from 1 to 10 is no mark.
  """
  text = replies.spoken(text)
  found, rest = replies.objects(text)
  for pairs in reversed(list(map(_level, found))):
    if scores := {_integer(value, whole=True) for key, value in pairs if _NAME.fullmatch(key)}:
      if None in scores or len(scores) > 1 or re.search(r'[:：]\s*["“]?1$', text):
        return None  # the last: 1, or the first half of 10
      reason = next((value for key, value in pairs if key.lower() in _REASONS), '')
      return Mark(scores.pop(), str(reason).strip(' \n`"“”\''))  # type: ignore[arg-type]
  for pattern in (_LABELLED, _GIVEN):
    own = replies.own(rest, pattern)
    mentions = [
      (*m.span(), _integer(own[m.start(m.lastgroup or 0) :])) for m in pattern.finditer(own)
    ]
    if pattern is _LABELLED:
      mentions += _columns(own)
    if mentions:
      score = replies.settle(own, mentions)
      reasons = _REASON.search(own)
      reason = reasons[1].strip(' \n`}"”\'') if reasons else ''
      return Mark(score, reason) if score is not None else None
  alone = _integer(rest, whole=True)
  return Mark(alone, '') if alone is not None else None


def _level(pairs: replies.Pairs) -> list[tuple[str, Any]]:
  """The fields of an object; those inside it if it has neither a score nor a reason itself."""
  fields = [(str(key).strip(), value) for key, value in pairs]
  if any(_NAME.fullmatch(key) or key.lower() in _REASONS for key, _ in fields):
    return fields
  return [field for _, v in fields if isinstance(v, replies.Pairs) for field in _level(v)]


def _columns(text: str) -> Iterator[tuple[int, int, int | None]]:
  """(start, end, mark) of the cells of tables in a column of scores."""
  columns: list[int] = []
  for match in re.finditer(r'^[ \t]*\|?(.*\|.*?)\|?[ \t]*$|^.*$', text, re.M):
    cells = list(re.finditer(r'[^|]+', match[1] or ''))
    if not cells:
      columns = []
    elif named := [i for i, cell in enumerate(cells) if _NAME.fullmatch(cell[0])]:
      columns = named
      continue
    for cell in (cells[i] for i in columns if i < len(cells)):
      if re.search(r'\d', cell[0]):
        start, end = (match.start(1) + place for place in cell.span())
        yield start, end, _integer(cell[0], whole=True)


def _integer(value: Any, *, whole: bool = False) -> int | None:
  """A mark from 1 to 10: a number, or a text that begins with it (or, with `whole`, is it)."""
  if isinstance(value, str):
    value = _AROUND.sub('', value) if whole else value
    match = _VALUE.fullmatch(value) if whole else _VALUE.match(value)
    value = int(match['mark']) if match and match['of'] in (None, '10', '10.0', 'ten') else None
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
