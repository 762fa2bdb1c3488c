"""Asking a judge about many requests: answers are read, and unreadable ones asked for again."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from lwz.data.funnel import assessor

Chats = Iterable[list[dict[str, str]]]
# Chats in, replies out, in any order: each with `index` (of the chat), `text` and `fault`.
Ask = Callable[[Chats], Iterator[Any]]


class Verdict(NamedTuple):
  """What a judge said of a request; `value` is None where it said nothing that can be read."""

  id: str
  value: Any
  answer: str
  fault: str = ''


def judge(
  queries: Iterable[tuple[str, str]],
  question: str,
  parse: Callable[[str], Any],
  ask: Ask,
  *,
  rounds: int = 2,
) -> Iterator[Verdict]:
  """Verdicts on (id, text) pairs, as they arrive.

  An answer that `parse` makes None of is shown to the judge, after all others, with the format
  asked for again; after `rounds` of them the verdict is the fault 'unreadable'. A reply with a
  fault is a verdict with that fault: it says nothing about the request.
  """
  asked: Iterable[tuple[str, str, str | None]] = ((id, text, None) for id, text in queries)
  for turn in range(rounds):
    waiting: dict[int, tuple[str, str]] = {}
    unread = []
    for reply in ask(_chats(asked, question, waiting)):
      id, text = waiting.pop(reply.index)
      value = None if reply.fault else parse(reply.text)
      if value is not None:
        yield Verdict(id, value, reply.text)
      elif reply.fault:
        yield Verdict(id, None, '', reply.fault)
      elif turn + 1 == rounds:
        shown = ' '.join(reply.text.split())[-120:]
        yield Verdict(id, None, reply.text, f'unreadable: {shown}')
      else:
        unread.append((id, text, reply.text))
    if not unread:
      return
    asked = unread


def _chats(
  asked: Iterable[tuple[str, str, str | None]],
  question: str,
  waiting: dict[int, tuple[str, str]],
) -> Chats:
  """The chats, one after the other; who is waited for stands in `waiting`, by index."""
  for index, (id, text, failed) in enumerate(asked):
    waiting[index] = id, text
    yield assessor.messages(question, text, failed)
