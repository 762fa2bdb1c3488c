"""The words of a judge's reply, apart from what it quotes of the text under judgement.

A text may hold marks and verdicts of its own, and a judge may repeat them, well quoted or not.
Therefore an object inside another one never decides, nor does anything inside a quotation; and
where two mentions contradict each other, nothing does, unless the judge says that it corrects
itself. An unreadable reply costs one more request; a mark by the text's author costs the result.
"""

import ast
import json
import re
from collections.abc import Iterable
from typing import Any


class Pairs(list):
  """The (key, value) pairs of an object, in order and with repeated keys."""


_KEY = r'["\'“”‘]?\s*[^\W\d][\w \-]{0,40}["\'”’]?\s*[:：]'
_OPENS = re.compile(r'\{\s*' + _KEY)
_FIELD = re.compile(
  r'(?:^\{|[,，\n])\s*["\'“”‘]?\s*([^\W\d][\w \-]{0,40}?)\s*["\'”’]?\s*[:：]\s*'
  r'(.*?)(?=\s*[,，]\s*(?:["\'“”‘]|[^\W\d]\w*\s*[:：])|\s*[}\n]|\s*$)',
  re.S,
)
_TORN = re.compile(r'[^{}"”\']{0,200}["”\'][\s\]]*\}')  # of an object that ended early
_QUOTES = re.compile(
  r'"(?:[^"\n]|\n(?!\n)){0,500}"|“[^“”]{0,1000}”|‘[^‘’]{0,1000}’|«[^«»]{0,1000}»|「[^「」]{0,1000}」'
  r'|『[^『』]{0,1000}』|^[ \t]*>.*$',
  re.M,
)
# What stands before the words of somebody else.
_SAYS = (
  r'(?:contains?|containing|says|saying|said|claims|claiming|quotes|quoting|wrote|writes|demands|'
  r'asks for|includes|including|inserts|ends(?: with| in| on)?|begins with|ignored?|'
  r'tells (?:me|the judge) to \w+|'
  r'写道|写着|声称|自称|包含|含有|引用|插入|结尾是|要求)[\s:：,，]*'
  r'(?:(?:an?|the|that|its|it|is|deserves|for)\s+){0,3}'
)
_CORRECTS = re.compile(
  r'second thought|on reflection|reconsider|\bwait\b|\bhmm|actually|correct(?:ion|ing|ed)|revis|'
  r'\bfinal|overall|\btotal|in (?:sum|conclusion|the end)|all in all|updat|instead|therefore|更正|'
  r'修正|重新|再想|仔细想|最终|综合|总体|总分|总评|总的|因此|所以',
  re.I,
)

_LONGEST = 30_000  # characters of a reply: the patterns take time by the square of its length
_BLANKS = re.compile(r'\s{9,}')  # ... and by the cube of that of blanks in a row


def spoken(text: str) -> str:
  """A judge's reply without its thoughts; '' if they never end, or if it is endless.

  Many blanks in a row are one, or the end of a line or of a paragraph.
  """
  text = _BLANKS.sub(lambda m: '\n' * min(m[0].count('\n'), 2) or ' ', text.strip())
  while text:
    head, closed, rest = text.partition('</think>')
    # Thoughts whose opening tag stands in the prompt; a tag inside an object is quoted.
    opened = None if head.startswith('<think>') else _OPENS.search(head)
    if opened and _end(text, opened.start()) > len(head):
      break
    if not closed and not head.startswith('<think>'):
      break
    text = rest.strip()
  return text if len(text) <= _LONGEST else ''


def objects(text: str) -> tuple[list[Pairs], str]:
  """The outermost JSON objects, or Python dicts, of a reply, and the text without them.

  One that cannot be parsed (badly quoted or truncated) has the pairs of its outermost level, whose
  values are the characters that stand there. Objects in a quotation are left out; those of a list
  are one object, and so are pieces of a torn one.
  """
  found, rest, at = [], [], 0
  while match := _OPENS.search(text, at):
    start = match.start()
    pairs, end = _object(text, start)
    before = text[at:start]
    if found and (re.fullmatch(r'\s*,\s*', before) or _TORN.match(text, end)):
      found[-1].extend(pairs)
    elif not _is_quoted(text, start, end):
      found.append(pairs)
    rest.append(before)
    at = end
  return found, '\n'.join([*rest, text[at:]])


