"""Benchmarks: one module each, with three functions, and a line in the table of `stages.evaluate`.

    make(c) -> records         a small one, in the schema of the published
    load(c, path) -> `Loaded`
    report(c, folder, content, names, answered, kept) -> the sections of results.json

`answered` is {system: {index: answer}}, `kept` the journal of what the judge has said. Of the
sections these must be there: `facts` {name: value}, with `judge` where none is asked, `faults` (why
the judge failed, [] if it did not), and, for the report alone, `tables` [(title, header, rows)], of
which the first is printed,
`plot` [(system, value, low, high)], NaN for no interval, its `unit`, and `covers`, the range that
its axis shows at least; `lower_is_better` where it is so. Each verdict on whole answers is written
to judgements.jsonl with what it is about, and the `digest` of each answer, by which two judges are
compared.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etils import epath

from lwz.data import heldout_tasks
from lwz.data.funnel import stated_length
from lwz.evals import arena as arena_lib
from lwz.judge import journal
from lwz.runtime import sources

JUDGEMENTS = 'judgements.jsonl'


def digest(*texts: str) -> list[str]:
  """Returns what tells answers apart, for `answers` in a line of judgements.jsonl."""
  return [journal.key(text)[:16] for text in texts]


class Loaded(NamedTuple):
  """A benchmark: what its `report` reads, and the prompts of it that are asked, by index."""

  content: Any
  prompts: dict[int, str]
  rejects: list
  left_out: int  # prompts beyond eval.prompts
  baselines: set[str]  # names that no system may have
  asked: Mapping[int, int]  # words that the prompts ask for, 0 for none


def titles(c, make: Callable[..., list[dict[str, Any]]] = heldout_tasks.arena):
  """Returns records of held-out titles, with answers of the lengths of the corpus' passages."""
  limits = {'lower': c.data.lower, 'upper': c.data.upper}
  return make(sources.heldout(c)[1], **limits, num=c.eval.prompts)


def asked_words(text: str) -> int:
  """Returns the words that a request asks for, 0 for none.

  A bound is no length to meet: 'at least 500 words' is kept by 5,000 as well.
  """
  said = stated_length.find(text)
  return said.high if said and said.kind == 'about' else 0


def tasks(c, path: epath.Path) -> Loaded:
  """Returns the first tasks of a file in the schema of Arena-Write or LongBench-Write.

  One without a length has that which its request states. Raises ValueError if no record is usable.
  """
  every, rejects = arena_lib.load(path)
  if not every:
    raise ValueError(f'{path}: no usable record; the first: {rejects[0] if rejects else "-"}')
  kept = [
    dataclasses.replace(task, length=task.length or asked_words(task.question))
    for task in every[: c.eval.prompts or None]
  ]
  prompts = {task.idx: task.question for task in kept}
  baselines = {name for task in kept for name in task.baselines}
  asked = {task.idx: task.length for task in kept}
  return Loaded(kept, prompts, rejects, len(every) - len(kept), baselines, asked)
