"""Prompts that ask which of two answers is better, out of a preference pair, in both orders.

They train a judge by the loop that trains a writer: the right verdict is the only reference of such
a prompt, and a policy that answers by the place of a text is right half of the time.
"""

import hashlib
from typing import Any

from lwz import jsonl, types
from lwz.data import templates

LETTERS = 'AB'
_WORDS = 40  # a verdict with its reasons has no more
_ASK = {
  'en': """\
Which answer to the request is better? End with [[A]] or [[B]].

Request: {request}

Answer A: {first}

Answer B: {second}""",
  'zh': """\
哪个回答更好？以[[A]]或[[B]]结尾。

请求：{request}

回答A：{first}

回答B：{second}""",
}


def is_pair(record: dict[str, Any]) -> bool:
  """Whether a record of prompts is a preference pair."""
  return 'text' not in record and {'prompt', 'chosen', 'rejected'} <= record.keys()


def prompts(record: dict[str, Any]) -> list[types.Prompt]:
  """Returns the prompts of a pair, the better answer as A, then as B.

  Raises ValueError if a text is missing or empty.
  """
  texts = [jsonl.field(record, name, str) for name in ('prompt', 'chosen', 'rejected')]
  if not all(text.strip() for text in texts):
    raise ValueError("'prompt', 'chosen' and 'rejected' of a pair hold a text each")
  request, chosen, rejected = texts
  language = templates.language(request)
  found = []
  for letter, first, second in zip(LETTERS, (chosen, rejected), (rejected, chosen), strict=True):
    text = _ASK[language].format(request=request, first=first, second=second)
    found.append(
      types.Prompt(
        id=hashlib.blake2b(text.encode(errors='surrogatepass'), digest_size=6).hexdigest(),
        text=text,
        lower=1,
        upper=_WORDS,
        language=language,
        source=jsonl.field(record, 'source', str, ''),
        references=(f'[[{letter}]]',),
      )
    )
  return found
