"""Examples of supervised fine-tuning: a request, the thought before its answer, and the answer."""

import dataclasses
import functools
import re
from typing import Any

from etils import epath

from lwz import types
from lwz.data import files, templates
from lwz.data.funnel import conversations, transcripts

ANSWERS = ('answer', 'response', 'completion', 'output', 'chosen')  # fields of an answer
THOUGHTS = ('think', 'reasoning_content', 'reasoning')  # of a record, or of its turn

_THOUGHT = re.compile(rf'\s*{types.THINK_OPEN}(.*?){types.THINK_CLOSE}', re.S)
_ANSWER = re.compile(rf'\s*{types.ANSWER_OPEN}(.*){types.ANSWER_CLOSE}\s*', re.S)
_TAG = re.compile(r'</?(?:think|answer)>')


@dataclasses.dataclass(frozen=True)
class Example:
  """`Example('Write about rivers.', 'Plan: ...', 'A river ...')`; `think` is '' where unknown."""

  prompt: str
  think: str
  answer: str

  def rendered(self, style: str, template: str) -> tuple[templates.Prompt, str]:
    """Returns the prompt as a rollout renders it, and its completion."""
    return (
      templates.render(self.prompt, style, template),
      templates.completion(self.think, self.answer, style),
    )


def load(
  path: epath.PathLike, style: str, *, skip_broken: bool = False
) -> tuple[list[Example], int]:
  """Reads examples: chats, such as LongWriter-6k's `messages`, or prompts with their answers.

  A chat may have any form that `funnel.conversations` knows; an answer beside a prompt is one of
  `ANSWERS`. Of a chat, the first turn of the user and the answer to it count: no template has a
  place for a system's turn, or for earlier ones. A thought stands in <think> </think> before the
  answer, which may stand in <answer> </answer>, or is a field of its own, one of `THOUGHTS`. In the
  style 'direct' thoughts are left out; in 'think' a record without one is broken.

  Returns the examples, and the number of skipped lines. Raises FileNotFoundError if there is no
  such file; ValueError, beginning with `file:line`, if a line is broken, unless `skip_broken`.
  """
  return files.read(path, functools.partial(_from_record, style), skip_broken=skip_broken)


def _from_record(style: str, record: dict[str, Any]) -> Example:
  turns = conversations.turns_of(record)
  row = conversations.from_record(record, '', 0)
  if row.fault:
    raise ValueError(row.fault)
  found, text = _answer(record)
  if text is None:
    first = next((i for i, turn in enumerate(turns) if conversations.asks(turn)), len(turns))
    found = next(iter(turns[first + 1 :]), {})
    if not found or conversations.role_of(found) in (*conversations.USERS, 'system'):
      raise ValueError(f'no answer after the first request, nor in {", ".join(ANSWERS)}')
    text = conversations.content_of(found)
  elif sum(map(conversations.asks, turns)) > 1:
    raise ValueError('the answer is to a later turn of the user, and a prompt has one; drop it')
  if not isinstance(text, str) or conversations.half_character(text):
    raise ValueError('the answer is no text')
  if transcripts.first(text) == row.text:
    raise ValueError('the answer begins with the request: give each a field of its own')
  think = next((found[name] for name in THOUGHTS if isinstance(found.get(name), str)), '')
  if style == 'think' and (fault := conversations.half_character(think)):
    raise ValueError(f'{fault} of the thought')
  return _example(row.text, think, text, style)


def _answer(record: dict[str, Any]) -> tuple[dict[str, Any], Any]:
  """The record, and the field that holds an answer; None where there is none.

  Of a list the last turn counts, whose fields are then those of the record, too.
  """
  value = next((record[name] for name in ANSWERS if record.get(name)), None)
  if not isinstance(value, list):
    return record, value
  last = value[-1] if isinstance(value[-1], dict) else {'content': value[-1]}
  return record | last, conversations.content_of(last)


def _example(prompt: str, think: str, text: str, style: str) -> Example:
  """The example of a request and a whole reply. Raises ValueError where its structure is broken."""
  if found := _THOUGHT.match(text):
    think, text = found[1], text[found.end() :]
  if found := _ANSWER.fullmatch(text):
    text = found[1]
  think, text = think.strip(), text.strip()
  if tag := _TAG.search(think) or _TAG.search(text):
    raise ValueError(f'{tag[0]} within a thought or an answer, or without its other half')
  if not text:
    raise ValueError('the answer is empty')
  if style == 'think' and not think:
    raise ValueError(
      "no thought before the answer, which data.style='think' learns; choose data.style='direct', "
      'or skip such records with data.skip_broken=True'
    )
  return Example(prompt, think if style == 'think' else '', text)
