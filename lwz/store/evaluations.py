"""Evaluations of a run: a record per evaluated step in evaluations.jsonl, once it is judged.

A record has `step`, `time`, `policy` (the checksum of the parameters that were evaluated), `fault`,
its metrics, whose names begin with 'eval/', and `positions`: the mean of a measure in each part of
the answers, by the measure's name.
"""

import numbers
import time
from typing import Any

from etils import epath

from lwz import jsonl
from lwz.store import atomic, record

_PREFIX = 'eval/'


def read(folder: epath.PathLike) -> dict[int, dict[str, Any]]:
  """Returns the records of a run by step, in their order; {} of a run without any.

  Of two of a step the later counts; a torn last line is left out. Raises ValueError for a broken
  line.
  """
  path = epath.Path(folder) / 'evaluations.jsonl'
  found = jsonl.read(path, _checked, skip='last')[0] if path.exists() else []
  by_step = {one['step']: one for one in found}
  return {step: by_step[step] for step in sorted(by_step)}


def write(folder: epath.PathLike, step: int, values: dict[str, Any]) -> dict[str, Any]:
  """Writes the record of a step, in place of an earlier one; returns it. On disk at the end."""
  one = record.plain({'step': int(step), 'time': time.time(), **values})
  _write(folder, {**read(folder), step: one})
  return one


def drop(folder: epath.PathLike, step: int) -> None:
  """Drops the record of a step, if there is one."""
  kept = read(folder)
  if kept.pop(step, None):
    _write(folder, kept)


def _write(folder: epath.PathLike, by_step: dict[int, dict[str, Any]]) -> None:
  text = ''.join(record.encode(by_step[key]) for key in sorted(by_step))
  atomic.write_text(epath.Path(folder) / 'evaluations.jsonl', text)


def metrics(folder: epath.PathLike) -> dict[int, dict[str, float | None]]:
  """Returns the metrics of each evaluated step; a null is None."""
  return {step: of(one) for step, one in read(folder).items()}


def of(one: dict[str, Any]) -> dict[str, float | None]:
  """Returns the metrics of a record."""
  return {name: value for name, value in one.items() if name.startswith(_PREFIX)}


def _checked(found: dict[str, Any]) -> dict[str, Any]:
  """Returns the record; raises ValueError without a step, or if a metric is no number or null."""
  jsonl.field(found, 'step', int)
  for name, value in of(found).items():
    if value is not None:
      jsonl.field(found, name, numbers.Real)
  positions = jsonl.field(found, 'positions', dict) if 'positions' in found else {}
  for name, parts in positions.items():
    if not isinstance(parts, list) or not all(_is_number(x) for x in parts):
      raise ValueError(f'positions of {name!r} are no list of numbers')
  return found


def _is_number(value: Any) -> bool:
  return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
