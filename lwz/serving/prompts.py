"""Prompts of a server: the messages of a chat, or a raw text, as the ids that the policy reads.

One message of the user is what `lwz.generate` renders. One of the system before it stands in the
request, separated by a blank line, as in the chat template of an export (`data.chat_template`).
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from lwz.data import templates, tokenizer

_WIDE = 32  # characters of a token, at most, in nearly every text
_PROBES = ('Aq1', 'Write "Zw2" & {it}.\n\n  Now', '写一篇文章', ' lead', 'trail \n')


class Prompts:
  """The renderer of one policy; several threads may call it."""

  def __init__(self, tok: Any, style: str, template: str):
    self._tok, self._style, self._template = tok, style, template
    self._num_ids = tokenizer.num_ids(tok)
    is_chat = template in templates.CHATS
    self._frame = _Frame(tok, style, template) if is_chat else None
    self._lock = threading.Lock()  # `encode` changes the tokenizer for a moment

  def is_slow(self, prompt: Any) -> bool:
    """Whether a process of its own renders a prompt, which takes seconds."""
    is_raw = isinstance(prompt, str) or all(isinstance(one, int) for one in prompt)
    return not (is_raw or self._frame is None or self._frame.knows([self._told(prompt)]))

  def ids(self, prompt: Any, most: int = 0) -> list[int]:
    """Returns the ids of messages (role, text), of a raw text, or ids as they are.

    Of texts that have far more than `most` ids together, those of their beginning, if `most` is
    given: all of a hostile prompt take seconds, in which no other one is read.

    Raises ValueError for messages that the policy was not trained on, and for ids that it has not.
    """
    if most and (begun := self._beginning(prompt, most)):
      return begun
    if isinstance(prompt, str):
      with self._lock:
        return templates.ids(self._tok, [prompt])[0]
    if all(isinstance(one, int) for one in prompt):
      if not all(0 <= one < self._num_ids for one in prompt):
        raise ValueError(f'prompt: ids are 0 ... {self._num_ids - 1}')
      return list(prompt)
    return self._chat(prompt, self._frame) if self._frame else self._single(prompt)

  def _beginning(self, prompt: Any, most: int) -> list[int]:
    """Returns the ids of the beginning of texts, if they are more than `most` by far, else []."""
    texts = [prompt] if isinstance(prompt, str) else [m[1] for m in prompt if isinstance(m, tuple)]
    whole = '\n'.join(texts)
    if len(whole) <= _WIDE * most:
      return []
    with self._lock:
      (found,) = templates.ids(self._tok, [whole[: _WIDE * most]])
    return found if len(found) > 2 * most else []

  def request(self, prompt: Any) -> str:
    """Returns what a prompt asks for, as a reward model reads it: a raw text or ids as they are."""
    if isinstance(prompt, str):
      return prompt
    if all(isinstance(one, int) for one in prompt):
      return str(self._tok.decode(list(prompt)))
    return '\n\n'.join(text for role, text in prompt if text and role != 'assistant')

  def _single(self, messages: Sequence[tuple[str, str]]) -> list[int]:
    roles = [role for role, _ in messages]
    if roles not in (['user'], ['system', 'user']):
      raise ValueError(
        'messages: this policy was trained on single requests: send one message of the user, with '
        'at most one of the system before it'
      )
    request = '\n\n'.join(text for role, text in messages if text or role == 'user')
    with self._lock:
      return templates.prompt_ids(self._tok, [request], self._style, self._template)[0]

  def _chat(self, messages: Sequence[tuple[str, str]], frame: '_Frame') -> list[int]:
    if messages[-1][0] != 'user':
      raise ValueError('messages: the last one must be of the user')
    texts = tokenizer.chat_texts(self._tok, [self._told(messages)], frame)  # others go on meanwhile
    with self._lock:
      return tokenizer.chat_text_ids(self._tok, texts)[0]

  def _told(self, messages: Sequence[tuple[str, str]]) -> list[Mapping[str, Any]]:
    """Returns the messages of a chat, those of the user as the policy is asked."""
    told: list[Mapping[str, Any]] = []
    for role, text in messages:
      if role == 'user':
        told.extend(_chat(text, self._style, self._template))
      else:
        told.append({'role': role, 'content': text})
    return told


def _chat(text: str, style: str, template: str) -> Sequence[Mapping[str, Any]]:
  """Returns the message that asks a policy that chats."""
  rendered = templates.render(text, style, template)
  assert not isinstance(rendered, str)
  return rendered


class _Frame:
  """`tokenizer.chat`, which starts a process, but for a single message without one.

  What the template sets before and after a message is learnt from a few, if it is always the same.
  """

  def __init__(self, tok: Any, style: str, template: str):
    expected = templates.prompt_ids(tok, _PROBES, style, template)  # refuses where there is none
    told = [[{'role': 'user', 'content': probe}] for probe in _PROBES]
    texts = tokenizer.chat(tok, told)
    self._before, _, self._after = texts[0].partition(_PROBES[0])
    self._strips = not texts[-1].startswith(self._before + _PROBES[-1])
    self._holds = texts == [self._framed(probe) for probe in _PROBES]
    asked = [_chat(probe, style, template) for probe in _PROBES]
    self._holds &= tokenizer.chat_ids(tok, asked, render=self) == expected

  def _framed(self, text: str) -> str:
    return self._before + (text.strip() if self._strips else text) + self._after

  def knows(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> bool:
    """Whether conversations are rendered without a process."""
    return self._holds and all([m['role'] for m in one] == ['user'] for one in conversations)

  def __call__(self, tok: Any, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    if self.knows(conversations):
      return [self._framed(one[0]['content']) for one in conversations]
    return tokenizer.chat(tok, conversations)
