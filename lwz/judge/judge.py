"""Putting questions to the judge of `c.judge` until each has a reply that can be read."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from lwz.evals import arena, lengths, offline
from lwz.judge import client, journal, systems
from lwz.report import terminal
from lwz.reward import format as format_lib
from lwz.reward import length
from lwz.runtime import setup

READS = (
  *('judge.model', 'judge.key_env', 'judge.max_failures', 'judge.max_tokens', 'judge.rounds'),
  *('judge.temperature', 'judge.top_p', *systems.READS),
)

# What 'offline-rules' measures: how the length fits, and how much of the text is new.
RULES: dict[str, offline.Rule] = {
  'length': lambda question, answer, asked: (
    lengths.score(asked, length.count_words(answer)) / 100 if asked else None
  ),
  'novelty': lambda question, answer, asked: 1 - format_lib.redundancy(answer),
}


@dataclasses.dataclass(frozen=True)
class Question:
  """What the judge is asked, and what the rules would say in its place."""

  messages: list[dict[str, str]]
  by_rules: Callable[[], str]


@dataclasses.dataclass(frozen=True)
class Judged:
  """What was read of each question's reply, None where there is nothing, and the bill."""

  values: list[Any]
  faults: dict[int, str]
  tally: client.Tally


def name(c) -> str:
  """The judge, as every output calls it."""
  return c.judge.model


def check(c) -> None:
  """Raises where the judge cannot be asked."""
  if systems.is_endpoint(c.judge.model):
    systems.endpoint(c, c.judge.model, c.judge.key_env).read_key()
  elif c.judge.model != offline.NAME and not setup.is_experiment(c.judge.model):
    systems.describe(c, c.judge.model)


def stop_on_failures(c, failed: int, total: int, why: str) -> None:
  """Raises RuntimeError as soon as more than `judge.max_failures` of `total` are sure to fail."""
  if failed > c.judge.max_failures * total:
    raise RuntimeError(
      f'{failed} of {total} have failed, more than judge.max_failures={c.judge.max_failures:.0%}; '
      f'the last: {why}. What was answered is kept: run again to go on'
    )


def num_failed(faults: Mapping[Any, str]) -> int:
  """How many faults another run might not meet.

  A request that is itself at fault, one too long for the model for instance, is masked and counted
  in the report, and stops nothing.
  """
  return sum(not fault.startswith('request') for fault in faults.values())


def ask(
  c,
  questions: Sequence[Question],
  read: Callable[[str], Any],
  kept: journal.Journal,
  *,
  quiet: bool = False,
) -> Judged:
  """Replies to all questions, read; one that cannot be read is asked anew, `judge.rounds` times.

  Questions that are the same are asked once.

  `read` gives None or '' where a reply says nothing. Replies are kept as they come, and what is
  kept is not asked again. A question that the judge never answered is not asked in later rounds:
  the client has tried often enough. `quiet` shows no progress.
  """
  sampling = _sampling(c)
  values: dict[str, Any] = {}
  faults: dict[str, str] = {}
  tally = client.Tally()
  keys = [journal.key(name(c), sampling, question.messages) for question in questions]
  unique: dict[str, Question] = {}
  for key, question in zip(keys, questions, strict=True):
    unique.setdefault(key, question)
  write = None
  for turn in range(c.judge.rounds):
    unread = [key for key in unique if key not in values and key not in faults]
    todo = [key for key in unread if f'{key}-{turn}' not in kept]
    if todo:
      write = write or _writer(c)
      asked = (client.Request(unique[key].messages, sampling, sample=turn) for key in todo)
      replies = write(asked) if write else _by_rules([unique[key] for key in todo])
      with (
        contextlib.closing(replies),
        terminal.progress(len(todo), label=f'judge {name(c)}', quiet=quiet) as bar,
      ):
        for done, reply in enumerate(replies, start=1):
          key = todo[reply.index]
          tally.add(reply, c.judge.price_in, c.judge.price_out)
          if reply.fault:
            faults[key] = reply.fault
            stop_on_failures(c, num_failed(faults), len(unique), f'judge: {reply.fault}')
          else:
            kept.add(f'{key}-{turn}', text=reply.text)
          bar.update(done, failed=len(faults), cost=tally.cost)
    for key in unread:
      if f'{key}-{turn}' in kept and (value := read(kept[f'{key}-{turn}']['text'])):
        values[key] = value
  for key in unique.keys() - values.keys() - faults.keys():
    faults[key] = f'unreadable: {_last(kept, key, c.judge.rounds)}'
  stop_on_failures(c, num_failed(faults), len(unique), f'judge: {next(iter(faults.values()), "")}')
  by_place = {i: faults[key] for i, key in enumerate(keys) if key in faults}
  return Judged([values.get(key) for key in keys], by_place, tally)


def contest(
  c,
  tasks: Sequence[arena.Task],
  answered: Mapping[str, Mapping[int, str]],
  kept: journal.Journal,
  *,
  rivals: bool,
  quiet: bool = False,
) -> tuple[list[arena.Match], Judged]:
  """The matches of an arena, see `arena.matches`, and the verdict on each: 'A', 'B', 'C' or ''."""
  by_idx = {task.idx: task for task in tasks}
  matches = arena.matches(tasks, answered, rivals=rivals)

  def question(match: arena.Match) -> Question:
    task = by_idx[match.idx]
    first, second = (
      answered[name][match.idx] if name in answered else task.baselines[name]
      for name in (match.first, match.second)
    )
    return Question(
      arena.messages(task.question, first, second),
      functools.partial(offline.compare, task.question, first, second, task.length, RULES),
    )

  judged = ask(c, [question(match) for match in matches], arena.verdict, kept, quiet=quiet)
  return matches, dataclasses.replace(judged, values=[said or '' for said in judged.values])


def _sampling(c) -> dict[str, Any]:
  return {
    'temperature': c.judge.temperature,
    'top_p': c.judge.top_p,
    'max_tokens': c.judge.max_tokens,
  }


def _writer(c) -> systems.Write | None:
  if c.judge.model == offline.NAME:
    return None
  if systems.is_endpoint(c.judge.model):
    return systems.by_endpoint(c, c.judge.model, c.judge.key_env)
  return systems.by_engine(c, c.judge.model, **_sampling(c))


def _by_rules(questions: Sequence[Question]) -> Generator[client.Reply]:
  for place, question in enumerate(questions):
    yield client.Reply(place, question.by_rules())


def _last(kept: journal.Journal, key: str, rounds: int) -> str:
  """The beginning of the last reply that could not be read."""
  found = [kept[f'{key}-{turn}']['text'] for turn in range(rounds) if f'{key}-{turn}' in kept]
  return ' '.join(found[-1].split())[:120] if found else 'no reply'
