"""Cheap rules that reject requests which do not need a long text. Each has a name.

They prefer precision to recall, since a judge sees whatever they let through. A request that names
a long form (an essay, a report, a story) passes the rules about its kind, except where noted.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from lwz import text as texts
from lwz.data.funnel import conversations, language, stated_length

# Reasons for rejection, in the order of the tests.
REASONS = {
  'unreadable': 'a broken line, row, row group or file; or no turn of a user in it',
  'flagged': 'the set calls the conversation toxic, or its moderation flagged a turn',
  'redacted': 'personal data were taken out of the request',
  'too short': 'fewer words than prompts.min_words',
  'too long': 'more characters than prompts.max_chars',
  'language': 'none of prompts.languages',
  'image prompt': 'asks for prompts for an image generator',
  'code': 'asks for a program, or holds one',
  'maths': 'asks for the result of a calculation, or for a proof',
  'role play': 'sets up a persona, a game or a chat, and names no long form',
  'edits a text': 'translates, corrects, shortens or rewords a text that is given',
  'short answer': 'a short question of fact, with a short answer',
  'small talk': 'a greeting, or a question about the assistant',
  'asks for little': 'states a length below prompts.shortest',
}

_HEAD, _TAIL = 400, 160  # characters examined: instructions are at either end of a request

_PLACEHOLDER = re.compile(r'\bNAME_\d|<PRESIDIO_|\[REDACTED\]')
_LONG = re.compile(
  r'\b(?:essay|article|report|paper|thesis|dissertation|stor(?:y|ies)|novel(?:la|ette)?|chapters?|'
  r'screenplay|teleplay|fan ?fic(?:tion)?|speech|blog|proposal|business plan|biograph(?:y|ies)|'
  r'memoir|monologue|case study|white ?paper|literature review|book|guide|handbook|manual|'
  r'curriculum|lesson plan|episode|scene|editorial|newsletter|press release|fairy ?tale|'
  r'play|narrative|sermon|eulogy|manifesto|long[- ]form|in[- ]depth|comprehensive)\b'
)
_LONG_ZH = re.compile(
  '文章|作文|论文|报告|小说|故事|剧本|演讲|发言稿|方案|计划书|策划|散文|综述|读后感|观后感|博客|'
  '公众号|文案|教案|章节|传记|童话|书评|影评|软文|新闻稿|心得|大纲|随笔|杂文|长文|述职|总结报告|申请书'
)

_IMAGE = re.compile(
  r'midjourney|stable diffusion|dall[- ·]?e\b|prompt generator|text[- ]to[- ]image|'
  r'image (?:generation )?prompts?|prompts? for (?:an? )?(?:ai )?(?:image|picture|art)'
)
_LANGUAGE_OF_CODE = (
  r'(?:python|java(?:script)?|typescript|c\+\+|c#|sql|html5?|css|php|bash|powershell|rust|golang|'
  r'matlab|vba|excel|react|django|flutter|kotlin|swift|ruby|perl|arduino|verilog|regex|latex|json|'
  r'yaml|docker(?:file)?|linux|pandas|numpy|pytorch|node\.?js|vue)'
)
_PIECE_OF_CODE = (
  r'(?:code|scripts?|functions?|programs?|quer(?:y|ies)|class(?:es)?|formula|macro|apps?|errors?|'
  r'component|commands?|api|algorithm|loop|array|list|string|table|dataframe|unit tests?|page)'
)
_CODE = re.compile(
  rf'(?<![a-z]){_LANGUAGE_OF_CODE}(?![a-z]).{{0,40}}?\b{_PIECE_OF_CODE}\b'
  rf'|\b{_PIECE_OF_CODE}\b.{{0,40}}?(?<![a-z]){_LANGUAGE_OF_CODE}(?![a-z])'
  r'|\b(?:write|fix|debug|refactor|optimi[sz]e|complete|run)\b'
  r'(?: (?:me|a|an|the|some|this|my|following|simple))*'
  r' (?:code|program|function|regex|algorithm|unit tests?)\b'
)
_CODE_ZH = re.compile('代码|编程|写(?:一个|个)?程序|函数|报错|脚本(?!.{0,6}视频)|正则')
_SOURCE = re.compile(
  r'```|#include\s*<|\bpublic (?:static|class)\b|\bdef \w+\(|\bimport \w+(?:\.\w+)*;|</\w+>|'
  r'\bconsole\.log\(|\bselect\b.{1,80}\bfrom\b.{1,80}\b(?:where|join)\b|=>\s*\{|traceback \(most'
)
_MATHS = re.compile(
  r'\b(?:solve|calculate|compute|simplify|factori[sz]e|differentiate|integrate|evaluate)\b.*[\d=^]'
  r'|\b(?:prove|show) that\b.*[=<>≤≥∈^]|\bfind (?:x|y|the (?:value|derivative|integral|root))\b'
  r'|\d\s*[-+*/×÷^]\s*\d+\s*=\s*\?|\\(?:frac|int|sum|sqrt)\b'
)
_MATHS_ZH = re.compile('求解|计算.{0,20}[\\d=]|证明.{0,30}[=<>≤≥]|方程|求.{0,6}的值|等于多少')
_ROLE = re.compile(
  r'\b(?:act as|pretend (?:to be|you|that)|you are now|role[- ]?play|i want you to be|'
  r'from now on|ignore (?:all |any )?(?:previous|prior)|let\'?s play|do anything now|jailbreak|'
  r'stay in character)\b'
)
_ROLE_ZH = re.compile('(?:你|请)?扮演|假装你?是|角色扮演|从现在(?:开始|起)|你现在是')
_EDIT = re.compile(
  r'^\W*(?:(?:please|can you|could you|would you|kindly|help me(?: to)?|i want you to)\W+)*'
  r'(?:translate|paraphrase|proof ?read|correct|rephrase|reword|rewrite|re-write|summari[sz]e|'
  r'shorten|condense|fix the grammar|check (?:the )?grammar|improve (?:this|the following)|'
  r'extract|classify|convert|reformat|tl;?dr)\b'
)
_EDIT_ZH = re.compile(
  r'^\W*(?:请|帮我|你能|能否|可以|麻烦|把|将|给我|用中文|用英文)*'
  r'(?:翻译|润色|改写|改错|校对|缩写|概括|总结(?!报告)|提取|译成|降重|纠正)'
  r'|^\W*(?:请|请你|帮我|麻烦)?(?:把|将|给|对).{0,12}(?:翻译|润色|改写|概括|缩写|总结|修改)'
  r'|(?:翻译成|译成|翻译为|翻译一下)'
)
_QUESTION = re.compile(
  r'^\W*(?:what(?:\'s| is| are| was| were| does| do)|who|when|where|which|whose|is|are|was|were|'
  r'does|do|did|can|could|should|will|has|have|how (?:many|much|old|long|far|tall|big))\b'
)
_QUESTION_ZH = re.compile('什么是|是什么|是谁|谁是|多少|哪[个里些年]|几[个岁年月]|吗[？?]?$|是不是')
_TALK = re.compile(
  r'^\W*(?:hi|hey|hello|hiya|good (?:morning|evening|afternoon)|how are you|who are you|'
  r'what can you do|thanks?|thank you|are you (?:there|chatgpt|gpt|an ai)|test(?:ing)?)\b'
)
_TALK_ZH = re.compile(r'^\W*(?:你好|您好|你是谁|你会什么|在吗|谢谢|早上好|晚上好|测试)')
_SHORT_FORM = re.compile(
  r'\b(?:in (?:one|a single|two|1|2) (?:words?|sentences?|paragraph)|one[- ]liners?|haiku|slogans?|'
  r'taglines?|(?:a|one|short) tweets?|yes or no|briefly)\b'
)
_SHORT_FORM_ZH = re.compile('一句话|两句话|一个词|标语|口号|简短(?:地)?回答|起(?:个|一个)?名')


class Limits(NamedTuple):
  """The parameters of the rules."""

  languages: Collection[str] = ('en', 'zh')
  min_words: int = 4
  max_chars: int = 8_000
  shortest: int = 300  # words of an answer that counts as long


def reject(row: conversations.Row, limits: Limits) -> tuple[str, str] | None:
  """The reason to reject a row, (a key of `REASONS`, detail); None if it passes.

  reject(Row('f', 0, 'Translate this into French: ...'), Limits()) == ('edits a text', '')
  """
  if row.fault:
    return 'unreadable', row.fault
  if row.held:
    return row.held, ''
  text = row.text.strip()
  if len(text) > limits.max_chars:
    return 'too long', f'{len(text):,} characters'
  if len(texts.words(text[: 32 * limits.min_words])) < limits.min_words:
    return 'too short', ''
  if _PLACEHOLDER.search(text):
    return 'redacted', 'a placeholder stands in the text'
  spoken = of(row)
  if spoken not in limits.languages:
    return 'language', spoken
  return kind(text, spoken, limits.shortest)


def of(row: conversations.Row) -> str:
  """The language of a row: the data set's tag, else a guess."""
  return language.code(row.language) or language.detect(row.text)