def _object(text: str, start: int) -> tuple[Pairs, int]:
  decoder = json.JSONDecoder(strict=False, object_pairs_hook=Pairs)
  try:
    return decoder.raw_decode(text, start)
  except (ValueError, RecursionError):
    end = _end(text, start)
  inside = text[start:end]
  try:
    node = ast.parse(inside, mode='eval').body if len(inside) <= 20_000 else None
    if isinstance(node, ast.Dict) and all(node.keys):
      literal = ast.literal_eval
      pairs = zip(node.keys, node.values, strict=True)
      return Pairs((literal(key), _nested(literal(value))) for key, value in pairs if key), end
  except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
    pass
  return Pairs(_FIELD.findall(_outermost(inside))), end


def _nested(value: Any) -> Any:
  return Pairs((k, _nested(v)) for k, v in value.items()) if isinstance(value, dict) else value


def _end(text: str, start: int) -> int:
  """The place after the brace that closes the one at `start`; the text's end if none does."""
  depth = 0
  for match in re.finditer('[{}]', text[start:]):
    depth += 1 if match[0] == '{' else -1
    if not depth:
      return start + match.end()
  return len(text)


def _outermost(text: str) -> str:
  """The text of an object without the objects inside it."""
  depth, kept, at = 0, [], 0
  for match in re.finditer('[{}]', text):
    if depth < 2:
      kept.append(text[at : match.end()])
    depth += 1 if match[0] == '{' else -1
    at = match.end()
  return ''.join([*kept, text[at:] if depth < 2 else ''])


def _is_quoted(text: str, start: int, end: int) -> bool:
  before, after = text[max(0, start - 200) : start], text[end : end + 200]
  line, rest = before.rpartition('\n')[2], after.partition('\n')[0]
  if not before.strip(' \n"“`') and not after.strip(' \n"”`'):
    return False  # the whole reply
  if before[-1:] in ('"', '“', '‘', '「', '«', "'") and after[:1] in (
    '"',
    '”',
    '’',
    '」',
    '»',
    "'",
  ):
    return True
  if before.endswith('`') and after.startswith('`') and not line.endswith('``'):
    return bool(line.strip(' `') or rest.strip(' `'))
  says = re.search(_SAYS + r'["“`\s]*$', before[-60:], re.I)
  return bool(says) or line.lstrip().startswith('>')


def own(text: str, mention: re.Pattern) -> str:
  """The text without the mentions, found by a pattern, that are a quotation.

  That is quoted words around a mention, a mention after 'it says', and a line that begins with >.
  """
  says = re.compile(_SAYS + r'["“‘「\'`*]*$', re.I)

  def kept(match: re.Match) -> str:
    said = match[0]
    if not mention.search(said) or (len(said) == len(text) and said[0] != '>'):
      return said
    is_mention_alone = mention.fullmatch(said[1:-1].strip(' .。'))
    if (
      is_mention_alone
      and said[0] != '>'
      and not says.search(text[max(0, match.start() - 60) : match.start()])
    ):
      return said
    return ' '

  found = _QUOTES.sub(kept, text)
  return mention.sub(
    lambda m: ' ' if says.search(found[max(0, m.start() - 60) : m.start()]) else m[0], found
  )


def settle(text: str, mentions: Iterable[tuple[int, int, Any]]) -> Any:
  """The value of (start, end, value) mentions in a text, in order; None if they contradict.

  A later one wins only if words of correction stand between, or if it is the reply's last line.
  """
  value, before, settled = None, 0, True
  for i, (start, end, said) in enumerate(sorted(mentions, key=lambda item: item[:2])):
    if not i or _CORRECTS.search(text[before:end]):
      value, settled = said, True
    elif said != value:
      line = text[:start].rpartition('\n')[2]
      is_last = not re.search(r'\w', line) and not re.search(r'\w', text[end:])
      value, settled = (said, True) if is_last and i else (value, False)
    before = end
  return value if settled else None
