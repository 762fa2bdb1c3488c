"""Prompts that ask which of two answers is better, out of a preference pair, in both orders.

They train a judge by the loop that trains a writer: the right verdict is the only reference of such
a prompt, and a policy that answers by the place of a text is right half of the time.
"""

import hashlib
import numbers
import unicodedata
from typing import Any

from lwz import jsonl, types
from lwz.data import templates

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
  """Returns the prompts of a pair, the better answer as A, then as B; see `preference`."""
  pair = preference(record)
  language = templates.language(pair.prompt)
  texts, found = (pair.chosen, pair.rejected), []
  for letter, first, second in (('A', *texts), ('B', *texts[::-1])):
    text = _ASK[language].format(request=pair.prompt, first=first, second=second)
    found.append(
      types.Prompt(
        id=digest(text),
        text=text,
        lower=1,
        upper=_WORDS,
        language=language,
        source=pair.source,
        references=(f'[[{letter}]]',),
      )
    )
  return found


def request(text: str) -> str:
  """Returns what both orders of a pair have in common, for splits; of another prompt, its text."""
  for form in _ASK.values():
    begin, _, rest = form.partition('{request}')
    if text.startswith(begin):
      return text.removeprefix(begin).partition(rest.partition('{first}')[0])[0]
  return text


def digest(text: str) -> str:
  """Returns the default id of a prompt: twelve hexadecimal digits of its text's hash."""
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def preference(record: dict[str, Any]) -> types.Preference:
  """Returns the pair of a record; a chat gives the last turn, of the user for `prompt`.

  Raises ValueError if a text is missing or empty, or the two answers are equal.
  """
  texts = {
    name: _flat(record, name, role)
    for name, role in (('prompt', 'user'), ('chosen', 'assistant'), ('rejected', 'assistant'))
  }
  if _normal(texts['chosen']) == _normal(texts['rejected']):
    raise ValueError("'chosen' and 'rejected' are equal after normalisation: no preference")
  margin = float(jsonl.field(record, 'margin', numbers.Real, 0))
  if not 0 <= margin < float('inf'):
    raise ValueError(f"'margin' is {margin}: it must not be negative")
  return types.Preference(**texts, source=jsonl.field(record, 'source', str, ''), margin=margin)


def _normal(text: str) -> str:
  """The text with composed characters, as tokenizers see it, \n for line ends, no outer blanks."""
  return unicodedata.normalize('NFC', text.replace('\r\n', '\n').replace('\r', '\n')).strip()


def _flat(record: dict[str, Any], name: str, role: str) -> str:
  if not isinstance(record.get(name), list):
    text = jsonl.field(record, name, str)
  else:
    turns = [turn for turn in record[name] if isinstance(turn, dict) and turn.get('role') == role]
    if not turns:
      raise ValueError(f'{name!r} is a chat without a turn of the {role}')
    text = jsonl.field(turns[-1], 'content', str)
  if not text.strip():
    raise ValueError(f'{name!r} is empty')
  return text
