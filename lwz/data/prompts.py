"""Prompts: writing requests, each with the range of words a good answer has."""

import collections.abc
import dataclasses
import hashlib
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl, types
from lwz import text as words
from lwz.data import corpus, epochs, files, formatted, templates


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
  for document in found:
    passage = corpus.passage(document, lower, upper)
    if passage is None:
      continue
    num_words, text = words.count_words(passage), formatted.request(document, passage)
    if formatted.states_length(document) and not document.request:
      num_words = formatted.rounded(num_words)
    prompt = types.Prompt(
      id=_digest(text),
      text=text,
      lower=max(1, round(num_words * (1 - slack))),
      upper=round(num_words * (1 + slack)),
      language=templates.language(text),
      source=document.source,
      references=(passage,),
    )
    prompts.setdefault(document.title, prompt)
  return list(prompts.values())


def _digest(text: str) -> str:
  """The default id of a request: twelve hexadecimal digits of its text's hash."""
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def load(path: epath.PathLike) -> list[types.Prompt]:
  """Reads prompts: text, lower, upper; id, language, source if given.

  The file holds a JSON object per line, or is a Parquet file; or it is a folder of such files.

  Raises FileNotFoundError if there is no such file; ValueError, beginning with `file:line`, if a
  line is broken or repeats an id.
  """
  seen: set[str] = set()

  def parse(record: dict[str, Any]) -> types.Prompt:
    prompt = _from_record(record)
    if prompt.id in seen:
      raise ValueError(f'the id {prompt.id!r} was there before; ids are unique in a file')
    seen.add(prompt.id)
    return prompt

  return files.read(path, parse)[0]


def _from_record(record: dict[str, Any]) -> types.Prompt:
  text = jsonl.field(record, 'text', str)
  lower, upper = jsonl.field(record, 'lower', int), jsonl.field(record, 'upper', int)
  if not text.strip():
    raise ValueError("'text' is empty")
  if not 0 < lower <= upper:
    raise ValueError(f'expected 0 < lower <= upper, in words, not {lower} and {upper}')
  return types.Prompt(
    id=jsonl.field(record, 'id', str, _digest(text)),
    text=text,
    lower=lower,
    upper=upper,
    language=jsonl.field(record, 'language', str, templates.language(text)),
    source=jsonl.field(record, 'source', str, ''),
  )


def split(
  found: collections.abc.Sequence[types.Prompt], share: float
) -> tuple[list[types.Prompt], list[types.Prompt]]:
  """Returns the prompts to train on, and a `share` for evaluations, chosen by a hash of the text.

  All are for training where no other would be left for it.
  """
  kept = [p for p in found if corpus.fraction(p.text, 'tested') >= share]
  if not kept:
    return list(found), []
  return kept, [p for p in found if corpus.fraction(p.text, 'tested') < share]


def save(path: epath.PathLike, prompts: collections.abc.Iterable[types.Prompt]) -> None:
  """Writes what `load` reads."""
  jsonl.write(path, map(dataclasses.asdict, prompts))


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
