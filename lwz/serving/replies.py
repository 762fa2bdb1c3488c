"""Replies in the form of OpenAI's API: whole bodies, and the parts of a stream."""

import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lwz.serving import text as text_lib
from lwz.serving import writer

_OBJECTS = {
  (True, False): 'chat.completion',
  (True, True): 'chat.completion.chunk',
  (False, False): 'text_completion',
  (False, True): 'text_completion',
}
DONE = b'data: [DONE]\n\n'
ALIVE = b': writing\n\n'  # a comment, which no client shows
# No line ends of an event, but for clients that split decoded text, as `httpx` does.
_LINE_ENDS = {ord(end): f'\\u{ord(end):04x}' for end in '\x85\u2028\u2029'}


class Form:
  """The form of one reply: of a chat, or of a raw completion.

  `spell` is the text of one token; `seed` is that of the reply, whoever has chosen it.
  """

  def __init__(
    self,
    *,
    chat: bool,
    stream: bool,
    model: str,
    seed: int,
    prompt_tokens: int,
    logprobs: bool,
    spell: Callable[[int], str],
  ):
    self._chat, self._prompt_tokens = chat, prompt_tokens
    self._logprobs, self._spell = logprobs, spell
    self._head = {
      'id': f'{"chatcmpl" if chat else "cmpl"}-{secrets.token_hex(12)}',
      'object': _OBJECTS[chat, stream],
      'created': int(time.time()),
      'model': model,
      'seed': seed,
    }
    self._sent: dict[int, text_lib.Parts] = {}  # by choice

  def whole(
    self, pieces: Sequence[writer.Piece], marks: Sequence[float] = (), best: int = 0
  ) -> dict[str, Any]:
    """Returns the body of a reply from the last piece of each choice, in their order.

    With `marks`, one for each, it holds the `best` of them, the best first, as tokens count all.
    """
    order = np.argsort(-np.asarray(marks), kind='stable')[:best] if best else range(len(pieces))
    found = []
    for index, place in enumerate(order):  # NaN, no mark, is the last
      piece = pieces[place]
      choice: dict[str, Any] = {'index': index, 'finish_reason': piece.finish}
      if best:
        choice['reward'] = None if math.isnan(marks[place]) else marks[place]
      choice['logprobs'] = self._measured(piece)
      if self._chat:
        thought, content = text_lib.parts(piece.text, last=True)
        message = {'role': 'assistant', 'content': content, 'refusal': None}
        choice['message'] = message | {'reasoning_content': thought or None}
      else:
        choice['text'] = piece.text
      found.append(choice)
    return self._head | {'choices': found, 'usage': self._usage(pieces)}

  def opening(self, choice: int) -> bytes:
    """Returns the first part of a choice of a chat: whose turn it is."""
    return self._part({'index': choice, 'delta': {'role': 'assistant', 'content': ''}})

  def part(self, piece: writer.Piece) -> bytes:
    """Returns the part of a stream with what is new in a piece; b'' if nothing is."""
    last = bool(piece.finish)
    before = self._sent.get(piece.choice, text_lib.Parts('', ''))
    now = text_lib.Parts('', piece.text)
    if self._chat:
      now = text_lib.parts(piece.text, last=last)
    thought, content = (text[len(sent) :] for text, sent in zip(now, before, strict=True))
    self._sent[piece.choice] = now
    if not (thought or content or last):
      return b''
    choice: dict[str, Any] = {'index': piece.choice}
    if self._chat:
      choice['delta'] = {'reasoning_content': thought} if thought else {}
      choice['delta'] |= {'content': content} if content else {}
    else:
      choice['text'] = content
    if last:
      choice |= {'finish_reason': piece.finish, 'logprobs': self._measured(piece)}
    return self._part(choice)

  def usage(self, pieces: Sequence[writer.Piece]) -> bytes:
    """Returns the part of a stream that counts tokens: after all others, without a choice."""
    return event(self._head | {'choices': [], 'usage': self._usage(pieces)})

  def _part(self, choice: dict[str, Any]) -> bytes:
    return event(self._head | {'choices': [{'logprobs': None, 'finish_reason': None} | choice]})

  def _usage(self, pieces: Sequence[writer.Piece]) -> dict[str, int]:
    written = sum(len(piece.ids) for piece in pieces if piece.ids is not None)
    return {
      'prompt_tokens': self._prompt_tokens,
      'completion_tokens': written,
      'total_tokens': self._prompt_tokens + written,
    }

  def _measured(self, piece: writer.Piece) -> dict[str, Any] | None:
    """The log-probability of every token of a choice, those of thought and tags included."""
    if not self._logprobs or piece.ids is None or piece.logp is None:
      return None
    tokens = [self._spell(int(i)) for i in piece.ids]
    values = [float(value) for value in piece.logp]
    if self._chat:
      content = [
        {'token': token, 'logprob': value, 'bytes': _bytes(token), 'top_logprobs': []}
        for token, value in zip(tokens, values, strict=True)
      ]
      return {'content': content, 'refusal': None}
    ends = np.cumsum([0, *map(len, tokens)])[:-1]
    return {
      'tokens': tokens,
      'token_logprobs': values,
      'top_logprobs': None,
      'text_offset': [int(end) for end in ends],
    }


def event(body: dict[str, Any]) -> bytes:
  """Returns a part of a stream, in the form of server-sent events."""
  return f'data: {json.dumps(body, ensure_ascii=False).translate(_LINE_ENDS)}\n\n'.encode()


def _bytes(token: str) -> list[int] | None:
  """The bytes of a token; None where it holds a part of a character."""
  return None if '\N{REPLACEMENT CHARACTER}' in token else list(token.encode())
