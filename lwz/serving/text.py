"""Texts that grow: tokens to characters, and the thought apart from the answer.

All functions take the whole text so far, and what they return of a longer one begins with what they
returned of a shorter one: a stream sends the rest, and adds up to the reply that is not streamed.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lwz import types

_UNFINISHED = '\N{REPLACEMENT CHARACTER}'  # a character of which not all bytes are written
_TAGS = (types.THINK_OPEN, types.THINK_CLOSE, types.ANSWER_OPEN, types.ANSWER_CLOSE)


class Growing:
  """The text of a growing trajectory, decoded once: `decode` is ids to text.

  A token may hold a part of a character, and a decoder may treat the first token in its own way: so
  new tokens are decoded behind those of the last piece, and a piece ends with a whole character.
  """

  def __init__(self, decode: Callable[[Iterable[int]], str]):
    self._decode = decode
    self._start, self._done = 0, 0  # tokens before the last piece, and with it
    self.text = ''

  def feed(self, ids: np.ndarray, *, last: bool = False) -> str:
    """Returns the text of all ids so far, without an unfinished character unless it is the last."""
    before = self._decode(ids[self._start : self._done])
    whole = self._decode(ids[self._start :])
    if len(whole) > len(before) and (last or not whole.endswith(_UNFINISHED)):
      self.text += whole[len(before) :]
      self._start, self._done = self._done, len(ids)
    return self.text


def whole(text: str, marks: Iterable[str]) -> str:
  """Returns the text without an end that may become one of the marks.

  >>> whole('a < b <ans', ['<answer>'])
  'a < b '
  """
  begun = (n for mark in marks for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n]))
  return text[: len(text) - max(begun, default=0)]


class Parts(NamedTuple):
  """The parts of a reply, without tags."""

  thought: str
  content: str


def parts(text: str, *, last: bool) -> Parts:
  """Returns the thought, if the text begins with one, and the content: the rest of it.

  Of a text that goes on, an end that may become a tag is left out.

  >>> parts('<think>A plan.</think> <answer>A text.</answer>', last=True)
  Parts(thought='A plan.', content='A text.')
  >>> parts('<think>A plan.</th', last=False), parts('No tags.', last=True)
  (Parts(thought='A plan.', content=''), Parts(thought='', content='No tags.'))
  """
  text = text.lstrip()
  if not last:
    text = whole(text, _TAGS)
  thought = ''
  if text.startswith(types.THINK_OPEN):
    thought, _, text = text[len(types.THINK_OPEN) :].partition(types.THINK_CLOSE)
    text = text.lstrip()
  content = text.partition(types.ANSWER_CLOSE)[0]
  return Parts(thought, content.replace(types.ANSWER_OPEN, '', 1))
