"""Prompts: writing requests, each with the range of words a good answer has."""

import collections.abc
import dataclasses
import numbers
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl, types
from lwz import text as words
from lwz.data import comparisons, corpus, epochs, files, formatted, templates

MORE = ('criteria', 'references')  # what a prompt has for rewards by a judge, or has not
MOST = 1_000  # criteria of a prompt; RubricHub has up to 67, and no reply speaks of many more


def from_documents(
  found: collections.abc.Iterable[types.Document],
  *,
  lower: int,
  upper: int,
  slack: float,
) -> list[types.Prompt]:
  """A request for each title that has an opening of `lower` to `upper` words.

  With n the number of words of that opening, the range is [n (1 - slack), n (1 + slack)]. About
  half of the requests, chosen by a hash of the title, state n: then n is rounded to tens in request
  and range. Of documents with the same title the first counts. The opening is the reference.
  """
  if not 0 <= slack < 1:
    raise ValueError(f'slack is a share of the length, in [0, 1), not {slack}')
  prompts: dict[str, types.Prompt] = {}
  for document, passage in corpus.openings(found, lower, upper):
    num_words, text = words.count_words(passage), formatted.request(document, passage)
    if formatted.states_length(document) and not document.request:
      num_words = formatted.rounded(num_words)
    prompt = types.Prompt(
      id=comparisons.digest(text),
      text=text,
      lower=max(1, round(num_words * (1 - slack))),
      upper=round(num_words * (1 + slack)),
      language=templates.language(text),
      source=document.source,
      references=(passage,),
    )
    prompts.setdefault(document.title, prompt)
  return list(prompts.values())


def load(path: epath.PathLike, *, ranged: bool = True) -> list[types.Prompt]:
  """Reads prompts: text, lower, upper; id, language, source, criteria, references if given.

  `criteria` is a list of objects: text; id, weight and kind if given, see `types.Criterion`.
  `references` is a list of texts, answers of rising quality. The file holds a JSON object per line,
  or an array of them, or is a Parquet file; or it is a folder of such files. A preference pair
  (prompt, chosen, rejected) is two prompts, which ask for the better answer, see `comparisons`.
  Unless they are to be `ranged`, a line without lower and upper has the range 0 to 0.

  Raises FileNotFoundError if there is no such file; ValueError, beginning with `file:line`, if a
  line is broken or repeats an id.
  """
  found: dict[str, types.Prompt] = {}

  def parse(record: dict[str, Any]) -> None:
    if comparisons.is_pair(record):
      for prompt in comparisons.prompts(record):
        if found.setdefault(prompt.id, prompt).references != prompt.references:
          raise ValueError(f'the id {prompt.id!r} was there before, with another better answer')
      return
    prompt = _from_record(record, ranged)
    if prompt.id in found:
      raise ValueError(f'the id {prompt.id!r} was there before; ids are unique in a file')
    found[prompt.id] = prompt

  files.read(path, parse)
  return list(found.values())


def _from_record(record: dict[str, Any], ranged: bool) -> types.Prompt:
  text = jsonl.field(record, 'text', str)
  absent = None if ranged else 0
  lower, upper = (jsonl.field(record, name, int, absent) for name in ('lower', 'upper'))
  if not text.strip():
    raise ValueError("'text' is empty")
  if not 0 < lower <= upper and (ranged or lower or upper):
    raise ValueError(f'expected 0 < lower <= upper, in words, not {lower} and {upper}')
  return types.Prompt(
    id=jsonl.field(record, 'id', str, comparisons.digest(text)),
    text=text,
    lower=lower,
    upper=upper,
    language=jsonl.field(record, 'language', str, templates.language(text)),
    source=jsonl.field(record, 'source', str, ''),
    criteria=criteria(record),
    references=references(record),
  )


def criteria(record: dict[str, Any]) -> tuple[types.Criterion, ...]:
  """Returns the criteria of a record of `load`; raises ValueError if one is wrong.

  Those of rubric data sets are read, too: `criterion` or `description` for the text, `points` for
  the weight; one with points of 0 or less, which is a fault and no criterion, is left out.
  """
  found: dict[str, types.Criterion] = {}
  for place, given in enumerate(jsonl.field(record, 'criteria', list, []), start=1):
    if not isinstance(given, dict):
      raise ValueError(f'criterion {place} should be an object, found {type(given).__name__}')
    for name, theirs in (('text', 'criterion'), ('text', 'description'), ('weight', 'points')):
      given = {name: given.get(theirs)} | given if theirs in given else given
    if 'points' in given and not jsonl.field(given, 'points', numbers.Real, 0) > 0:
      continue
    made = types.Criterion(
      id=jsonl.field(given, 'id', str, f'c{place}'),
      text=jsonl.field(given, 'text', str),
      weight=float(jsonl.field(given, 'weight', numbers.Real, 1.0)),
      kind=jsonl.field(given, 'kind', str, 'content'),
    )
    if not made.text.strip():
      raise ValueError(f"criterion {made.id!r}: 'text' is empty")
    if not 1e-6 <= made.weight <= 1e6:  # their sum is finite, and none is lost in it
      raise ValueError(
        f"criterion {made.id!r}: 'weight' is {made.weight}, choose one from 1e-6 to 1e6"
      )
    if made.kind not in types.KINDS:
      raise ValueError(
        f'criterion {made.id!r}: no kind {made.kind!r}; choose from {", ".join(types.KINDS)}'
      )
    if made.id in found:
      raise ValueError(f'two criteria have the id {made.id!r}')
    found[made.id] = made
  if len(found) > MOST:
    raise ValueError(
      f"{len(found):,} 'criteria', more than the {MOST:,} that a judge is asked about"
    )
  return tuple(found.values())


def more(record: dict[str, Any]) -> dict[str, Any]:
  """Returns what a record has of `MORE`, in the form in which `load` reads it."""
  found: dict[str, Any] = {'criteria': [dataclasses.asdict(one) for one in criteria(record)]}
  found |= {'references': list(references(record))}
  return {name: found[name] for name in MORE if name in record}


def references(record: dict[str, Any]) -> tuple[str, ...]:
  """Returns the references of a record of `load`; raises ValueError if one is no text."""
  found = jsonl.field(record, 'references', list, [])
  if not all(isinstance(text, str) and text.strip() for text in found):
    raise ValueError("'references' should hold texts that are not empty")
  return tuple(jsonl.field({'references': text}, 'references', str) for text in found)


def split(
  found: collections.abc.Sequence[types.Prompt], share: float
) -> tuple[list[types.Prompt], list[types.Prompt]]:
  """Returns the prompts to train on, and a `share` for evaluations, by a hash of the request.

  All are for training where no other would be left for it.
  """
  parts: tuple[list[types.Prompt], list[types.Prompt]] = [], []
  for prompt in found:
    parts[corpus.fraction(comparisons.request(prompt.text), 'tested') < share].append(prompt)
  return parts if parts[0] else (list(found), [])


def take(
  prompts: collections.abc.Sequence[types.Prompt], step: int, num: int, seed: int
) -> list[types.Prompt]:
  """The `num` prompts of a step, a function of its arguments, so that resuming needs no state.

  Their order over epochs is that of `epochs.take`. Raises ValueError if there are no prompts.
  """
  if not prompts:
    raise ValueError('no prompts to take from')

  def rng(epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))

  return [prompts[i] for i in epochs.take(len(prompts), step, num, rng)]
