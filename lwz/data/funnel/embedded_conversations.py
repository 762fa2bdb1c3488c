"""Conversations made from the embedded corpus, in the schema of WildChat-1M.

They do not represent what people ask: they are requests of every kind that the funnel
distinguishes, about the topics of Python's documentation, so that the whole funnel runs offline and
at any size.
"""

import datetime
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

from lwz import types

# {t}: a title; {x}: a text; {n}: a number of words.
_TEMPLATES = {
  'writing': (
    'Write a {n}-word essay on {t} for people who have never heard of it.',
    'I need an in-depth report about {t}, at least {n} words, with sections and a summary.',
    'Please write a blog post that explains {t} to beginners. Some background: {x}',
    'Write a short story in which {t} saves a small company. Make it funny, and not boring.',
    'Draft a proposal to use {t} in our school; no more than {n} words. Notes: {x}',
    'Create a comprehensive guide to {t}, with an introduction, examples and frequent mistakes.',
    '写一篇关于{t}的科普文章，面向初学者，{n}字左右。',
    '请写一份关于{t}的调研报告，不少于{n}字，要有目录和结论。',
    '以“{t}”为题写一个短篇小说，情节要有转折。',
  ),
  'question': (
    'What is {t}?',
    'Who invented {t} and when?',
    'How many kinds of {t} are there?',
    '什么是{t}？',
  ),
  'code': (
    'Write a python function that uses {t} on a list of numbers.',
    'Fix this code:\n```python\nimport os\nprint({t})\n```\n{x}',
    '用代码实现{t}，并加上注释。',
  ),
  'edit': (
    'Translate into German: {x}',
    'Summarize the following text: {x}',
    '请把下面这段话润色一下：{x}',
  ),
  'image': ('As a prompt generator for a generative AI called "Midjourney", show {t}. {x}',),
  'role': ('Act as {t}. I will talk to you, and you answer as it would. My first word is hi.',),
  'talk': ('hi there, how are you today?', 'hello, what can you do for me?', '你好，你是谁呀？'),
  'maths': ('Solve 3x + {n} = 20 and say what it has to do with {t}.',),
  'other': ('Escribe una historia sobre {t} para los niños de una escuela del pueblo.',),
  'little': ('Write a tagline about {t}.', 'Describe {t} in 50 words.', 'ok {t}'),
}
_WEIGHTS = (22, 22, 16, 10, 8, 5, 4, 3, 6, 4)  # of the kinds in _TEMPLATES
_TAGS = {'other': 'Spanish'}
_REPEATS, _NEAR, _FLAGGED, _REDACTED = 0.08, 0.06, 0.05, 0.02  # shares
_BEGAN = datetime.datetime(2023, 4, 9, tzinfo=datetime.UTC)


def records(documents: Sequence[types.Document], num: int) -> Iterator[dict[str, Any]]:
  """`num` conversations about documents, in the schema of WildChat-1M: record i depends on i alone.

  Some repeat an earlier one word for word, some with a few words changed; some are flagged or
  redacted in their columns.
  """
  for i in range(num):
    kind, text = _request(documents, i)
    rng = random.Random(f'0:{i}:row')
    zh = any('\u4e00' <= c <= '\u9fff' for c in text)
    language = _TAGS.get(kind, 'Chinese' if zh else 'English')
    flagged, redacted = rng.random() < _FLAGGED, rng.random() < _REDACTED
    when = _BEGAN + datetime.timedelta(seconds=37 * i)
    answer = documents[rng.randrange(len(documents))].text[:1_500]
    yield {
      'conversation_hash': hashlib.md5(f'0:{i}'.encode(), usedforsecurity=False).hexdigest(),
      'model': 'none',
      'timestamp': when,
      'conversation': [
        _turn('user', text, language, flagged, redacted, i),
        _turn('assistant', answer, language, False, False, i),
      ],
      'turn': 1,
      'language': language,
      'openai_moderation': [_moderation(flagged), _moderation(False)],
      'toxic': flagged,
      'redacted': redacted,
    }


def _request(documents: Sequence[types.Document], i: int) -> tuple[str, str]:
  rng = random.Random(f'0:{i}')
  chance = rng.random()
  if i and chance < _REPEATS + _NEAR:
    kind, text = _request(documents, rng.randrange(i))
    return kind, text if chance < _REPEATS else f'{text} Thanks {rng.randrange(10)}!'
  kind = rng.choices(list(_TEMPLATES), _WEIGHTS)[0]
  document = documents[rng.randrange(len(documents))]
  text = rng.choice(_TEMPLATES[kind])
  values = {
    't': document.title,
    'x': document.text[: rng.choice((200, 600, 1_500))],
    'n': f'{rng.randrange(4, 40) * 100:,}' if kind == 'writing' else str(rng.randrange(2, 20)),
  }
  for name, value in values.items():
    text = text.replace('{' + name + '}', value)
  return kind, text


def _turn(role: str, text: str, language: str, toxic: bool, redacted: bool, i: int) -> dict:
  return {
    'content': text,
    'language': language,
    'redacted': redacted,
    'role': role,
    'toxic': toxic,
    'turn_identifier': i,
  }


def _moderation(flagged: bool) -> dict[str, Any]:
  return {
    'categories': {'harassment': flagged, 'violence': False},
    'category_scores': {'harassment': 0.9 if flagged else 0.01, 'violence': 0.01},
    'flagged': flagged,
  }
