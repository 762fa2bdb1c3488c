"""A table as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from lwz.report import number


def markdown(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """Returns the table under its caption; numbers by `number.show`, bars and line ends escaped."""
  lines = [header, ['---'] * len(header), *rows]
  return f'**{caption}**\n\n' + ''.join(f'| {" | ".join(map(_cell, line))} |\n' for line in lines)


def _cell(value: Any) -> str:
  return ' '.join(number.show(value).split()).replace('|', '\\|')
