"""The prompts of evaluations in training: none of them is trained on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from etils import epath

from lwz import types
from lwz.data import heldout_tasks, prompts
from lwz.evals import answers, arena
from lwz.runtime import setup, sources

T = TypeVar('T')


def load(c) -> list[arena.Task]:
  """Returns the tasks of `eval.file` that have baselines."""
  tasks, rejects = arena.load(epath.Path(c.eval.file))
  tasks = [task for task in tasks if task.baselines]
  if not tasks:
    why = rejects[0] if rejects else 'none has a baseline_response'
    raise ValueError(f'{c.eval.file}: no prompt of an Arena-Write with baselines in it: {why}')
  return tasks


def of(c, trained: Sequence[types.Prompt]) -> list[arena.Task]:
  """Returns the tasks, without the prompts in `trained`.

  They are those of `eval.file`; without one, the held-out share of `data.prompts`, which have no
  baselines; without these, held-out titles.
  """
  if c.eval.file:
    found = load(c)
  elif c.data.prompts:
    own = prompts.split(prompts.load(setup.input_file(c, 'data.prompts')), c.data.tested)[1]
    found = [
      arena.Task(idx, prompt.text, prompt.source, (prompt.lower + prompt.upper) // 2, {})
      for idx, prompt in enumerate(own)
    ]
  else:
    records = heldout_tasks.arena(
      sources.heldout(c)[1], lower=c.data.lower, upper=c.data.upper, num=0
    )
    found = [
      arena.Task(r['idx'], r['question'], r['type'], r['length'], r['baseline_response'])
      for r in records
    ]
  known = {_plain(prompt.text) for prompt in trained}
  return [task for task in found if _plain(task.question) not in known]


def with_baselines(
  tasks: Sequence[arena.Task], read: Callable[[], Mapping[int, str]]
) -> list[arena.Task]:
  """Returns the tasks as they are judged: where none has a baseline, against the first answers.

  `read` returns the texts of the first evaluation, by task; tasks without one are left out.
  """
  if any(task.baselines for task in tasks):
    return list(tasks)
  first = read()
  return [
    dataclasses.replace(task, baselines={'start': answers.final(first[task.idx])})
    for task in tasks
    if task.idx in first
  ]


def _plain(text: str) -> str:
  return ' '.join(text.casefold().split())


def spread(tasks: Sequence[T], num: int) -> list[T]:
  """Returns `num` tasks, evenly spaced over the list; all if it is 0."""
  num = min(num or len(tasks), len(tasks))
  return [tasks[i * len(tasks) // num] for i in range(num)]
