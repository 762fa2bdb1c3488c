"""Questions of reward forms as chats with a judge."""

import functools
from collections.abc import Callable
from typing import Any

from lwz.evals import arena, checklist, order
from lwz.reward import questions


def of(
  question: questions.Question,
) -> tuple[list[dict[str, str]], Callable[[str], Any], str]:
  """Returns the chat that asks a question, the reader of a reply, and the form of a verdict."""
  asked = question.prompt.text
  match question:
    case questions.Comparison():
      chat = arena.messages(asked, question.first, question.second)
      return chat, arena.verdict, '[[A]], [[B]] or [[C]]'
    case questions.Ranking():
      num = len(question.answers)
      chat = order.messages(asked, question.answers)
      return (
        chat,
        functools.partial(order.read, num=num),
        f'an order such as [[{order.example(num)}]]',
      )
    case _:
      criteria = [criterion.text for criterion in question.prompt.criteria]
      chat = checklist.messages(asked, question.answer, criteria)
      num = len(criteria)
      return chat, functools.partial(checklist.read, num=num), checklist.form(num)
