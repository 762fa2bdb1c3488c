"""Conversations in Parquet files (WildChat-1M, LMSYS-Chat-1M), read by column.

Only the first request of a conversation becomes a Python object; the rest stays in Arrow arrays.
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
)
_INNER = ('content', 'role', 'value', 'from', 'language', 'toxic', 'redacted', 'flagged')
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
      schema = file.schema_arrow
    except broken as error:
      yield conversations.Row(path.name, 0, fault=_say('unreadable file', error))
      return
    columns = None if any(paths) else _wanted(file)
    fast = not any(paths) and _is_plain(schema)
    start = 0
    for group in range(file.num_row_groups):
      facts = file.metadata.row_group(group)
      size = int(np.clip(_BYTES * facts.num_rows // max(1, facts.total_byte_size), 1, _ROWS))
      number = start
      start += facts.num_rows
      try:
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
          yield from (
            _fast(batch, path.name, number) if fast else _slow(batch, path.name, number, paths)
          )
          number += batch.num_rows
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
    if top in _COLUMNS and (not inner or top == 'range' or inner.split('.')[-1] in _INNER):
      wanted.append(name)
  return wanted


def _is_plain(schema: Any) -> bool:
  """Whether the columns that exist have the types of the two known data sets."""
  import pyarrow as pa

  def is_text(kind) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)

  def is_list(kind) -> bool:
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_struct(
      kind.value_type
    )

  kinds = {field.name: field.type for field in schema}
  if len(kinds) != len(schema.names) or not is_list(kinds.get('conversation', pa.null())):
    return False
  inner = {field.name: field.type for field in kinds['conversation'].value_type}
  checks = [is_text(inner.get('content', pa.null())), is_text(inner.get('role', pa.null()))]
  checks += [is_text(kinds[k]) for k in ('language', *conversations.IDS[:2]) if k in kinds]
  checks += [is_text(inner[k]) for k in ('language',) if k in inner]
  checks += [pa.types.is_boolean(kinds[k]) for k in ('toxic', 'redacted') if k in kinds]
  checks += [pa.types.is_boolean(inner[k]) for k in ('toxic', 'redacted') if k in inner]
  if 'openai_moderation' in kinds:
    checks.append(is_list(kinds['openai_moderation']))
    if checks[-1]:
      flags = {field.name: field.type for field in kinds['openai_moderation'].value_type}
      checks.append('flagged' not in flags or pa.types.is_boolean(flags['flagged']))
  others = {*conversations.TURNS[1:3], *conversations.IDS[2:], 'lang', 'lower', 'upper', 'range'}
  return all(checks) and not others & kinds.keys()


def _slow(batch, file: str, number: int, paths) -> Iterator[conversations.Row]:
  """The rows of a batch of any schema, through Python records."""
  for i in range(batch.num_rows):
    try:
      (record,) = batch.slice(i, 1).to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
      yield conversations.Row(file, number + i, fault=_say('unreadable row', error))
      continue
    yield conversations.from_record(record, file, number + i, paths)


def _fast(batch, file: str, number: int) -> Iterator[conversations.Row]:
  """The rows of a batch of the schema of `_is_plain`; first user turns come from list offsets."""
  import pyarrow as pa
  import pyarrow.compute as pc

  columns = dict(zip(batch.schema.names, batch.columns, strict=True))
  turns = columns['conversation']
  first, last = _spans(turns)
  role = pc.utf8_lower(pc.struct_field(turns.values, 'role'))
  asks = _truth(pc.is_in(role, value_set=pa.array(conversations.USERS, role.type)))
  users = np.append(np.flatnonzero(asks), len(asks))
  where = users[np.searchsorted(users, first)]
  missing = where >= last
  index = pa.array(np.where(missing, 0, where), mask=missing)
  inner = {field.name for field in turns.type.value_type}

  def of_turn(name: str):
    return pc.struct_field(turns.values, name).take(index) if name in inner else None

  flagged = _truth(columns.get('toxic'), len(first))
  if 'toxic' in inner:
    flagged |= _any(pc.struct_field(turns.values, 'toxic'), first, last)
  moderation = columns.get('openai_moderation')
  if moderation is not None and moderation.type.value_type.get_field_index('flagged') >= 0:
    flagged |= _any(pc.struct_field(moderation.values, 'flagged'), *_spans(moderation))
  redacted = _truth(columns.get('redacted'), len(first))
  redacted |= _truth(of_turn('redacted'), len(first))
  content = of_turn('content')
  there = _truth(content.is_valid())
  key = next((columns[k] for k in conversations.IDS[:2] if k in columns), None)
  texts, keys, tags, other_tags = (
    _decoded(column, len(first))
    for column in (content, key, columns.get('language'), of_turn('language'))
  )
  for i, text in enumerate(texts):
    if text is None:
      fault = 'not UTF-8' if there[i] else conversations.NOTHING
      yield conversations.Row(file, number + i, key=keys[i] or '', fault=fault)
      continue
    yield conversations.Row(
      file,
      number + i,
      text=text,
      key=keys[i] or '',
      language=tags[i] or other_tags[i] or '',
      held='flagged' if flagged[i] else 'redacted' if redacted[i] else '',
    )


def _spans(lists) -> tuple[np.ndarray, np.ndarray]:
  """Begin and end of each list in `lists.values`; a null list is empty."""
  offsets = np.asarray(lists.offsets)
  first, last = offsets[:-1], offsets[1:]
  return first, np.where(_truth(lists.is_valid()), last, first)


def _truth(column, num: int = 0) -> np.ndarray:
  """A column of booleans; null and a missing column are False."""
  if column is None:
    return np.zeros(num, bool)
  return column.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)


def _any(flags, first: np.ndarray, last: np.ndarray) -> np.ndarray:
  """Whether any flag of each span is set."""
  total = np.concatenate([[0], np.cumsum(_truth(flags))])
  return total[last] > total[first]


def _decoded(column, num: int) -> list[str | None]:
  """The texts of an array; None for null and for invalid UTF-8."""
  import pyarrow as pa

  if column is None:
    return [None] * num
  try:
    return column.to_pylist()
  except UnicodeDecodeError:
    large = pa.types.is_large_string(column.type)
    found = []
    for value in column.cast(pa.large_binary() if large else pa.binary()).to_pylist():
      try:
        found.append(None if value is None else value.decode())
      except UnicodeDecodeError:
        found.append(None)
    return found
