"""The questions to the judge about a request, and the parsers of its replies.

FILTER: does the request need a long text? The paper's filter prompt is not published; this one is
ours. ASSESS: how many words does a good answer have? The paper's length assessor, with its rules in
our words. CRITERIA: what does a good answer have? For the reward `rubric`. `reference`: answers of
rising quality, for the reward `ladder`.
"""

import json
import re
from typing import Any, NamedTuple

from lwz.data import prompts
from lwz.data.funnel import stated_length

# Words: bounds are multiples of STEP, at most CAP, at most WIDTH apart.
STEP, CAP, WIDTH = 100, 12_000, 3_000

_OPEN, _CLOSE = '<query>\n', '\n</query>'

FILTER = """You select writing requests for a writer of long texts. Below is what a user sent \
to an assistant. Decide whether a good answer is a long text of high quality.

Keep it where the user wants a substantial piece of writing: a paper, an essay, a report, an \
article, a story or a chapter, a speech, a proposal, a plan, a guide in depth, and the like.
Drop it where a short reply is enough (simple questions, small talk, a sentence, a list, a title), \
where the work is code, calculation, translation or the correction of a given text, where the \
request is a test of the assistant, makes no sense, or lacks something it refers to, and where \
answering it would do harm.

The query may be in any language. Do not answer it.

{query}

Think it over, then end with one JSON object: {{"keep": true}} or {{"keep": false}}"""

ASSESS = """You are a professional assessor of text length. Below is a query. Tell which range of \
word counts suits an answer to it. Count English words, and Chinese characters.

1. Find what the query really needs: an essay, a blog post, a summary, an outline, one section \
of a thesis. "How do I start writing my thesis from scratch" needs guidance, [400, 800], and not \
the thesis, [7000, 10000].
2. The lower end is a multiple of 100, and at least 0.
3. The upper end is a multiple of 100, and at most 12000. If a sensible range is certain to exceed \
these limits, output {{"range": [0, 0]}}.
4. Leave out the tenth of lengths that is most extreme, so that the range fits most answers. The \
ends are at most 3000 apart.
5. A word count in the query is kept within 10 %: "write a 2,000-word essay" gives [1800, 2200], \
"no more than 2,000 words" gives [1800, 2000], "at least 2,000 words" gives [2000, 2200].
6. If the query cannot be fulfilled as it stands (it speaks of a paper that is not there, of a \
project that is not named), output {{"range": [0, 0]}}.

Examples: an essay for high school gives {{"range": [800, 1000]}}; an academic paper on green \
cities gives {{"range": [6000, 9000]}}.

{query}

Think it over, then end with one JSON object: {{"range": [lower, upper]}}"""

CRITERIA = """You write checklists for writing. Below is what a user sent to an assistant. Write \
three to eight criteria by which one can tell good answers to it from bad ones.

1. Each criterion is about this request: what the answer has to cover, in which form, for whom, in \
which tone. Nothing that fits every text, such as "is well written".
2. Each can be checked in the text of the answer alone, on its own, with yes, partly or no.
3. The kind is "content", "structure" or "style"; "hard" where an answer that fails it has missed \
the request, at most two of them. The weight is a number from 1 to 3.
4. No criterion is about the number of words: it is checked elsewhere.

The query may be in any language. Write in the same one, and do not answer it.

{query}

Think it over, then end with one JSON object: {{"criteria": [{{"text": "Names the sources of three \
rivers.", "kind": "content", "weight": 2}}]}}"""

_REFERENCE = """You write texts for comparison. Below is what a user sent to an assistant. Write \
an answer to it of {words} words (characters, if it is Chinese), in the language of the query.

TASK

{query}{before}

Reply with nothing but the text, between <text> and </text>."""
_DRAFT = (
  'It is the weakest of a series: what a beginner writes in a hurry, on the subject and complete, '
  'but thin and loosely ordered, with general statements in place of details.'
)
_BETTER = (
  'Below the query stands answer number {}. Write number {}, which any reader prefers: richer in '
  'detail, better ordered, in better style, and without the weak places of that one.'
)

