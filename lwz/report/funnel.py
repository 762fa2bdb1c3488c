"""The page of a funnel: rows left after each step, reasons for rejection, and the prompts kept."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lwz.report import histogram, page

Step = tuple[str, int, int, float]


def steps(
  rows: int, rejects: Mapping[str, int], names: Sequence[tuple[str, Sequence[str]]]
) -> list[Step]:
  """Table rows (step, rejected, left, share of all), one per step.

  `names` are pairs of a step and its reasons, in order.
  """
  found, left = [('rows', 0, rows, 1.0)], rows
  for name, reasons in names:
    gone = sum(rejects.get(reason, 0) for reason in reasons)
    left -= gone
    found.append((name, gone, left, left / max(1, rows)))
  return found


def write(
  path: str | os.PathLike,
  *,
  title: str,
  judge: str,
  table: Sequence[Step],
  rejects: Mapping[str, int],
  examples: Mapping[str, Sequence[Mapping[str, Any]]],
  reasons: Mapping[str, str],
  kept: Mapping[str, Sequence[Any]],
  longest: int,
  notes: Sequence[str] = (),
) -> None:
  """Writes the page; `path`, `title` and `notes` are those of `page.write`.

  Args:
    table: from `steps`.
    rejects: number of rows by reason.
    reasons: the meaning of each reason, in the order of the tables.
    examples: by reason, with source, file, row, detail and text.
    kept: columns of the prompts: lower and upper (words of a good answer), words (of the request),
      language, source, changed (rules applied to a judged range).
    longest: words; the last edge of the plot of lengths.
  """
  rows, left = table[0][2], table[-1][2]
  middle = (np.array(kept['lower'], float) + np.array(kept['upper'], float)) / 2
  words, spoken = np.array(kept['words'], float), np.array(kept['language'])
  languages = sorted(set(kept['language']))
  pairs = collections.Counter(zip(kept['source'], kept['language'], strict=True))
  changed = collections.Counter(kept['changed'])
  shown = [
    (reason, f'{e["source"]}, {e["file"]}:{e["row"]}', e['detail'], e['text'])
    for reason in reasons
    for e in examples.get(reason, ())
  ]
  tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = [
    ('The funnel', ('step', 'rejected', 'left', 'share of all'), table),
    (
      'Reasons for rejection',
      ('reason', 'rows', 'meaning'),
      [(reason, rejects[reason], text) for reason, text in reasons.items() if reason in rejects],
    ),
    (
      'Prompts',
      ('source', 'language', 'prompts'),
      [(*k, n) for k, n in sorted(pairs.items())],
    ),
    ('Rules applied to ranges', ('change', 'prompts'), sorted(changed.items())),
    ('Examples of rejected rows', ('reason', 'where', 'detail', 'request'), shown),
  ]
  page.write(
    path,
    title=title,
    subtitle=f'{rows:,} rows to {left:,} prompts, judged by {judge}',
    facts={'rows': rows, 'prompts': left, 'judge': judge},
    notes=notes,
    plots=[
      (
        'Length of a good answer: the middle of each range.',
        histogram.draw(
          {name: middle[spoken == name] for name in languages},
          edges=np.linspace(0, longest, 25),
          title='length of answers',
          unit='words',
        ),
      ),
      (
        'Words of English, characters of Chinese. Each bin is twice as wide as the one before.',
        histogram.draw(
          {name: words[spoken == name] for name in languages},
          edges=[2**i for i in range(2, 14)],
          title='length of requests',
          unit='words',
        ),
      ),
    ],
    tables=[t for t in tables if t[2]],
  )
