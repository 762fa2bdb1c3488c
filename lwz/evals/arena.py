"""Arena-Write: every answer against every baseline, in both orders, as win, tie or loss.

Records have `idx`, `question`, `type`, `length` and `baseline_response`; those of
LongBench-Write, with `prompt` for `question` and no baselines, are read too. The benchmark's judge
prompt and its rule for contradictory verdicts are not published: the prompt here is ours, in the
form of MT-Bench, and a side wins if both orders say so; everything else is a tie.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from lwz import jsonl
from lwz.evals import records, verdicts

JUDGE = """\
You compare two answers to the same writing request, and say which one serves its author better.

Weigh, in this order: does it do what was asked, in the asked form and about the asked length; is \
its substance rich, specific and free of invention; does it hold together from beginning to end; \
is it well written for its readers. A text that repeats itself at length, breaks off, or is not in \
the language of the request loses to one that does not. Neither the order in which the answers \
stand nor their bare length is a merit.

[Request]
{question}
[End of the request]

[Answer A]
{first}
[End of answer A]

[Answer B]
{second}
[End of answer B]

First compare them in a few sentences. Then end with your verdict alone on the last line: [[A]] \
where answer A is better, [[B]] where answer B is better, [[C]] where neither is."""

_TEXTS = ('response', 'content', 'answer', 'output', 'text', 'baseline_response')
_NAMES = ('model', 'model_name', 'name', 'source', 'system', 'id')


@dataclasses.dataclass(frozen=True)
class Task:
  """A request of the benchmark. `length` is in words, 0 if none is given."""

  idx: int
  question: str
  kind: str
  length: int
  baselines: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Match:
  """Two answers to a task in the order of the judge's prompt: `first` is answer A."""

  idx: int
  first: str
  second: str


def load(path: epath.PathLike) -> tuple[list[Task], list[records.Reject]]:
  """The tasks of a file in the schema of Arena-Write, and the rejected records.

  A record without `idx` gets the smallest unused one; without `type` its type is 'unknown'; without
  `baseline_response` it has no baselines. Only a record without a question, or with the `idx` of an
  earlier one, is rejected.
  """
  found, rejects = records.read(path)
  tasks: dict[int, Task] = {}
  given = [records.number(record.get('idx', record.get('index'))) for _, record in found]
  free = (idx for idx in itertools.count() if idx not in given)
  for (where, record), number in zip(found, given, strict=True):
    question = records.text(record, 'question', 'prompt')
    idx = next(free) if number is None else number
    if not question:
      rejects.append(records.Reject(where, jsonl.missing(record, 'question', 'prompt')))
    elif idx in tasks:
      rejects.append(records.Reject(where, f'idx {idx} was there before'))
    else:
      tasks[idx] = Task(
        idx,
        question,
        records.text(record, 'type') or 'unknown',
        records.number(record.get('length')) or 0,
        _baselines(record.get('baseline_response')),
      )
  return list(tasks.values()), rejects


def _baselines(value: Any) -> dict[str, str]:
  """Answers by name, from a text, a mapping, or (nested) lists of either."""
  if isinstance(value, str):
    try:
      inner = json.loads(value)
    except (ValueError, RecursionError):
      inner = None
    value = inner if isinstance(inner, dict | list) else value
  found: dict[str, str] = {}
  for name, text in _named(value):
    text = records.clean(text)
    name = records.clean(name) or f'baseline-{len(found) + 1}'
    while text and name in found:
      name += "'"
    if text:
      found[name] = text
  return found


def _named(value: Any) -> Iterator[tuple[str, str]]:
  """(name or '', text) pairs; values without a text are skipped."""
  if isinstance(value, str):
    yield '', value
  elif isinstance(value, dict):
    held = [value[key] for key in _TEXTS if key in value]
    if held:
      inner = next(filter(None, held), '')
      name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), '')
      yield from ((name, text) for _, text in _named(inner))
    else:
      for name, item in value.items():
        texts = [text for _, text in _named(item)]
        yield from ((str(name), text) for text in texts[:1])
  elif isinstance(value, list):
    if len(value) == 2 and all(isinstance(v, str) for v in value) and _is_name(*value):
      yield value[0], value[1]
      return
    for item in records.flat(value) if not _has_pairs(value) else value:
      yield from _named(item)


def _has_pairs(value: list) -> bool:
  return all(isinstance(v, list) and len(v) == 2 and _is_name(*v) for v in value)


def _is_name(name: Any, text: Any) -> bool:
  """Whether the first of two texts is the name of the second."""
  return (
    isinstance(name, str)
    and isinstance(text, str)
    and bool(re.fullmatch(r'[\w./:@-]{1,80}', name))
    and len(text) > 2 * len(name)
  )


def matches(
  tasks: Sequence[Task], answers: Mapping[str, Mapping[int, str]], *, rivals: bool
) -> list[Match]:
  """Every answer against every baseline of its task, in both orders.

  `answers[system][idx]` is a system's answer; a task without one is not judged. With `rivals`,
  systems are compared with each other too.

  Raises ValueError if a system has the name of a baseline.
  """
  found = []
  for task in tasks:
    if shared := sorted(answers.keys() & task.baselines.keys()):
      raise ValueError(f'{shared[0]!r} is a system and a baseline of idx {task.idx}: rename one')
    there = [name for name in answers if task.idx in answers[name]]
    pairs = [(name, baseline) for name in there for baseline in task.baselines]
    if rivals:
      pairs += [(a, b) for i, a in enumerate(there) for b in there[i + 1 :]]
    for one, other in pairs:
      found += [Match(task.idx, one, other), Match(task.idx, other, one)]
  return found


def messages(question: str, first: str, second: str) -> list[dict[str, str]]:
  """The chat that asks a judge to compare two answers."""
  # One pass: braces and field names inside the texts stay as they are.
  slots = {'{question}': question, '{first}': first, '{second}': second}
  content = re.sub(r'\{(question|first|second)\}', lambda m: slots[m[0]], JUDGE)
  return [{'role': 'user', 'content': content}]


verdict = verdicts.read


def of_empty(first: str, second: str) -> str | None:
  """The verdict where an answer is empty, and so the worst one; None if neither is."""
  if first.strip() and second.strip():
    return None
  return 'A' if first.strip() else 'B' if second.strip() else 'C'


def outcome(forward: str, backward: str) -> float:
  """The score, 1, 0.5 or 0, of the answer that was A in `forward` and B in `backward`.

  A win or a loss needs both orders to agree; everything else is a tie.
  """
  if (forward, backward) == ('A', 'B'):
    return 1.0
  return 0.0 if (forward, backward) == ('B', 'A') else 0.5
