"""Formatted documents: passages of the corpus in the paper's output format, each with a true plan.

They replace the 1 % of long chains of thought that the paper mixes into its continual pretraining,
which are distilled from a reasoning model.
"""

import collections.abc
import re

from lwz import text as words
from lwz import types
from lwz.data import corpus, templates

MAX_POINTS = 12  # of a plan of every sentence
LEAST_STATED = 10  # words: no request asks for fewer


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
  return _plan(text, [_opening(head, max_words) for head in chosen])


def full_plan(text: str, request: str = '') -> str:
  """A plan of every sentence, up to twelve, with the words that are written at its end.

    full_plan('Rivers carry water. Lakes keep it for a very long time.', 'Use about 10 words.')
    == 'Plan, 10 words: 1. Rivers carry water (3); 2. Lakes keep it for (11).'

  The length is as `request` states it, or else in round numbers.
  """
  openings, written, total = _parts(text)
  length = _length(request, total)
  stated = f'，{length}字' if templates.language(text) == 'zh' else f', {length} words'
  return _plan(text, [f'{head} ({n})' for head, n in zip(openings, written, strict=True)], stated)


def countdown_plan(text: str, request: str = '') -> str:
  """A plan of every sentence, up to twelve, with the words that are left to write at its end.

    countdown_plan('Rivers carry water. Lakes keep it for a very long time.', 'Use about 10 words.')
    == 'Plan (10): 1. Rivers carry water (8); 2. Lakes keep it for (0).'

  A small model that counts up does not compare the sum with the length, and ends plans of 70 and
  of 130 words alike. Here each number follows from the one before it, the first from the length,
  and a plan is full at 0: nothing is compared.
  """
  openings, written, total = _parts(text)
  points = [f'{head} ({total - n})' for head, n in zip(openings, written, strict=True)]
  return _plan(text, points, f' ({_length(request, total)})')


def _parts(text: str) -> tuple[list[str], list[int], int]:
  """Returns openings of up to twelve sentences, the words before the next one, and all words."""
  heads = words.sentences(text)
  num_points = min(MAX_POINTS, len(heads))
  starts = [i * len(heads) // num_points for i in range(num_points)]
  sizes = [words.count_words(head) for head in heads]
  written = [sum(sizes[:end]) for end in (*starts[1:], len(heads))][:num_points]
  return [_opening(heads[i], 4) for i in starts], written, sum(sizes)


def _length(request: str, total: int) -> str:
  """Returns the length of a text of `total` words as its request states it, or else rounded."""
  stated = [n for n in re.findall(r'\d+', request) if int(n) >= LEAST_STATED]
  near = [abs(int(n) - total) <= max(20, total / 3) for n in stated]
  is_length = any(near) and (len(stated) == 1 or (len(stated) == 2 and all(near)))
  return '-'.join(stated) if is_length else str(rounded(total))


def _plan(text: str, points: list[str], length: str = '') -> str:
  """Returns a plan in the language of a text; `length` stands in its heading."""
  numbered = [f'{i}. {point}' for i, point in enumerate(points, start=1)]
  if templates.language(text) == 'zh':
    return f'提纲{length}：{"；".join(numbered)}。'
  return f'Plan{length}: {"; ".join(numbered)}.'


PLANS = {
  'short': lambda text, request: plan(text),
  'full': full_plan,
  'countdown': countdown_plan,
}


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


def restated(prompt: types.Prompt, num_words: int) -> str | None:
  """The request of a prompt for about `num_words` words, and not for its own range.

    restated(Prompt('Write 90 to 120 words.', 90, 120), 52) == 'Write 40 to 70 words.'
    restated(Prompt('In about 100 words: ...', 90, 110), 52) == 'In about 50 words: ...'

  None if the text does not state the range in digits: both ends once, or its middle alone.
  """
  found = re.findall(r'\d+', prompt.text)
  ends, width = (str(prompt.lower), str(prompt.upper)), max(10, prompt.upper - prompt.lower)
  inside = [number for number in found if prompt.lower <= int(number) <= prompt.upper]
  if sorted(inside) == sorted(ends) and ends[0] != ends[1]:
    lower = rounded(num_words - width // 2)
    new = dict(zip(ends, (lower, lower + width), strict=True))
  elif len(inside) == 1 and abs(2 * int(inside[0]) - prompt.lower - prompt.upper) <= width / 5:
    new = {inside[0]: rounded(num_words)}
  else:
    return None
  return re.sub(r'\d+', lambda match: str(new.get(match[0], match[0])), prompt.text)


def rounded(num_words: int) -> int:
  """A number of words as a request names it: to the nearest ten, and ten at least."""
  return max(LEAST_STATED, (num_words + 5) // 10 * 10)


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
  plan: str = 'short',
) -> list[tuple[templates.Prompt, str]]:
  """Returns (prompt, completion) in each style of each document with an opening of such a length.

  The opening, of `lower` to `upper` words, is the answer to `request`; thoughts are a plan of it,
  one of `PLANS`. The two texts are tokenized separately, as in a rollout, and joined as ids.
  """
  made = PLANS[plan]
  asked = (
    (request(document, answer), answer)
    for document, answer in corpus.openings(found, lower, upper, every=True)
  )
  return [
    (
      templates.render(question, style, template),
      templates.completion(made(answer, question), answer, style),
    )
    for question, answer in asked
    for style in styles
  ]