def kind(text: str, spoken: str, shortest: int) -> tuple[str, str] | None:
  """The rules about the kind of request, for 'en' or 'zh' (other languages: the English rules)."""
  head = text[:_HEAD].lower()
  ends = head + (
    '\n' + text[-_TAIL:].lower() if len(text) > _HEAD + _TAIL else text[_HEAD:].lower()
  )
  zh = spoken == 'zh'
  if _IMAGE.search(ends):
    return 'image prompt', ''
  if _SOURCE.search(text[:2_000].lower()):
    return 'code', 'holds source code'
  if _EDIT.search(head) or (zh and _EDIT_ZH.search(head)):
    return 'edits a text', ''
  stated = stated_length.find(text)
  if stated and stated.kind != 'at least' and stated.high < shortest:
    return 'asks for little', f'{stated.kind} {stated.high} words'
  if stated or _LONG.search(ends) or (zh and _LONG_ZH.search(ends)):
    return None
  checks = (
    ('code', _CODE, _CODE_ZH, len(text)),
    ('maths', _MATHS, _MATHS_ZH, len(text)),
    ('role play', _ROLE, _ROLE_ZH, len(text)),
    ('short answer', _QUESTION, _QUESTION_ZH, 120),
    ('small talk', _TALK, _TALK_ZH, 80),
    ('asks for little', _SHORT_FORM, _SHORT_FORM_ZH, len(text)),
  )
  for reason, english, chinese, longest in checks:
    if len(text) <= longest and (english.search(ends) or (zh and chinese.search(ends))):
      return reason, ''
  return None


def asks_for_form(text: str) -> bool:
  """Whether a request names a long form of writing, English or Chinese."""
  return bool(_LONG.search(text.lower()) or _LONG_ZH.search(text))
