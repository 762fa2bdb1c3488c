"""Planted degradations, and how many the measures inside a text find, where they were planted.

  python benchmarks/evaluation.py --books books.jsonl --out results/evaluation.md

Texts are Python's documentation, in Chinese laws of the tests, and what benchmarks/books.py has
written. Half of a text is damaged, facts are contradicted, points of a plan are taken out, each at
known places.
"""

import argparse
import functools
import itertools
import json
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lwz import jsonl
from lwz import text as texts
from lwz.data import corpus, damages, formatted
from lwz.evals import consistency, plan, planted, position, statements
from lwz.judge import inside
from lwz.report import table

LAWS = pathlib.Path(__file__).parent.parent / 'tests' / 'reward' / 'laws.jsonl'
WORDS = {'en': 5_000, 'zh': 4_000, 'zh, one law': 4_000}  # of a text
SECTION = 500  # words of a law before the next one, where several make a text
HALVES = ('words shuffled', 'sentences shuffled', 'first half again', 'few sentences again')
SEEDS = 10
LENGTHS, MOST = (4_000, 2_400, 1_500), 14  # words, and number, of the texts of a book


@functools.cache
def honest(language: str) -> list[str]:
  """Returns long texts without damage: documents one after the other, and parts of laws."""
  if language != 'en':
    laws = [json.loads(line)['text'] for line in LAWS.read_text().splitlines()]
    sources = [[line for line in re.split(r'\n\s*', text) if line] for text in laws]
    if language == 'zh':
      cut = [list(_sections(source)) for source in sources]
      turns = itertools.zip_longest(*cut, fillvalue=[])
      sources = [[line for turn in turns for section in turn for line in section]]
  else:
    long = [d.text for d in corpus.stream() if len(texts.words(d.text)) > 250]
    sources = [long]
  return [text for source in sources for text in parts(source, WORDS[language])][:12]


def parts(source: Sequence[str], words: int) -> list[str]:
  """Returns texts of at least so many words, of paragraphs that follow each other."""
  found, text, num = [], [], 0
  for part in source:
    text.append(part)
    if (num := num + len(texts.words(part))) >= words:
      found.append('\n\n'.join(text))
      text, num = [], 0
  return found


def _sections(lines: Sequence[str]) -> Iterator[list[str]]:
  """Yields the lines of a text in parts of about SECTION words."""
  part: list[str] = []
  for line in lines:
    part.append(line)
    if sum(len(texts.words(one)) for one in part) >= SECTION:
      yield part
      part = []
  yield part


