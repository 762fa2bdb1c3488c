"""Records of Parquet files, in batches of bounded memory. Needs `pip install lwz[data]`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl

_BYTES = 32 << 20  # of a batch, by the sizes in the file's metadata
_ROWS = 2_048  # of a batch, at most


def records(
  path: epath.PathLike, wanted: Callable[[Any], list[str] | None] = lambda file: None
) -> Iterator[jsonl.Line]:
  """The rows of a file, numbered from 0.

  A file that cannot be opened (truncated, another format) is one row with a `fault`; an unreadable
  row group is one such row for each of its rows. `wanted` returns the columns to decode of a file,
  None for all.

  Raises:
    ModuleNotFoundError: pyarrow is not installed.
  """
  try:
    import pyarrow as pa
    from pyarrow import parquet
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f'{path}: Parquet files need pyarrow: pip install "lwz[data]"'
    ) from error

  path = epath.Path(path)
  broken = (pa.ArrowException, OSError, ValueError, MemoryError)
  try:
    jsonl.check_regular(path)
    handle = path.open('rb')
  except (OSError, ValueError) as error:
    yield jsonl.Line(0, b'', {}, f'unreadable file: {error}')
    return
  with handle:
    try:
      file = parquet.ParquetFile(handle)
    except broken as error:
      yield jsonl.Line(0, b'', {}, _say('unreadable file', error))
      return
    columns = wanted(file)
    start = 0
    for group in range(file.num_row_groups):
      facts = file.metadata.row_group(group)
      size = int(np.clip(_BYTES * facts.num_rows // max(1, facts.total_byte_size), 1, _ROWS))
      number = start
      start += facts.num_rows
      try:
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
          for record in _decoded(batch):
            if isinstance(record, Exception):
              yield jsonl.Line(number, b'', {}, _say('unreadable row', record))
            else:
              yield jsonl.Line(number, b'', record)
            number += 1
      except broken as error:
        fault = _say('unreadable row group', error)
        # A damaged file may claim any number of rows; it cannot have more rows than bytes.
        for left in range(number, min(start, number + path.stat().length)):
          yield jsonl.Line(left, b'', {}, fault)


def _say(what: str, error: BaseException) -> str:
  return f'{what}: {" ".join(str(error).split())}'[:160]


def _decoded(batch) -> Iterator[Any]:
  """The rows of a batch as Python objects; of one that cannot be decoded, the error."""
  try:
    yield from batch.to_pylist()
  except (ValueError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
    if batch.num_rows == 1:
      yield error
      return
    for i in range(batch.num_rows):
      yield from _decoded(batch.slice(i, 1))
