"""Conversations in Parquet files (WildChat-1M, LMSYS-Chat-1M): only the columns that are needed.

Needs `pip install lwz[data]`.
"""

from collections.abc import Iterator
from typing import Any

from etils import epath

from lwz.data import parquet
from lwz.data.funnel import conversations

_COLUMNS = (
  *(*conversations.TURNS, *conversations.TEXTS, *conversations.ADDED, *conversations.IDS),
  *('language', 'lang', 'toxic', 'redacted', 'openai_moderation', 'lower', 'upper', 'range'),
  *conversations.MEDIA,
)
_INNER = (
  *('text', 'type', *conversations.USERS),
  *('content', 'role', 'value', 'from', 'language', 'toxic', 'redacted', 'flagged'),
)


def read(
  path: epath.PathLike, paths: conversations.Paths = conversations.GUESSED
) -> Iterator[conversations.Row]:
  """The rows of a Parquet file, equal to those of `conversations.from_record`.

  What cannot be read is a row with a `fault`; see `parquet.records` for what is raised.
  """
  name = epath.Path(path).name
  for line in parquet.records(path, (lambda file: None) if any(paths) else _wanted):
    if line.fault:
      yield conversations.Row(name, line.number, fault=line.fault)
    else:
      yield conversations.from_record(line.record, name, line.number, paths)


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
