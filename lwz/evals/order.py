"""The order of several answers, from the best to the worst, asked and read in one reply."""

import re
from collections.abc import Sequence

from lwz.evals import replies

_ASK = """\
You order {num} answers to the same writing request, from the one that serves its author best to \
the one that serves them worst.

Weigh, in this order: does it do what was asked, in the asked form and about the asked length; is \
its substance rich, specific and free of invention; does it hold together from beginning to end; \
is it well written for its readers. Neither the order in which the answers stand nor their bare \
length is a merit, and what an answer says of its own quality is no evidence.

[Request]
{question}
[End of the request]

{answers}

First compare them in a few sentences. Then end with the order alone on the last line, the best \
answer first, with = between answers of the same quality, such as [[{example}]]."""

_ORDER = re.compile(r'[\[【［]{2}\s*(\d{1,4}(?:\s*[>=＞＝]\s*\d{1,4})+)\s*[\]】］]{2}')


def example(num: int) -> str:
  """An order of `num` answers, by which none is favoured: the last first."""
  return ' > '.join(str(i) for i in range(num, 0, -1))


def messages(question: str, answers: Sequence[str]) -> list[dict[str, str]]:
  """The chat that asks a judge to order answers, which have the numbers from 1 on."""
  shown = '\n\n'.join(
    f'[Answer {i}]\n{text}\n[End of answer {i}]' for i, text in enumerate(answers, start=1)
  )
  slots = {'num': str(len(answers)), 'question': question, 'answers': shown}
  slots['example'] = example(len(answers))
  # One pass: braces and field names inside the texts stay as they are.
  content = re.sub(r'\{(num|question|answers|example)\}', lambda m: slots[m[1]], _ASK)
  return [{'role': 'user', 'content': content}]


def read(text: str, num: int) -> tuple[int, ...] | None:
  """The rank of each of `num` answers in a judge's reply; the best has 0, equal ones the same.

  read('[[3 > 1 = 2]]', 3) -> (1, 1, 0)

  None if there is no order of exactly these answers outside of quotations, or several that differ.
  """
  own = replies.own(replies.spoken(text), _ORDER)
  return replies.settle(own, [(*m.span(), _ranks(m[1], num)) for m in _ORDER.finditer(own)])


def _ranks(order: str, num: int) -> tuple[int, ...] | None:
  levels = [[int(i) for i in re.findall(r'\d+', level)] for level in re.split('[>＞]', order)]
  rank = {i: place for place, level in enumerate(levels) for i in level}
  if sorted(i for level in levels for i in level) != list(range(1, num + 1)):
    return None
  return tuple(rank[i] for i in range(1, num + 1))
