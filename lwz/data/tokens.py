"""Token ids of documents on disk: encoded once, memory-mapped, in pieces that fit a row.

A folder of parts, such as 'train':

    train.ids    the ids of all documents, one after another, as uint16 or uint32
    train.ends   int64, where each piece ends: a document, or a row of a longer one
    tokens.json  counts, and what the ids were made from
"""

import collections.abc
import json
import pathlib
import shutil
from typing import Any

import numpy as np

from lwz import jsonl

_INDEX = 'tokens.json'


class Tokens(collections.abc.Sequence[np.ndarray]):
  """Pieces of token ids: `tokens[i]`, int32, is read from the disk when it is asked for.

  `heads`, where given, has the number of tokens of each piece that are no answer.
  """

  def __init__(self, ids: np.ndarray, ends: np.ndarray, num_documents: int, heads=None):
    self._ids, self._ends, self._heads = ids, ends, heads
    self.num_documents = num_documents

  def element(self, index) -> dict[str, np.ndarray]:
    """Returns the `ids` of a piece and, where it has a head, 1 for each token of its `answer`."""
    ids = self[index]
    if self._heads is None:
      return {'ids': ids}
    return {'ids': ids, 'answer': (np.arange(len(ids)) >= self._heads[index]).astype(np.int32)}

  @property
  def num_tokens(self) -> int:
    return len(self._ids)

  def __len__(self) -> int:
    return len(self._ends)

  def __getitem__(self, index):
    if not 0 <= index < len(self):
      raise IndexError(index)
    start = self._ends[index - 1] if index else 0
    return np.asarray(self._ids[start : self._ends[index]], np.int32)


def of_answers(
  heads: collections.abc.Sequence[collections.abc.Sequence[int]],
  answers: collections.abc.Sequence[collections.abc.Sequence[int]],
) -> Tokens:
  """Returns ids in memory: a piece for each prompt and its answer."""
  pieces = [np.array([*pair[0], *pair[1]], np.int32) for pair in zip(heads, answers, strict=True)]
  ids = np.concatenate([np.zeros(0, np.int32), *pieces])
  return Tokens(
    ids, np.cumsum([*map(len, pieces)], dtype=np.int64), len(pieces), [*map(len, heads)]
  )


def write(
  folder: pathlib.Path,
  chunks: collections.abc.Iterable[
    tuple[str, int, collections.abc.Iterable[collections.abc.Sequence[int]]]
  ],
  *,
  row_length: int,
  num_ids: int,
  key: dict[str, Any],
) -> None:
  """Writes the ids of documents, in chunks of (part, number of documents, ids of each).

  A document longer than a row is cut into rows. An earlier folder is replaced when the new one is
  complete. `key` says what the ids were made from, for `is_current`.
  """
  partial = folder.with_name(f'{folder.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  dtype = np.uint16 if num_ids <= 1 << 16 else np.uint32
  counts: dict[str, int] = {}
  ends: dict[str, int] = {}
  for part, num_documents, documents in chunks:
    counts[part] = counts.get(part, 0) + num_documents
    ends.setdefault(part, 0)
    with (partial / f'{part}.ids').open('ab') as ids, (partial / f'{part}.ends').open('ab') as to:
      for document in documents:
        np.asarray(document, dtype).tofile(ids)
        lengths = [row_length] * (len(document) // row_length)
        lengths += [len(document) % row_length] if len(document) % row_length else []
        (ends[part] + np.cumsum(lengths, dtype=np.int64)).tofile(to)
        ends[part] += len(document)
  index = {'key': key, 'dtype': np.dtype(dtype).name, 'documents': counts, 'tokens': ends}
  (partial / _INDEX).write_text(json.dumps(index))
  shutil.rmtree(folder, ignore_errors=True)
  partial.rename(folder)


def is_current(folder: pathlib.Path, key: dict[str, Any]) -> bool:
  """Whether a folder holds what `key` describes, whole."""
  try:
    load(folder)
    return _index(folder)['key'] == key
  except (OSError, ValueError):
    return False


def load(folder: pathlib.Path) -> dict[str, Tokens]:
  """Returns the parts; raises OSError if there is no such folder, ValueError if it is damaged."""
  index = _index(folder)
  found = {}
  for part, num_documents in index['documents'].items():
    ids = _mapped(folder / f'{part}.ids', index['dtype'])
    ends = _mapped(folder / f'{part}.ends', np.int64)
    if not len(ids) == index['tokens'].get(part) == (ends[-1] if len(ends) else 0):
      raise ValueError(f'{folder}: the tokens of {part!r} are cut short; delete the folder')
    found[part] = Tokens(ids, ends, num_documents)
  return found


def _index(folder: pathlib.Path) -> dict[str, Any]:
  fields = {'key': dict, 'dtype': str, 'documents': dict, 'tokens': dict}
  return jsonl.document(folder / _INDEX, fields, remedy='delete the folder')


def _mapped(path: pathlib.Path, dtype: Any) -> np.ndarray:
  # An empty file cannot be mapped.
  return np.memmap(path, dtype, 'r') if path.stat().st_size else np.zeros(0, dtype)
