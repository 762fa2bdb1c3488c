"""Tasks in the form of LongGenBench, checked by rules, without a judge; see `evals.longgen`."""

from typing import Any

import numpy as np
from etils import epath

from lwz.evals import longgen, position, records, standings
from lwz.judge import benchmarks
from lwz.store import atomic, record

PARTS = 4  # of an answer, in which completion and accuracy are told apart


def make(c) -> list[dict[str, Any]]:
  """A task of each asked length, kind and language, the shortest first."""
  ways = [(kind, language) for kind in ('diary', 'tower') for language in ('en', 'zh')]
  every = [(length, *way) for length in c.eval.lengths for way in ways]
  num = min(c.eval.prompts or len(every), len(every))
  chosen = [every[i * len(every) // num] for i in range(num)]
  return [longgen.make(*of, c.seed, index) for index, of in enumerate(chosen)]


def load(c, path: epath.Path) -> benchmarks.Loaded:
  """Raises ValueError if no record is a task."""
  found, rejects = records.read(path)
  tasks: dict[int, longgen.Task] = {}
  for where, row in found:
    try:
      task = longgen.parse(row)
      if task.idx in tasks:
        raise ValueError(f'index {task.idx} was there before')
      tasks[task.idx] = task
    except ValueError as error:
      rejects.append(records.Reject(where, str(error)))
  if not tasks:
    raise ValueError(f'{path}: no usable task; the first reject: {rejects[0] if rejects else "-"}')
  kept = list(tasks.values())[: c.eval.prompts or None]
  prompts = {task.idx: task.prompt for task in kept}
  asked = {task.idx: task.length for task in kept}
  return benchmarks.Loaded(kept, prompts, rejects, len(tasks) - len(kept), set(), asked)


def report(c, folder, tasks: list[longgen.Task], names, answered, kept) -> dict[str, Any]:
  """Returns completion and accuracy by system, length and position; checks.jsonl has them all."""
  del kept
  results: dict[str, Any] = {}
  rows, places, lines, plot = [], [], [], []
  for name in names:
    checked = {
      task.idx: longgen.check(task, answered[name][task.idx])
      for task in tasks
      if task.idx in answered[name]
    }
    lengths = sorted({task.length for task in tasks})
    groups = {'all': list(checked)} | {
      f'{length:,}': [t.idx for t in tasks if t.length == length and t.idx in checked]
      for length in lengths
    }
    for group, inside in groups.items():
      metrics = longgen.metrics([checked[index] for index in inside])
      results.setdefault(name, {})[group] = metrics
      rows.append((name, group, len(inside), *metrics.values()))
    by_part = _by_part(checked, c.seed)
    results[name]['position'] = {kind: [p._asdict() for p in of] for kind, of in by_part.items()}
    for kind, points in by_part.items():
      places.append((name, kind, *(point.mean for point in points)))
    kept_of = {i: [bool(kept) for _, kept, _ in of.pairs] for i, of in checked.items()}
    lines += [
      {'index': i, 'system': name, 'there': of.there_U.tolist(), 'kept': kept_of[i]}
      for i, of in checked.items()
    ]
    plot.append((name, *_accuracy(kept_of, c.seed)))
  atomic.write_text(folder / 'checks.jsonl', ''.join(map(record.encode, lines)))
  header = ('system', 'words', 'tasks', *longgen.metrics([]))
  parts = [f'{100 * i // PARTS} to {100 * (i + 1) // PARTS} %' for i in range(PARTS)]
  return {
    'facts': {'judge': 'none', 'checked by': 'rules'},
    'scores': results,
    'faults': [],
    'tables': [
      ('tasks in the form of LongGenBench', header, rows),
      ('by position in the task', ('system', 'share', *parts), places),
    ],
    'plot': plot,
    'unit': 'share of instructions kept, 95 % interval over tasks',
    'covers': (0.0, 1.0),
  }


def _by_part(checked, seed) -> dict[str, list[position.Point]]:
  """Returns completion and accuracy over the number of the unit, as a share of all units."""
  out = {}
  for kind in ('there_U', 'kept_U'):
    scored = {}
    for index, of in checked.items():
      values = getattr(of, kind).astype(float)
      scored[index] = position.Scored((np.arange(len(values)) + 0.5) / len(values), values)
    out['completion' if kind == 'there_U' else 'accuracy'] = position.curve(scored, seed, PARTS)
  return out


def _accuracy(kept_of, seed) -> tuple[float, float, float]:
  rows = [(kept, index) for index, values in kept_of.items() for kept in values]
  values = np.array([kept for kept, _ in rows], float)
  return standings.clustered_mean(values, [index for _, index in rows], seed)
