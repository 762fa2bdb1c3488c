"""Batches of packed documents for pretraining, as checkpointable grain iterators."""

import collections.abc
import itertools
import math
from typing import Any

import grain
import numpy as np

from lwz.data import tokens

Batch = dict[str, np.ndarray]

# Rows packed at a time: more rows leave less padding.
_NUM_BINS = 32


def pretrain(
  plain: tokens.Tokens,
  formatted: tokens.Tokens,
  *,
  share: float,
  row_length: int,
  num_rows: int,
  seed: int,
  pad_id: int,
) -> grain.IterDataset:
  """An endless stream of batches of packed documents.

  Each batch has `ids` (int32 [N, T]), `segments` (int32 [N, T]: 1, 2, ... for the documents of a
  row, 0 for padding) and `positions` (int32 [N, T]: from 0 in each document), N being `num_rows`
  and T `row_length`. Pieces of documents come in a new order in each epoch; none is split between
  rows. Iterators have `get_state()`, which returns JSON, and `set_state()`, after which an iterator
  continues exactly as the original would, at once: the order is a function of seed and place.

  `plain` and `formatted` are token ids of documents, each with its end token, and are read when
  they are needed; on average `share` of all tokens are of formatted ones. Batches of pieces with
  heads have `answer`, too (int32 [N, T]: 1 for tokens of answers). Raises ValueError for a
  share outside [0, 1], or a part with a positive share and no tokens.
  """
  if not 0 <= share <= 1:
    raise ValueError(f'share is a share of tokens, in [0, 1], not {share}')
  datasets, weights = [], []
  parts = (('plain', plain, 1 - share), ('formatted', formatted, share))
  for i, (name, pieces, part) in enumerate(parts):
    if part > 0:
      if not pieces:
        raise ValueError(f'no tokens in the {name} documents, whose share is {part:g}')
      # Grain samples documents, but `share` counts tokens: divide by the mean length.
      weights.append(part / (pieces.num_tokens / len(pieces)))
      source = grain.MapDataset.source(_Elements(pieces)).seed(2 * seed + i)
      datasets.append(source.shuffle().repeat(None))
  mixed = grain.MapDataset.mix(datasets, weights=[weight / sum(weights) for weight in weights])
  packed = _packed(mixed, row_length, pad_id, seed=seed, shuffle=True)
  return packed.batch(num_rows, drop_remainder=True).map(_named)


def heldout(
  pieces: tokens.Tokens, *, row_length: int, num_rows: int, num_batches: int, pad_id: int
) -> list[Batch]:
  """The first pieces, packed in order, as at most `num_batches` batches like `pretrain`'s.

  If all of them are in, each is there once, and the last batch is padded. Raises ValueError if
  there are no tokens.
  """
  if not pieces:
    raise ValueError('no tokens in the held-out documents')
  source = grain.MapDataset.source(_Elements(pieces))
  packed = _packed(source, row_length, pad_id, seed=0, shuffle=False)
  rows = list(map(_named, itertools.islice(packed, num_batches * num_rows)))
  padding = {name: np.zeros_like(value) for name, value in rows[0].items()}
  padding['ids'] = np.full_like(padding['ids'], pad_id)
  rows += [padding] * (math.ceil(len(rows) / num_rows) * num_rows - len(rows))
  return [
    {name: np.stack([row[name] for row in rows[i : i + num_rows]]) for name in rows[0]}
    for i in range(0, len(rows), num_rows)
  ]


class _Elements(collections.abc.Sequence):
  """Pieces as elements of grain."""

  def __init__(self, pieces: tokens.Tokens):
    self._pieces = pieces

  def __len__(self) -> int:
    return len(self._pieces)

  def __getitem__(self, index):
    return self._pieces.element(index)


def _packed(
  dataset: grain.MapDataset, row_length: int, pad_id: int, *, seed: int, shuffle: bool
) -> grain.IterDataset:
  """Rows of whole documents (first-fit packing)."""
  names = tuple(dataset[0])
  # All data is in memory or mapped, so prefetching threads would only cost time.
  options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  return grain.experimental.FirstFitPackIterDataset(
    dataset.to_iter_dataset(options),
    length_struct=dict.fromkeys(names, row_length),
    num_packing_bins=_NUM_BINS,
    padding_struct=dict.fromkeys(names, 0) | {'ids': pad_id},
    seed=seed,
    shuffle_bins=shuffle,
  )


def _named(element: dict[str, Any]) -> Batch:
  """A batch of grain, with our names for its arrays."""
  names = {'ids': 'ids', 'segments': 'ids_segment_ids', 'positions': 'ids_positions'}
  names |= {'answer': 'answer'} if 'answer' in element else {}
  return {name: element[theirs].astype(np.int32) for name, theirs in names.items()}
