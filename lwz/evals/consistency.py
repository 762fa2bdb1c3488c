"""Contradictions inside a text, in the five classes of ConStory-Bench (arXiv 2603.05890).

Two passes, each by a judge: facts of each window, with the words that state them; then conflicts
between facts of all windows. Every fact's quotation must stand in its window, and gets its place in
the text, so that a person can check what was found; one that does not is dropped and counted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lwz import text as texts
from lwz.evals import position, replies

CLASSES = {
  'characterization': 'memories, knowledge, skills, traits or work of a person',
  'factual detail': 'looks, names, numbers and quantities',
  'narrative style': 'the narrator, the point of view, the tense or the tone',
  'timeline and plot': 'dates, durations, the order of events, cause and effect',
  'world-building and setting': 'places, distances, laws and customs of the world',
}
SIZE, MOST = 500, 40  # words of a window; windows of a text
FACTS, BATCH, CONFLICTS = 20, 160, 60  # read of a window; in a question; read of a reply
QUOTED = 400  # characters of a quotation

_FIND = """\
Below is one part of a longer text. List the statements in it that another part could \
contradict: what persons look like, know, can and do, who is related to whom, names, numbers, \
dates, durations, places and distances, rules of the world, who tells the story. At most \
{most}, the most definite first; leave out opinions, plans and what may change in the meantime.

Text:
<part>
{text}
</part>

Reply with this JSON and nothing else, {{"facts": []}} if there are none:
{{"facts": [{{"subject": "who or what", "attribute": "which property", "value": "what is said", \
"quotation": "the words of the text, exactly as they stand there"}}]}}"""
_COMPARE = """\
These are statements of one long text, in the order in which they stand in it. Find the pairs \
that cannot both be true in that text. What changes in the course of events is no contradiction, \
nor is a statement that is more exact than another one, nor two persons of like names.

{facts}

Classes: {classes}.

Reply with this JSON and nothing else, {{"conflicts": []}} if there are none:
{{"conflicts": [{{"first": number, "second": number, "class": "one of the classes", "why": "in one \
sentence"}}]}}"""


class Fact(NamedTuple):
  """A statement of a text: the characters of its quotation, and the words before it."""

  subject: str
  attribute: str
  value: str
  quotation: str
  start: int
  end: int
  before: int


class Conflict(NamedTuple):
  """Two statements that contradict each other, `first` standing before `second`."""

  kind: str
  first: Fact
  second: Fact
  why: str


def fact_messages(window: position.Window) -> list[dict[str, str]]:
  """Returns the question of the first pass, about one window."""
  return [{'role': 'user', 'content': _FIND.format(most=FACTS, text=window.text)}]


def read_facts(reply: str) -> list[dict[str, str]] | None:
  """Returns the records of a reply to the first pass, [] if it names none, None if unreadable."""
  return _records(reply, 'facts', ('subject', 'attribute', 'value', 'quotation'), FACTS)


def located(window: position.Window, found: Sequence[Mapping[str, str]]) -> tuple[list[Fact], int]:
  """Returns the facts whose quotation stands in the window, and the number of those dropped."""
  facts = []
  for record in found:
    words = record['quotation'].strip(' \n"“”').split()
    form = r'\s+'.join(map(re.escape, words))
    place = re.search(form, window.text) if words and len(form) <= 3 * QUOTED else None
    if place:
      before = window.before + len(texts.words(window.text[: place.start()]))
      start, end = window.start + place.start(), window.start + place.end()
      subject, attribute, value = (record[n].strip() for n in ('subject', 'attribute', 'value'))
      facts.append(Fact(subject, attribute, value, place[0], start, end, before))
  return facts, len(found) - len(facts)


def batches(facts: Sequence[Fact]) -> list[list[Fact]]:
  """Returns the facts in questions of at most BATCH, those of one subject together, by place."""
  first: dict[str, int] = {}
  for fact in facts:
    first.setdefault(fact.subject.casefold(), fact.start)
  order = sorted(facts, key=lambda f: (first[f.subject.casefold()], f.subject.casefold(), f.start))
  cut = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
  return [sorted(batch, key=lambda fact: fact.start) for batch in cut if len(batch) > 1]


def conflict_messages(facts: Sequence[Fact]) -> list[dict[str, str]]:
  """Returns the question of the second pass, about the facts of a batch."""
  lines = [
    f'{i}. {one.subject}, {one.attribute}: {one.value} ("{one.quotation}", word {one.before:,})'
    for i, one in enumerate(facts, start=1)
  ]
  classes = '; '.join(f'{name} ({about})' for name, about in CLASSES.items())
  content = _COMPARE.format(facts='\n'.join(lines), classes=classes)
  return [{'role': 'user', 'content': content}]


def read_conflicts(reply: str) -> list[dict[str, str]] | None:
  """Returns the records of a reply to the second pass, [] if it names none, None if unreadable."""
  return _records(reply, 'conflicts', ('first', 'second', 'class', 'why'), CONFLICTS)


def conflicts(facts: Sequence[Fact], found: Sequence[Mapping[str, str]]) -> list[Conflict]:
  """Returns the conflicts of a batch; a pair counts once, one with a number of no fact never."""
  pairs: dict[tuple[int, int], Conflict] = {}
  for record in found:
    numbers = [int(n) for n in (record['first'], record['second']) if re.fullmatch(r'\d{1,5}', n)]
    if len(set(numbers)) < 2 or not all(1 <= n <= len(facts) for n in numbers):
      continue
    one, other = sorted(numbers)
    said = record['class'].casefold()
    near = [name for name in CLASSES if name.split()[0] in said]
    kind = near[0] if len(near) == 1 else 'unknown'
    first, second = sorted((facts[one - 1], facts[other - 1]), key=lambda fact: fact.start)
    pairs.setdefault((one, other), Conflict(kind, first, second, record['why'].strip()))
  return list(pairs.values())


def _records(
  reply: str, name: str, fields: Sequence[str], most: int
) -> list[dict[str, str]] | None:
  """Returns the objects with all `fields` in the list `name` of the last outermost such object."""
  text, end = replies.spoken(reply), 0
  listed = None
  for match in re.finditer(rf'\{{\s*"{name}"\s*:', text):
    if match.start() < end:
      continue  # inside the one before
    try:
      value, end = json.JSONDecoder(strict=False).raw_decode(text, match.start())
    except (ValueError, RecursionError):
      return None  # a reply that was cut may have left out the decisive ones
    listed = value[name] if isinstance(value[name], list) else listed
  if listed is None:
    return None
  kept = [item for item in listed if isinstance(item, dict) and set(fields) <= set(item)]
  return [{key: str(item[key])[:QUOTED] for key in fields} for item in kept[:most]]


def density(num: int, words: int) -> float:
  """Returns contradictions per 10,000 words; NaN of no words."""
  return 10_000 * num / words if words else float('nan')
