"""The format reward: 1 - redundancy of the answer, or 0 if the structure is broken.

Paper: LongWriter-Zero (arXiv 2506.18841), Format RM. It asks for exactly one think segment, then
exactly one answer segment, and penalises repeated content "based on semantic overlap metrics". It
names no metric; the one here is lexical, causal, and bounded in its work per word.
"""

import dataclasses
import re
import unicodedata

from lwz import types
from lwz.reward import redundancy as redundancy_lib

# Faults of a structure, as names for metrics.
FAULTS = (
  'missing_think',  # no think segment
  'unopened_think',  # </think> alone
  'unclosed_think',  # <think> that never ends
  'repeated_think',  # a second think segment
  'empty_think',  # nothing but white space in it
  'unexpected_think',  # a think tag in the direct style
  'missing_answer',
  'unopened_answer',
  'unclosed_answer',  # also: cut at the length limit
  'repeated_answer',
  'empty_answer',
  'wrong_order',  # the answer stands before the think segment
  'nested',  # a segment opens inside another, or inside itself
  'stray_tag',  # one closing tag too many
  'text_outside',  # something but white space before, between or after the segments
)

_TAG = re.compile(
  '|'.join((types.THINK_OPEN, types.THINK_CLOSE, types.ANSWER_OPEN, types.ANSWER_CLOSE))
)

_FILLERS = '\u115f\u1160\u2800\u3164\uffa0'  # letters and symbols that are drawn as nothing


@dataclasses.dataclass(frozen=True)
class Parsed:
  """A parsed reply; `think` and `answer` are verbatim, best effort if `valid` is False."""

  think: str
  answer: str
  valid: bool
  fault: str


def parse(text: str, style: str) -> Parsed:
  """Returns the parts of a reply and the first fault of its structure.

  Valid is, in the style 'think', exactly `<think>...</think>` then `<answer>...</answer>`; in the
  style 'direct', exactly `<answer>...</answer>`. No segment is blank (white space and invisible
  characters), and only white space stands outside. Tags are case-sensitive: `<ANSWER>` is
  plain text. The closing tag must be there: a rollout stopped by the string `</answer>` keeps it,
  one cut at the length limit has none.

  `fault` is one of `FAULTS`, or '' if the reply is valid. Raises ValueError for another style.

    parse('<think>plan</think> <answer>work</answer>', 'think') -> Parsed('plan', 'work', True, '')
    parse('<answer>wor', 'direct') -> Parsed('', 'wor', False, 'unclosed_answer')
  """
  if style not in types.STYLES:
    raise ValueError(f'style must be one of {types.STYLES}, not {style!r}')
  think = _segment(text, types.THINK_OPEN, types.THINK_CLOSE)
  answer = _segment(text, types.ANSWER_OPEN, types.ANSWER_CLOSE)
  fault = _tag_fault(text, style) or _content_fault(text, style, think, answer)
  return Parsed(think, answer, not fault, fault)


def format_reward(text: str, style: str) -> float:
  """Returns 0 if the structure is broken, else 1 - redundancy(answer), in [0, 1].

  format_reward('<answer>It rains.</answer>', 'direct') -> 1.0
  """
  parsed = parse(text, style)
  return 1.0 - redundancy(parsed.answer) if parsed.valid else 0.0


def redundancy(text: str) -> float:
  """Returns the share of a text's words, in [0, 1], that repeat or paraphrase earlier ones.

  The rules are in `lwz.reward.redundancy`: `redundancy('It rains. ' * 4) -> 0.75`.
  """
  return redundancy_lib.share(text)


def _segment(text: str, opening: str, closing: str) -> str:
  """Returns the text from the first opening tag to the next closing one, or any tag, or the end."""
  rest = text.partition(opening)[2]
  return rest.partition(closing)[0] if closing in rest else _TAG.split(rest, maxsplit=1)[0]


def _tag_fault(text: str, style: str) -> str:
  """Returns the first fault in the sequence of tags, or ''."""
  tags = _TAG.findall(text)
  names = ('think', 'answer') if style == 'think' else ('answer',)
  if style == 'direct' and (types.THINK_OPEN in tags or types.THINK_CLOSE in tags):
    return 'unexpected_think'
  opened, done = '', []
  for tag in tags:
    name = tag.strip('</>')
    if tag.startswith('</'):
      if opened != name:
        return f'unopened_{name}' if f'<{name}>' not in tags else 'stray_tag'
      opened = ''
      done.append(name)
    elif opened:
      return 'nested' if f'</{opened}>' in tags else f'unclosed_{opened}'
    elif name in done:
      return f'repeated_{name}'
    elif name == 'answer' and 'think' in names and 'think' not in done:
      return 'wrong_order' if types.THINK_OPEN in tags else 'missing_think'
    else:
      opened = name
  if opened:
    return f'unclosed_{opened}'
  return next((f'missing_{name}' for name in names if name not in done), '')


def _content_fault(text: str, style: str, think: str, answer: str) -> str:
  """Returns the first fault of the contents, for text whose tags are right, or ''."""
  if any(part.strip() for part in _TAG.split(text)[::2]):
    return 'text_outside'
  if style == 'think' and _is_blank(think):
    return 'empty_think'
  return 'empty_answer' if _is_blank(answer) else ''


def _is_blank(text: str) -> bool:
  """Whether a text is invisible: white space, zero-width and other blank characters."""
  return all(c in _FILLERS or unicodedata.category(c)[0] in 'ZC' for c in text)
