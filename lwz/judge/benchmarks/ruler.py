"""The ruler: asked against produced length, without a judge; see `evals.ruler`."""

from typing import Any

from etils import epath

from lwz.evals import arena, lengths, ruler
from lwz.judge import benchmarks


def make(c) -> list[dict[str, Any]]:
  return ruler.records(c.eval.lengths, c.eval.prompts)


def load(c, path: epath.Path) -> benchmarks.Loaded:
  """Reads LongWriter's schema: prompt, type, length.

  Raises ValueError where a record has no length, and its request states none.
  """
  loaded = benchmarks.tasks(c, path)
  if missing := [task.idx for task in loaded.content if not task.length]:
    raise ValueError(
      f"{path}: {len(missing)} records have no 'length', of index {missing[:3]}, and their request "
      'states none; add the words that are asked for'
    )
  return loaded


def report(c, folder, tasks: list[arena.Task], names, answered, kept) -> dict[str, Any]:
  """Returns the length score; the table of lengths that every evaluation has says the rest."""
  del folder, kept
  asked = {task.idx: task.length for task in tasks}
  rows = {name: lengths.by_length(asked, answered[name], (), c.seed)[0] for name in names}
  return {
    'facts': {'judge': 'none'},
    'faults': [],
    'tables': [],
    'plot': [(name, row['S_l'], row['low'], row['high']) for name, row in rows.items()],
    'unit': 'length score S_l, 0 to 100, 95 % interval over requests',
    'covers': (0.0, 100.0),
  }
