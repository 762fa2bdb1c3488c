"""Packing of sequences of many lengths into rows of one length.

A row holds several sequences one after the other; `segments` numbers them from 1 (0 is padding) and
`positions` restarts in each. Padding is told by segments and lengths, never by token values.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rows:
  """B sequences packed into N rows of T tokens; sequence b begins at (`row_B[b]`, `offset_B[b]`).

  >>> rows = lay([[5, 6, 7], [8, 9]], row_length=6, num_rows=1)
  >>> rows.ids.tolist(), rows.segments.tolist(), rows.positions.tolist()
  ([[5, 6, 7, 8, 9, 0]], [[1, 1, 1, 2, 2, 0]], [[0, 1, 2, 0, 1, 0]])
  """

  ids: np.ndarray  # int32 [N, T]
  segments: np.ndarray  # int32 [N, T]
  positions: np.ndarray  # int32 [N, T]
  row: np.ndarray  # int32 [B]
  offset: np.ndarray  # int32 [B]

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns what a program reads of the rows."""
    return {'ids': self.ids, 'segments': self.segments, 'positions': self.positions}


def first_fit_decreasing(lengths: Sequence[int], row_length: int) -> list[list[int]]:
  """Returns indices of sequences by row: longest first, each in the first row with enough space."""
  if lengths and max(lengths) > row_length:
    worst = int(np.argmax(lengths))
    raise ValueError(
      f'sequence {worst} has {lengths[worst]} tokens, a row only {row_length}: '
      'raise the row length or shorten prompts and answers'
    )
  rows: list[list[int]] = []
  space: list[int] = []
  for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
    for r, free in enumerate(space):
      if lengths[index] <= free:
        rows[r].append(index)
        space[r] -= lengths[index]
        break
    else:
      rows.append([index])
      space.append(row_length - lengths[index])
  return rows


def lay(sequences: Sequence[Sequence[int]], *, row_length: int, num_rows: int) -> Rows:
  """Packs sequences into exactly `num_rows` rows (empty ones at the end).

  One row per sequence always suffices. Raises ValueError if first-fit-decreasing needs more rows.
  """
  packed = first_fit_decreasing([len(s) for s in sequences], row_length)
  if len(packed) > num_rows:
    raise ValueError(f'{len(packed)} rows of {row_length} tokens are needed, {num_rows} given')
  return place(sequences, packed, row_length=row_length, num_rows=num_rows)


def place(
  sequences: Sequence[Sequence[int]],
  packed: Sequence[Sequence[int]],
  *,
  row_length: int,
  num_rows: int,
) -> Rows:
  """Returns the sequences in rows as packed: `packed[r]` names those of row r, in their order."""
  ids = np.zeros((num_rows, row_length), np.int32)
  segments = np.zeros_like(ids)
  positions = np.zeros_like(ids)
  row = np.zeros(len(sequences), np.int32)
  offset = np.zeros(len(sequences), np.int32)
  for r, members in enumerate(packed):
    start = 0
    for segment, index in enumerate(members, start=1):
      end = start + len(sequences[index])
      ids[r, start:end] = sequences[index]
      segments[r, start:end] = segment
      positions[r, start:end] = np.arange(end - start)
      row[index], offset[index] = r, start
      start = end
  return Rows(ids, segments, positions, row, offset)


def batches(
  sequences: Sequence[Sequence[int]], *, row_length: int, num_rows: int
) -> Iterator[tuple[list[int], Rows]]:
  """Yields any number of sequences in batches of `num_rows` rows: (indices, their rows).

  Those that are longer than a row are left out.
  """
  fitting = [i for i, ids in enumerate(sequences) if len(ids) <= row_length]
  packed = first_fit_decreasing([len(sequences[i]) for i in fitting], row_length)
  for start in range(0, len(packed), num_rows):
    members = [fitting[i] for row in packed[start : start + num_rows] for i in row]
    found = [sequences[i] for i in members]
    yield members, lay(found, row_length=row_length, num_rows=num_rows)


def num_used(rows: Rows) -> int:
  """Returns the number of rows with at least one token."""
  return int((rows.segments > 0).any(axis=1).sum())


def length_mask(lengths_B: np.ndarray, num_tokens: int) -> np.ndarray:
  """Returns bool [B, T], tokens within the lengths: `length_mask([1], 2) == [[True, False]]`."""
  return np.arange(num_tokens)[None, :] < np.asarray(lengths_B)[:, None]


def bucket(length: int, step: int) -> int:
  """Returns `length` rounded up to a multiple of `step`: few shapes, few compilations."""
  return -(-length // step) * step
