"""Marks of single answers at the last evaluation of a run, which compare runs by prompt."""

from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from lwz import jsonl
from lwz.store import atomic, record


def write(folder: epath.PathLike, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
  """Writes `by_prompt.jsonl` in the folder of evaluations, in place of an earlier step's.

  A row has mode, prompt, and marks by name, NaN or None where an answer has none.
  """
  text = ''.join(record.encode({**row, 'step': int(step)}) for row in rows)
  path = epath.Path(folder) / 'by_prompt.jsonl'
  path.parent.mkdir(parents=True, exist_ok=True)
  atomic.write_text(path, text)


def step(folder: epath.PathLike) -> int:
  """Returns the step of the marks in the folder of evaluations, -1 without any."""
  path = epath.Path(folder) / 'by_prompt.jsonl'
  found = jsonl.read(path, skip='last')[0] if path.exists() else []
  return max((int(row['step']) for row in found), default=-1)


def read(run: epath.PathLike) -> dict[str, dict[str, float]]:
  """Returns the marks of a run's last evaluation by metric, as 'eval/referee/sampled', and prompt.

  They are {} for a run without them; an answer without a mark is left out.
  """
  path = epath.Path(run) / 'evaluations' / 'by_prompt.jsonl'
  found: dict[str, dict[str, float]] = {}
  for row in jsonl.read(path, skip='last')[0] if path.exists() else ():
    for name, value in row.items():
      if name not in ('mode', 'prompt', 'step') and isinstance(value, int | float):
        found.setdefault(f'eval/{name}/{row["mode"]}', {})[row['prompt']] = float(value)
  return found