_AGAIN = (
  'That could not be read. Reply with nothing but one JSON object, such as {example}, without '
  'any other word.'
)
_EXAMPLES = {
  FILTER: '{"keep": true}',
  ASSESS: '{"range": [800, 1000]}',
  CRITERIA: '{"criteria": [{"text": "Names a river.", "kind": "content", "weight": 2}]}',
}
_MOST = 20  # criteria of a request that are read


class Length(NamedTuple):
  """A range in words, or (0, 0) to discard the request; `changed` names the rules applied."""

  lower: int
  upper: int
  changed: str = ''


def reference(rung: int) -> str:
  """The question for an answer to a query that is better than the one a rung below; 0 is worst."""
  task = _BETTER.format(rung, rung + 1) if rung else _DRAFT
  return _REFERENCE.replace('TASK', task)


def messages(question: str, query: str, words: str = '', before: str = '') -> list[dict[str, str]]:
  """The chat that asks `question` (`FILTER`, `ASSESS`, `CRITERIA`, a `reference`) about a query.

  A reference has so many `words`, and is better than the text `before`, if there is one.
  """
  # A closing tag in the query itself would end it early.
  query = query.replace('</query>', '</ query>')
  before = f'\n\n<text>\n{before}\n</text>' if before else ''
  asked = question.format(query=f'{_OPEN}{query}{_CLOSE}', words=words, before=before)
  return [{'role': 'user', 'content': asked}]


def again(question: str, chat: list[dict[str, str]], unread: str) -> list[dict[str, str]]:
  """The chat of `messages`, the reply that could not be read, and a request for the format."""
  return [
    *chat,
    {'role': 'assistant', 'content': without_thoughts(unread)[-500:] or '(empty)'},
    {'role': 'user', 'content': _AGAIN.format(example=_EXAMPLES[question])},
  ]


def query_of(chat: list[dict[str, str]]) -> str:
  """The query of `messages`."""
  asked = chat[0]['content']
  return asked[asked.index(_OPEN) + len(_OPEN) : asked.rindex(_CLOSE)]


def without_thoughts(answer: str) -> str:
  """The reply after the last `</think>`; '' if a thought was never closed."""
  if '</think>' in answer:
    return answer.rpartition('</think>')[2].strip()
  return '' if '<think>' in answer else answer.strip()


def parse_keep(answer: str) -> bool | None:
  """The filter's verdict; None if the reply has none.

  Reads the last `"keep": ...` of the reply, in a code fence, after a prefix, in single quotes or
  full-width punctuation; or a reply that is one word, yes or no.
  """
  answer = _plain(without_thoughts(answer))
  found = re.findall(r'["\']?\bkeep\b["\']?\s*[:=]\s*["\']?\s*(\w+)', answer, re.IGNORECASE)
  word = found[-1] if found else answer.strip(' .!*"\'`{}\n')
  return {
    **dict.fromkeys(('true', 'yes', '1', '是', '保留'), True),
    **dict.fromkeys(('false', 'no', '0', '否', '不保留'), False),
  }.get(word.lower())


def parse_range(answer: str) -> tuple[int, int] | None:
  """The two bounds in an assessor's reply; None if it has none.

  parse_range('```json\\n{"range": [800, 1,000]}\\n```') == (800, 1000)

  Reads the last list of two numbers after "range", or a reply that is one list. Code fences,
  thoughts, full-width punctuation, thousands separators, single quotes and a missing closing brace
  are accepted; a truncated list, a third number, and bounds in the wrong order are not.
  """
  answer = _plain(without_thoughts(answer))
  lists = list(re.finditer(r'range[^\d\[(]{0,20}[\[(]([^\[\]()]*)[\])]', answer, re.IGNORECASE))
  if not lists:
    alone = re.fullmatch(r'[\s`*]*(?:json)?\s*\[([^\[\]]*)\][\s`*.]*', answer)
    return _two(alone[1]) if alone else None
  if re.search(r'range\W{0,6}\[', answer[lists[-1].end() :], re.IGNORECASE):
    return None  # the last one is truncated
  return _two(lists[-1][1])


