"""Conversations in Parquet files (WildChat-1M, LMSYS-Chat-1M): only the columns that are needed.

Needs `pip install lwz[data]`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from lwz.data.funnel import conversations

_COLUMNS = (
  *conversations.TURNS[:3],
  *conversations.IDS,
  *('language', 'lang', 'toxic', 'redacted', 'openai_moderation', 'lower', 'upper', 'range'),
  *conversations.MEDIA,
)
_INNER = (
  *('text', 'type', *conversations.USERS),
  *('content', 'role', 'value', 'from', 'language', 'toxic', 'redacted', 'flagged'),
)
_BYTES = 32 << 20  # of a batch, by the sizes in the file's metadata
_ROWS = 2_048  # of a batch, at most


def read(
  path: epath.PathLike, paths: conversations.Paths = conversations.GUESSED
) -> Iterator[conversations.Row]:
  """The rows of a Parquet file, equal to those of `conversations.from_record`.

  A file that cannot be opened (truncated, another format) is one row with a `fault`; an unreadable
  row group is one such row for each of its rows.

  Raises:
    ModuleNotFoundError: pyarrow is not installed.
  """
  try:
    import pyarrow as pa
    from pyarrow import parquet
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError('Parquet files need pyarrow: pip install lwz[data]') from error

  path = epath.Path(path)
  broken = (pa.ArrowException, OSError, ValueError, MemoryError)
  try:
    handle = path.open('rb')
  except OSError as error:
    yield conversations.Row(path.name, 0, fault=f'unreadable file: {error}')
    return
  with handle:
    try:
      file = parquet.ParquetFile(handle)
    except broken as error:
      yield conversations.Row(path.name, 0, fault=_say('unreadable file', error))
      return
    columns = None if any(paths) else _wanted(file)
    start = 0
    for group in range(file.num_row_groups):
      facts = file.metadata.row_group(group)
      size = int(np.clip(_BYTES * facts.num_rows // max(1, facts.total_byte_size), 1, _ROWS))
      number = start
      start += facts.num_rows
      try:
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
          for record in _records(batch):
            if isinstance(record, Exception):
              yield conversations.Row(path.name, number, fault=_say('unreadable row', record))
            else:
              yield conversations.from_record(record, path.name, number, paths)
            number += 1
      except broken as error:
        fault = _say('unreadable row group', error)
        # A damaged file may claim any number of rows; it cannot have more rows than bytes.
        for left in range(number, min(start, number + path.stat().length)):
          yield conversations.Row(path.name, left, fault=fault)


def _say(what: str, error: BaseException) -> str:
  return f'{what}: {" ".join(str(error).split())}'[:160]


def _wanted(file: Any) -> list[str] | None:
  """Dotted paths of the columns to decode; of nested columns, only the fields that are read."""
  names = [file.schema.column(i).path for i in range(len(file.schema))]
  tops = {name.split('.')[0] for name in names}
  turns = [key for key in conversations.TURNS[:3] if key in tops]
  if not turns:
    return None  # another schema: all columns
  wanted = []
  for name in names:
    top, _, inner = name.partition('.')
    if top in _COLUMNS and (
      not inner or top in ('range', *conversations.MEDIA) or inner.split('.')[-1] in _INNER
    ):
      wanted.append(name)
  return wanted


def _records(batch) -> Iterator[Any]:
  """The rows of a batch as Python objects; of one that cannot be decoded, the error."""
  try:
    yield from batch.to_pylist()
  except (ValueError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
    if batch.num_rows == 1:
      yield error
      return
    for i in range(batch.num_rows):
      yield from _records(batch.slice(i, 1))
