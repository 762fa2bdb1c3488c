"""The prompts of evaluations in training: none of them is trained on."""

from collections.abc import Sequence

from etils import epath

from lwz import types
from lwz.data import heldout_tasks
from lwz.evals import arena
from lwz.runtime import setup


def load(c) -> list[arena.Task]:
  """Returns the tasks of `eval.file` that have baselines."""
  tasks, rejects = arena.load(epath.Path(c.eval.file))
  tasks = [task for task in tasks if task.baselines]
  if not tasks:
    why = rejects[0] if rejects else 'none has a baseline_response'
    raise ValueError(f'{c.eval.file}: no prompt of an Arena-Write with baselines in it: {why}')
  return tasks


def of(c, trained: Sequence[types.Prompt]) -> list[arena.Task]:
  """Returns the tasks of the file, or of held-out titles, without the prompts in `trained`."""
  if c.eval.file:
    found = load(c)
  else:
    records = heldout_tasks.arena(
      setup.heldout(c)[1], lower=c.data.lower, upper=c.data.upper, num=0
    )
    found = [
      arena.Task(r['idx'], r['question'], r['type'], r['length'], r['baseline_response'])
      for r in records
    ]
  known = {_plain(prompt.text) for prompt in trained}
  return [task for task in found if _plain(task.question) not in known]


def _plain(text: str) -> str:
  return ' '.join(text.casefold().split())


def spread(tasks: Sequence[arena.Task], num: int) -> list[arena.Task]:
  """Returns `num` tasks, evenly spaced over the list; all if it is 0."""
  num = min(num or len(tasks), len(tasks))
  return [tasks[i * len(tasks) // num] for i in range(num)]
