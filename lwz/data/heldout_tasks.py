"""Small benchmarks of held-out titles, in the schemas of Arena-Write and WritingBench.

They are used if no benchmark is given; the reference of a title is its document's opening.
"""

import collections.abc
from typing import Any

from lwz import text as words
from lwz import types
from lwz.data import corpus, formatted


def arena(
  found: collections.abc.Iterable[types.Document],
  *,
  lower: int,
  upper: int,
  num: int,
) -> list[dict[str, Any]]:
  """Records with idx, question, type, length and baseline_response, the passage of the corpus.

  Documents with an opening of `lower` to `upper` words count; `num` of them, evenly spaced, or all
  for 0.
  """
  return [
    {
      'idx': idx,
      'question': question,
      'type': document.source,
      'length': num_words,
      'baseline_response': {'passage': text},
    }
    for idx, (document, question, num_words, text) in enumerate(_openings(found, lower, upper, num))
  ]


def writingbench(
  found: collections.abc.Iterable[types.Document],
  *,
  lower: int,
  upper: int,
  num: int,
) -> list[dict[str, Any]]:
  """Records of version 1, with index, domain1, domain2, query and criteria; see `arena`."""
  return [
    {
      'index': index,
      'domain1': document.source,
      'domain2': 'titles',
      'query': question,
      'criteria': [
        {'name': 'Subject', 'criteria_description': f'It is about {document.title}.'},
        {'name': 'Length', 'criteria_description': f'It has about {num_words} words.'},
      ],
    }
    for index, (document, question, num_words, _) in enumerate(_openings(found, lower, upper, num))
  ]


def _openings(found, lower, upper, num):
  """(document, question, stated words, opening) of the first document of each title."""
  kept = {}
  for document, text in corpus.openings(found, lower, upper):
    num_words = formatted.rounded(words.count_words(text))
    question = document.request or formatted.question(document.title, num_words)
    kept.setdefault(document.title, (document, question, num_words, text))
  every = list(kept.values())
  num = min(num or len(every), len(every))
  return [every[i * len(every) // num] for i in range(num)]
