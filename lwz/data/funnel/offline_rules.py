"""A rule-based judge that answers the questions of `assessor` without a model.

It recognizes forms of writing and stated lengths, and nothing of quality or meaning. All of its
verdicts carry `NAME`.
"""

import json
import re

from lwz.data import requirements
from lwz.data.funnel import assessor, rules, stated_length

NAME = 'offline-rules'

# The usual length of a form, in words; the first form that the request names counts.
_FORMS = (
  (r'dissertation|thesis|毕业论文|学位论文', (7_000, 10_000)),
  (r'research paper|academic paper|literature review|white ?paper|论文|综述', (5_000, 8_000)),
  (r'novel|novella|book|小说', (5_000, 8_000)),
  (r'screenplay|teleplay|episode|chapters?|剧本|章节', (2_500, 4_500)),
  (r'business plan|proposal|handbook|manual|curriculum|计划书|策划|方案', (2_000, 4_000)),
  (r'report|case study|comprehensive|in[- ]depth|long[- ]form|报告|调研', (1_500, 3_000)),
  (r'stor(?:y|ies)|fan ?fic(?:tion)?|fairy ?tale|narrative|故事|童话', (1_000, 2_500)),
  (r'guide|biograph(?:y|ies)|memoir|教案|传记', (1_200, 2_500)),
  (r'article|blog|editorial|newsletter|文章|博客|公众号|软文|长文', (800, 1_500)),
  (
    r'essay|speech|sermon|eulogy|review|作文|演讲|发言稿|散文|读后感|观后感|书评|影评',
    (700, 1_200),
  ),
  (r'scene|monologue|play|press release|新闻稿|文案|心得|随笔|总结报告|述职|申请书', (500, 1_000)),
)
_COMPILED = [
  # \b does not match between an English word and a Han character.
  (re.compile(rf'(?<![a-z])(?:{form})(?![a-z])'), size)
  for form, size in _FORMS
]
_ASKS = re.compile(
  r'\b(?:write|draft|compose|create|develop|prepare|produce|generate|craft|give me|tell|continue|'
  r'need|make|want)\b|写|撰|拟|创作|编|生成|完成|续|作一|来一篇|帮我|给我|做'
)
_MISSING = re.compile(
  r'\b(?:attached|attachment|the (?:above|following) (?:paper|article|document|file|book|pdf)|'
  r'this (?:paper|document|file|pdf))\b|附件|上文|这篇|该文'
)


def reply(chat: list[dict[str, str]]) -> str:
  """The reply to a chat of `assessor.messages`."""
  query = assessor.query_of(chat)
  if chat[0]['content'].startswith(assessor.FILTER[:40]):
    return f'{{"keep": {str(keeps(query)).lower()}}}'
  if chat[0]['content'].startswith(assessor.CRITERIA[:40]):
    return json.dumps({'criteria': [{'text': f'"{term}"'} for term in _subjects(query)]})
  return '{{"range": [{}, {}]}}'.format(*length(query))


def _subjects(query: str) -> list[str]:
  """The terms of a request, at most eight, which an answer has to name; else the request."""
  return list(requirements.terms(query).values())[:8] or [query]


def keeps(query: str) -> bool:
  """Whether a request asks for a long form or a stated length, and refers to no missing text."""
  return bool(_ASKS.search(query.lower())) and length(query) != (0, 0)


def length(query: str) -> tuple[int, int]:
  """The stated length within 10 %, else the usual length of the form, else (0, 0)."""
  if _MISSING.search(query.lower()) and len(query) < 400:
    return 0, 0
  if stated := stated_length.find(query):
    found = assessor.settle(stated.low, stated.high, query)
    return found.lower, found.upper
  if not rules.asks_for_form(query):
    return 0, 0
  return next((size for form, size in _COMPILED if form.search(query.lower())), (800, 1_500))
