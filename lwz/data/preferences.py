"""Preference pairs: read from files, or made from the corpus by damaging its passages."""

import collections.abc
import dataclasses
import functools
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl, types
from lwz.data import comparisons, corpus, damages, files, formatted
from lwz.data.funnel import conversations

NAMES = ('prompt', 'chosen', 'rejected')  # of a pair's texts in a file
# Files of a run of `policy_pairs`, and the source of its pairs.
WRITTEN = 'preferences.jsonl', 'tests.jsonl'
MODEL = 'model'


def load(
  path: epath.PathLike,
  *,
  skip_broken: bool = False,
  paths: collections.abc.Sequence[str] = NAMES,
) -> tuple[list[types.Preference], int]:
  """Reads pairs: prompt, chosen, rejected; source and margin if given.

  The file holds a JSON object per line, or is a Parquet file; or it is a folder of such files.
  A text may also be a chat, a list of {'role': ..., 'content': ...}: then the assistant's last turn
  counts, and for `prompt` the user's last turn. In a foreign file these three are found by `paths`,
  dotted: ('prompt', 'chosen_story', 'rejected_story') in LitBench, ('prompt', 'chosen.response',
  'rejected.response') in WritingPreferenceBench, whose files are JSON arrays. Returns the pairs,
  and the number of skipped lines.

  Raises FileNotFoundError if there is no such file; ValueError, beginning with `file:line`, if a
  line is broken or its texts are equal, unless `skip_broken`.
  """
  if len(paths) != len(NAMES):
    raise ValueError(f'data.pair_paths={tuple(paths)}: name three, of {", ".join(NAMES)}')
  parse = functools.partial(_from_record, paths=paths)
  return files.read(path, parse, skip_broken=skip_broken)


def save(path: epath.PathLike, preferences: collections.abc.Iterable[types.Preference]) -> None:
  """Writes what `load` reads."""
  jsonl.write(path, map(dataclasses.asdict, preferences))


def _from_record(
  record: dict[str, Any], paths: collections.abc.Sequence[str] = NAMES
) -> types.Preference:
  elsewhere = {name: path for name, path in zip(NAMES, paths, strict=True) if path != name}
  found = {name: conversations.dig(record, path) for name, path in elsewhere.items()}
  for name, path in elsewhere.items():
    if found[name] is None:
      raise ValueError(f'data.pair_paths: nothing at {path!r}; there are {sorted(record)!r:.200}')
  return comparisons.preference(record | found)


def from_documents(
  found: collections.abc.Iterable[types.Document],
  *,
  lower: int,
  upper: int,
  seed: int,
  kinds: collections.abc.Sequence[str] = damages.TRAINED,
  share: tuple[float, float] = (0.0, 1.0),
  every_kind: bool = False,
) -> list[types.Preference]:
  """A pair for each document with an opening of `lower` to `upper` words: original and damaged.

  The request is that of `prompts.from_documents`; those outside `share` are left out, see `is_in`.
  The kind of damage is random among `kinds` (the next kind is used if it changes nothing), or each
  with `every_kind`, and is the pair's `source`.

  Raises ValueError if fewer than two documents have such an opening: nothing can be mixed.
  """
  kept = list(corpus.openings(found, lower, upper))
  if len(kept) < 2:
    raise ValueError(f'{len(kept)} documents with an opening of {lower} to {upper} words; need two')
  preferences = []
  for i, (document, text) in enumerate(kept):
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, i], np.uint64)))
    other = kept[(i + 1 + int(rng.integers(len(kept) - 1))) % len(kept)][1]
    first = int(rng.integers(len(kinds)))
    request = formatted.request(document, text)
    if not is_in(request, share):
      continue
    for kind in (*kinds[first:], *kinds[:first]):
      damaged = damages.DAMAGES[kind](text, rng, other)
      if ''.join(damaged.split()) not in ('', ''.join(text.split())):  # blanks are no damage
        preferences.append(types.Preference(request, text, damaged, kind))
        if not every_kind:
          break
  return preferences


def is_in(request: str, share: tuple[float, float]) -> bool:
  """Whether a request's hash lies in [share[0], share[1]): shares that do not overlap have no
  request in common."""
  return share[0] <= corpus.fraction(request, 'share') < share[1]