def parse_criteria(answer: str) -> list[dict[str, Any]] | None:
  """The criteria in a reply, as a line of a prompt set has them; None if it has none.

  The last JSON object with "criteria" counts. One that is broken, that `prompts.criteria` refuses,
  or that has more than `_MOST`, is none.
  """
  answer = without_thoughts(answer)
  places = [found.start() for found in re.finditer(r'\{\s*"criteria"', answer)]
  try:
    given = json.JSONDecoder().raw_decode(answer, places[-1])[0]
    found = prompts.more({'criteria': given['criteria']})['criteria']
  except (LookupError, ValueError, RecursionError):
    return None
  return found if 1 <= len(found) <= _MOST else None


def parse_reference(answer: str) -> str | None:
  """The text in a reply; None if it has none, or was cut before its end."""
  found = re.findall(r'<text>(.*?)</text>', without_thoughts(answer), re.DOTALL)
  return (found[-1].strip() or None) if found else None


def _plain(answer: str) -> str:
  """The reply with full-width punctuation and digits as ASCII."""
  return answer.translate(
    str.maketrans('［］【】｛｝（），：“”‘’＂０１２３４５６７８９', '[][]{}(),:""\'\'"0123456789')
  )


def _two(inner: str) -> tuple[int, int] | None:
  try:
    ends = json.loads(f'[{inner}]')
  except ValueError:
    ends = []
  if len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
    # Judges also write 1,000 and "800", which are not JSON numbers.
    rest = re.sub(r'\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.0*)?|[\s,"\']|words?|字', '', inner)
    numbers = re.findall(r'\d{1,3}(?:,\d{3})+(?!\d)|\d+', re.sub(r'\.0*(?!\d)', '', inner))
    ends = [int(number.replace(',', '')) for number in numbers]
    if rest or len(ends) != 2:
      return None
  lower, upper = ends
  if not 0 <= lower <= upper < 1e6:
    return None
  return int(lower), int(upper)


def settle(lower: int, upper: int, query: str) -> Length:
  """A judge's range, corrected by the rules of the paper's length assessor.

  Bounds are rounded outward to multiples of 100; a range wider than 3,000 shrinks to that width
  about its middle; a length stated in the query is kept within 10 %, whatever the judge says; an
  upper bound above 12,000 becomes 12,000. A range that begins above 12,000 becomes (0, 0).

  settle(1500, 2500, 'write a 2,000-word essay') == Length(1800, 2200, 'stated length')
  """
  if upper == 0:
    return Length(0, 0, 'discarded by the judge')
  before = (lower, upper)
  changed = []
  if stated := stated_length.find(query):
    lower, upper = _of_stated(stated)
    if (lower, upper) != before:
      changed.append('stated length')
  if lower > CAP:
    return Length(0, 0, 'longer than 12,000 words')
  settled = (max(STEP, lower // STEP * STEP), min(CAP, -(-upper // STEP) * STEP))
  if settled != (lower, upper):
    changed.append('hundreds, cap')
  lower, upper = settled
  if upper - lower > WIDTH:
    lower = ((lower + upper - WIDTH) // 2) // STEP * STEP
    upper = lower + WIDTH
    changed.append('width')
  return Length(lower, upper, ', '.join(changed))


def _of_stated(stated: stated_length.Stated) -> tuple[int, int]:
  """The range of rule 5, with multiples of 100 as bounds if the range holds any."""
  low = stated.low * (10 if stated.kind in ('at least', 'range') else 9) / 10
  high = stated.high * (10 if stated.kind in ('at most', 'range') else 11) / 10
  inside = int(-(-low // STEP) * STEP), int(high // STEP * STEP)
  return inside if 0 < inside[0] <= inside[1] else (int(low), int(-(-high // 1)))
