"""Formatted documents: passages of the corpus in the paper's output format, each with a true plan.

They replace the 1 % of long chains of thought that the paper mixes into its continual pretraining,
which are distilled from a reasoning model.
"""

import collections.abc
import re

from lwz import text as words
from lwz import types
from lwz.data import corpus, templates


def plan(text: str, *, max_points: int = 4, max_words: int = 6) -> str:
  """A plan of a text: the beginnings of at most `max_points` of its sentences, evenly spread.

    plan('Rivers carry water. Lakes keep it for a very long time.')
    == 'Plan: 1. Rivers carry water; 2. Lakes keep it for a very.'

  First sentences of paragraphs are used if there are enough paragraphs. Each gives `max_words`
  words; in Chinese, twice as many characters.
  """
  heads = [part for part in re.split(r'\n\s*\n', text) if part.strip()]
  heads = heads if len(heads) >= max_points else words.sentences(text)
  num_points = min(max_points, len(heads))
  chosen = [heads[i * len(heads) // num_points] for i in range(num_points)]
  points = [_opening(head, max_words) for head in chosen]
  if templates.language(text) == 'zh':
    return '提纲：' + '；'.join(f'{i}. {point}' for i, point in enumerate(points, start=1)) + '。'
  return 'Plan: ' + '; '.join(f'{i}. {point}' for i, point in enumerate(points, start=1)) + '.'


def _opening(sentence: str, max_words: int) -> str:
  """The first words of a sentence, without the punctuation and blanks at their end."""
  if templates.language(sentence) == 'zh':
    sentence = re.split(r'[。！？；\n]', sentence.strip())[0][: 2 * max_words]
  else:
    sentence = ' '.join(sentence.split()[:max_words])
  return re.sub(r'[\s.,;:!?。，；：！？、]+$', '', sentence)


def question(title: str, num_words: int | None = None) -> str:
  """The request for a text about `title`; a length is stated rounded to tens, None states none.

  question('Lists', 87) == 'Write about Lists in about 90 words.'
  """
  length = None if num_words is None else rounded(num_words)
  if templates.language(title) == 'zh':
    return f'写一篇关于{title}的文章' + ('。' if length is None else f'，约{length}字。')
  return f'Write about {title}' + ('.' if length is None else f' in about {length} words.')


def asking(request: str, num_words: int) -> str:
  """The request with the length that its answer shall have.

  asking('Write an ode.', 1_000) == 'Write an ode. Use about 1000 words.'
  """
  if templates.language(request) == 'zh':
    return f'{request.rstrip()}约{num_words}字。'
  return f'{request.rstrip()} Use about {num_words} words.'


def rounded(num_words: int) -> int:
  """A number of words as a request names it: to the nearest ten, and ten at least."""
  return max(10, (num_words + 5) // 10 * 10)


def states_length(document: types.Document) -> bool:
  """Whether the request for this document states a length: about half do, by the title's hash."""
  return corpus.fraction(document.title, 'states_length') < 0.5


def request(document: types.Document, passage: str) -> str:
  """The request that a passage of the document answers: its own, or one about its title.

  About half of the latter state the length.
  """
  if document.request:
    return document.request
  num_words = words.count_words(passage) if states_length(document) else None
  return question(document.title, num_words)


def covering(request: str, facets: collections.abc.Sequence[str]) -> str:
  """The request with terms that the answer shall cover.

  covering('Write about Rivers.', ['silt', 'flood']) == 'Write about Rivers. Cover: silt, flood.'
  """
  if templates.language(request) == 'zh':
    return f'{request}涵盖：{"、".join(facets)}。'
  return f'{request} Cover: {", ".join(facets)}.'


def examples(
  found: collections.abc.Iterable[types.Document],
  styles: collections.abc.Sequence[str],
  *,
  template: str,
  lower: int,
  upper: int,
) -> list[tuple[templates.Prompt, str]]:
  """Returns (prompt, completion) in each style of each document with an opening of such a length.

  The opening, of `lower` to `upper` words, is the answer to `request`. The two texts are tokenized
  separately, as in a rollout, and joined as ids.
  """
  return [
    (
      templates.render(request(document, answer), style, template),
      templates.completion(plan(answer), answer, style),
    )
    for document, answer in corpus.openings(found, lower, upper)
    for style in styles
  ]