def halved(text: str, kind: str, seed: int) -> tuple[str, int]:
  """Returns the text with its second half damaged, and the character at which that begins."""
  middle = re.search(r'\n\n', text[len(text) // 2 :])
  cut = len(text) // 2 + (middle.end() if middle else 0)
  rng, second = np.random.default_rng(seed), text[cut:]
  if kind == 'words shuffled':
    second = damages.scramble(second, rng, '')
  elif kind == 'sentences shuffled':
    second = damages.shuffle(second, rng, '')
  elif kind == 'first half again':
    second = text[:cut]
  else:
    second = ' '.join(texts.sentences(second)[:5] * (len(texts.sentences(second)) // 5))
  return text[:cut] + second, cut


def windows_of(text: str, name: str) -> tuple[list[position.Window], int | None]:
  measure = inside.MEASURES[name]
  scored = position.score(text, measure)
  at = position.change(scored.value_W, measure.worse, least=measure.least)
  return position.cut(text, measure), at


class Met(NamedTuple):
  """How often a change was said, and the windows behind one: right, said, damaged; errors."""

  found: int
  precision: float
  recall: float
  off: float  # windows, in the median


def met(whole: Sequence[str], kind: str, name: str) -> Met:
  """Returns how a measure finds one kind of damage, or none, in the second halves of texts."""
  found = hits = flagged = damaged = 0
  errors = []
  for seed, text in enumerate(whole):
    text, cut = halved(text, kind, seed) if kind != 'none' else (text, len(text))
    windows, at = windows_of(text, name)
    bad = {i for i, w in enumerate(windows) if (w.start + w.end) / 2 >= cut}
    said = set(range(at, len(windows))) if at is not None else set()
    found += at is not None
    hits, flagged, damaged = hits + len(bad & said), flagged + len(said), damaged + len(bad)
    if at is not None and bad:
      errors.append(abs(at - min(bad)))
  return Met(
    found,
    hits / flagged if flagged and kind != 'none' else float('nan'),
    hits / damaged if damaged else float('nan'),
    float(np.median(errors)) if errors else float('nan'),
  )


def halves(language: str) -> Iterator[tuple]:
  """Yields a row for each kind of damage and each measure, the honest texts first."""
  whole = honest(language)
  names = [name for name, measure in inside.MEASURES.items() if measure.by == 'words']
  for kind in ('none', *HALVES):
    for name in names:
      yield language, kind, name, len(whole), *met(whole, kind, name)


def other(path: pathlib.Path) -> Iterator[tuple]:
  """Yields a row for texts of a file by benchmarks/books.py: both shuffles, and no damage."""
  by: dict[tuple[str, ...], list[list[str]]] = {}
  for row in jsonl.read(path)[0]:
    by.setdefault((row['half'], row['language'], row['of']), []).append(row['paragraphs'])
  for words in LENGTHS:
    for about, groups in sorted(by.items()):
      if about[2] == 'handbook':  # chapters are short
        groups = [list(itertools.chain.from_iterable(groups))]
      each = [parts(group, words) for group in groups]
      whole = [text for turn in itertools.zip_longest(*each) for text in turn if text][:MOST]
      row = (*about, words, len(whole))
      for kind, name in (('sentences shuffled', 'cohesion'), ('words shuffled', 'disorder')):
        of = met(whole, kind, name)
        row += met(whole, 'none', name).found, of.found, of.precision, of.recall
      yield row


def find(text: str) -> tuple[list[consistency.Conflict], int]:
  """Returns what the rule-based finder names, in both passes, and the words that it has read."""
  facts: list[consistency.Fact] = []
  windows = position.windows(text, consistency.SIZE, consistency.MOST)
  for window in windows:
    facts += consistency.located(window, statements.facts(window.text))[0]
  found = [
    conflict
    for batch in consistency.batches(facts)
    for conflict in consistency.conflicts(batch, statements.conflicts(batch))
  ]
  return found, sum(window.words for window in windows)


def contradictions(language: str) -> Iterator[tuple]:
  """Yields a row for each share of contradictions in other words."""
  whole = honest(language)
  for free in (0.0, 0.5, 1.0):
    met = Counter()
    for seed in range(SEEDS):
      paragraphs = [p for p in whole[seed % len(whole)].split('\n\n') if p.strip()]
      made = planted.plant(paragraphs, language, seed, pairs=12, honest=12, free=free)
      found, _ = find(made.text)
      hits = planted.hits(found, made.pairs)
      met['said'] += len(found)
      met['right'] += sum(i is not None for i in hits)
      met['pairs'] += len(made.pairs)
      met['found'] += len({i for i in hits if i is not None})
      met['free'] += sum(pair.free for pair in made.pairs)
      met['class'] += sum(
        made.pairs[i].kind == one.kind for i, one in zip(hits, found, strict=True) if i is not None
      )
    yield (
      *(language, f'{met["free"]} of {met["pairs"]}', met['said']),
      *(met['right'] / max(met['said'], 1), met['found'] / met['pairs']),
      met['class'] / max(met['right'], 1),
    )
  every = [find(text) for text in whole]
  num, words = sum(len(found) for found, _ in every), sum(read for _, read in every)
  yield language, 'none planted', num, float('nan'), float('nan'), float('nan')
  yield language, f'  per 10,000 of {words:,} words', 10_000 * num / words, *[float('nan')] * 3


def key_words(paragraphs: Sequence[str], others: Counter[str], rng: np.random.Generator) -> str:
  """Returns the six terms that set a part apart from the others, in any order."""
  terms = Counter(term for p in paragraphs for term in _terms(p))
  best = sorted(terms, key=lambda term: (-terms[term] / others[term] ** 0.5, term))[:6]
  return ', '.join(best[i] for i in rng.permutation(len(best)))


def _terms(text: str) -> list[str]:
  """Returns words of more than three letters, and pairs of Han, that are no function words."""
  words = texts.words(text.lower())
  pairs = [
    a + b
    for a, b in itertools.pairwise(words)
    if min(a, b) >= '\u3400' and not {a, b} & texts.STOP_WORDS
  ]
  return pairs or [word for word in words if len(word) > 3 and word not in texts.STOP_WORDS]


def outlines(path: pathlib.Path | None) -> Iterator[tuple[str, str, list[str]]]:
  """Yields (texts, language, the texts) by which plan following is measured."""
  yield from (('documents, laws', language, honest(language)) for language in ('en', 'zh'))
  by: dict[tuple[str, str], list[str]] = {}
  for row in jsonl.read(path)[0] if path else ():
    whole = by.setdefault((f'books, {row["half"]}', row['language']), [])
    whole += parts(row['paragraphs'], LENGTHS[0])[:2]
  yield from ((*about, whole) for about, whole in sorted(by.items()))


def plans(about: tuple[str, str], whole: Sequence[str], wording: str) -> tuple:
  """Returns a row: of plans of 12 points, those said to be broken where none or three are."""
  met: Counter[tuple[str, str]] = Counter()
  last, foreign = '', []
  for seed, text in enumerate(whole):
    paragraphs = [p for p in re.split(r'\n\s*\n', text) if len(texts.words(p)) >= 25]
    if len(paragraphs) < 12:
      continue
    heads = [i * len(paragraphs) // 12 for i in range(12)] + [len(paragraphs)]
    parts = [paragraphs[i:j] for i, j in itertools.pairwise(heads)]
    rng = np.random.default_rng(seed)
    chosen = {int(i) for i in rng.choice(np.arange(4, 12), 3, replace=False)}
    if wording == 'openings':  # of paragraphs, each of which is broken alone
      thought = formatted.plan('\n\n'.join(paragraphs), max_points=12, max_words=10)
      moved = [parts[i][0] for i in sorted(chosen, reverse=True)]
      rest = [p for i, part in enumerate(parts) for p in part[i in chosen :]]
    else:
      common = Counter(term for part in parts for term in {*_terms(' '.join(part))})
      thought = '\n'.join(
        f'{i}. {key_words(part, common, rng)}' for i, part in enumerate(parts, start=1)
      )
      moved = [p for i in sorted(chosen, reverse=True) for p in parts[i]]
      rest = [p for i, part in enumerate(parts) if i not in chosen for p in part]
    if len(plan.points(thought)) != 12:  # one has a number of its own
      continue
    if last:
      foreign.append(plan.following(last, text))
    last = thought
    for kind, said in (('none', paragraphs), ('taken out', rest), ('moved', moved + rest)):
      found = plan.places(thought, '\n\n'.join(said))
      flagged = {i for i, place in enumerate(found) if not place.ordered}
      met[kind, 'points'] += len(found)
      met[kind, 'said'] += len(flagged)
      met[kind, 'right'] += len(flagged & chosen)
      met[kind, 'broken'] += len(chosen)
  row = (*about, wording, met['none', 'points'], met['none', 'said'], float(np.mean(foreign)))
  row += (met['moved', 'broken'],)
  for kind in ('taken out', 'moved'):
    right, said, broken = (met[kind, name] for name in ('right', 'said', 'broken'))
    row += right / said if said else float('nan'), right / broken if broken else float('nan')
  return row


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('--books', type=pathlib.Path, help='a file by benchmarks/books.py')
  path, books = (given := parser.parse_args()).out, given.books
  both = ('en', 'zh')
  tables = [
    table.markdown(
      'Half of a text damaged; precision and recall of windows behind the change',
      ('language', 'damage', 'measure', 'texts', 'found in', 'precision', 'recall', 'windows off'),
      [row for language in WORDS for row in halves(language)],
    ),
    table.markdown(
      'Books: sentences shuffled, by cohesion; words shuffled, by disorder',
      (
        *('half', 'language', 'of', 'words', 'texts', 'false', 'sentences', 'precision', 'recall'),
        *('false', 'words', 'precision', 'recall'),
      ),
      list(other(books)) if books else [],
    ),
    table.markdown(
      'Facts contradicted at known places, by the rule-based finder',
      ('language', 'in other words', 'said', 'precision', 'recall', 'class right'),
      [row for language in both for row in contradictions(language)],
    ),
    table.markdown(
      'Points of a plan that the text does not follow',
      (
        *('texts', 'language', 'plan', 'points', 'false', 'of another text', 'broken'),
        *('taken out: precision', 'recall', 'moved: precision', 'recall'),
      ),
      [
        plans(about, whole, wording)
        for *about, whole in outlines(books)
        for wording in ('openings', 'key words')
      ],
    ),
  ]
  print('\n'.join(tables))
  if path:
    command = f'python benchmarks/evaluation.py --books books.jsonl --out {path}'
    path.write_text(HEAD.format(command=command, tables='\n'.join(tables)))


HEAD = """\
# What the evaluation finds of planted degradations

    {command}

No judge is asked. A text is split into windows of 200 words, of 100 for cohesion; a measure finds a
change where one split of its windows is better than 99 % of 999 shuffled orders
(`lwz.evals.position.change`), and by at least `least` of `lwz.judge.inside.MEASURES`. The damage
begins in the middle. "windows off" is the median distance from there. In the rows of damage "none",
"found in" counts false alarms. English is Python's documentation, several documents to a text;
Chinese is laws, 500 words of each in turn, and single laws.

Cohesion compares a window with the same sentences shuffled, by four signs of order
(`lwz/evals/cohesion.py`). Its form and the size of its windows were chosen on one half of these
texts and of the books in the second table, the rows "chosen on"; on the rows "held out" nothing was
(`benchmarks/books.py` makes them: novels, handbooks, in English and Chinese). "false" are texts
without damage in which a change is said, "sentences" and "words" shuffled texts in which it is.
Below 4,000 words many a shuffled half is missed: a window of 100 words has five sentences. Windows
that stand side by side are not independent, so that more than one honest text in a hundred has a
change, see the rows without damage.

The finder of contradictions (`lwz/evals/statements.py`) reads fixed forms of statements: those of
`lwz/evals/planted.jsonl` were written beside its rules, so that the first row is an upper bound;
contradictions in other words are out of its reach and need a judge. Among the planted statements
as many are honest: said again, said of somebody else, a change that is told.

Of a plan of twelve points three are broken, all in the last two thirds: their text is taken out, or
moved to the front. Points are "openings", the first words of paragraphs, where that paragraph alone
is broken and others of its subject stay; or "key words" of a twelfth of the text, in any order,
where that twelfth is broken. "false" are points of the whole text that are said not to be followed,
"of another text" is the share of points that the next text of the row is said to follow, which
shares its subject. The shares of words that cover a point (`lwz/evals/plan.py`) were chosen on the
books of the rows "chosen on". Plain titles ("Principles") are mostly not found in a text that does
not repeat them.

{tables}
"""

if __name__ == '__main__':
  main()
