"""Verdicts of the judge of `c.judge`: each question is asked until a reply can be read.

`ask` answers a list of questions, `stream` any number of them in constant memory. The judge is a
model behind an endpoint, our own engine, or 'offline-rules'.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lwz import text as texts
from lwz.evals import lengths, offline
from lwz.judge import client, journal, systems
from lwz.report import terminal
from lwz.reward import format as format_lib
from lwz.runtime import setup

READS = (
  *('judge.model', 'judge.key_env', 'judge.max_failures', 'judge.max_tokens', 'judge.rounds'),
  *('judge.sends', 'judge.temperature', 'judge.top_p', *systems.READS),
)

# The rules of 'offline-rules': the length score, and the share of the text that does not repeat.
RULES: dict[str, offline.Rule] = {
  'length': lambda question, answer, asked: (
    lengths.score(asked, texts.count_words(answer)) / 100 if asked else None
  ),
  'novelty': lambda question, answer, asked: 1 - format_lib.redundancy(answer),
}
_SHOWN = 120  # characters of a reply that could not be read
_REPEATED = 2_000  # characters of it that the judge is shown
_KEPT = 200  # characters of a reply that is not kept whole

# (messages, the reply that could not be read) -> the messages that ask again
Again = Callable[[list[dict[str, str]], str], list[dict[str, str]]]


@dataclasses.dataclass(frozen=True)
class Question:
  """A question to the judge, and the reply of 'offline-rules' to it."""

  messages: list[dict[str, str]]
  by_rules: Callable[[], str]
  key: str = ''  # in the journal; `ask` derives it from the messages
  turn: int = 0  # number of replies that could not be read
  sample: int = 0  # tells apart requests with the same messages
  given: Any = None  # the verdict, if nobody has to be asked

  def after(self, unread: str, again: 'Again | None') -> 'Question':
    """The question after a reply that could not be read: with it, or else as another sample."""
    if again:
      messages = again(self.messages, unread)
      return dataclasses.replace(self, messages=messages, turn=self.turn + 1)
    return dataclasses.replace(self, turn=self.turn + 1, sample=self.turn + 1)


class Verdict(NamedTuple):
  """The verdict on the question with `key`: a value, or None and the reason in `fault`."""

  key: str
  value: Any
  fault: str = ''


@dataclasses.dataclass(frozen=True)
class Verdicts:
  """The value of each question's verdict, or None; its reply, '' if none; faults by index; cost."""

  values: list[Any]
  replies: list[str]
  faults: dict[int, str]
  usage: client.Usage

  def counts(self, what: str) -> dict[str, Any]:
    """The facts of a report: failures, requests that are too long for the judge, the cost."""
    too_long = sum(fault.startswith('request too long') for fault in self.faults.values())
    return {
      f'failed {what}': len(self.faults) - too_long,
      'too long for the judge': too_long,
      'cost': self.usage.cost,
    }


def name(c) -> str:
  """The judge's name in every output."""
  return c.judge.model


def check(c) -> None:
  """Raises ValueError or FileNotFoundError if the judge cannot be asked."""
  if systems.is_endpoint(c.judge.model):
    systems.endpoint(c, c.judge.model, c.judge).read_key()
  elif systems.is_file(c.judge.model) or c.judge.model.endswith('.py'):
    why = 'a file cannot judge answers (a Python file gives rewards: reward.judge); name a model'
    raise ValueError(f'judge.model={c.judge.model}: {why}')
  elif c.judge.model != offline.NAME and not setup.is_experiment(c.judge.model):
    systems.describe(c, c.judge.model)


def stop_on_failures(c, failed: int, total: int, why: str) -> None:
  """Raises RuntimeError as soon as more than `judge.max_failures` of `total` are sure to fail."""
  if failed > c.judge.max_failures * total:
    raise RuntimeError(
      f'{failed} of {total} have failed, more than judge.max_failures={c.judge.max_failures:.0%}; '
      f'the last: {why}. The replies so far are kept: run again to go on'
    )


def causes(faults: Mapping[Any, str]) -> str:
  """How many faults have each cause, the first words of a fault: '3 x http 500, 1 x timeout'."""
  counts = collections.Counter(fault.split(':')[0] for fault in faults.values())
  return ', '.join(f'{num} x {cause}' for cause, num in counts.most_common())


def ask_in(form: str) -> Again:
  """Returns the function that shows an unreadable reply, and asks for nothing but `form`."""

  def again(messages: list[dict[str, str]], unread: str) -> list[dict[str, str]]:
    words = f'That holds no verdict that can be read, or more than one. Reply with {form} alone.'
    reply = {'role': 'assistant', 'content': unread[-_REPEATED:].strip() or '(empty)'}
    return [*messages, reply, {'role': 'user', 'content': words}]

  return again


def is_failure(fault: str) -> bool:
  """Whether another run might not meet this fault.

  A request that is itself at fault, one too long for the model for instance, is masked and counted
  in the report, and stops nothing.
  """
  return bool(fault) and not fault.startswith('request')


def sampling(c) -> dict[str, Any]:
  """The judge's sampling parameters, with the names of the protocol; None is left out."""
  names = ('temperature', 'top_p', 'max_tokens')
  return {name: c.judge[name] for name in names if c.judge[name] is not None}


def ask(
  c,
  questions: Sequence[Question],
  read: Callable[[str], Any],
  kept: journal.ReplyJournal,
  *,
  again: Again | None = None,
  quiet: bool = False,
) -> Verdicts:
  """Verdicts on all questions, in order; equal questions are asked once.

  Replies are kept whole, so that a question is never asked again that has a readable one in the
  journal. See `stream` for the arguments and errors; it is an error too if no question gets a
  verdict.
  """
  keys = [journal.key(name(c), sampling(c), question.messages) for question in questions]
  unique: dict[str, Question] = {}
  for key, question in zip(keys, questions, strict=True):
    unique.setdefault(key, question)
  values: dict[str, Any] = {key: q.given for key, q in unique.items() if q.given is not None}
  faults: dict[str, str] = {}
  todo = []
  for key, question in unique.items():
    readable = [value for value in map(read, _kept(kept, key)) if _is_readable(value)]
    if readable:
      values.setdefault(key, readable[0])
    elif key not in values:
      todo.append(dataclasses.replace(question, key=key))
  usage = client.Usage()
  if todo:
    found = stream(
      *(c, todo, read, kept),
      total=len(unique),
      done=len(unique) - len(todo),
      again=again,
      usage=usage,
      quiet=quiet,
    )
    with contextlib.closing(found) as verdicts:
      for verdict in verdicts:
        if verdict.fault:
          faults[verdict.key] = verdict.fault
        else:
          values[verdict.key] = verdict.value
  if unique and len(faults) == len(unique):
    raise RuntimeError(f'judge: none of {len(faults)} questions has a verdict: {causes(faults)}')
  by_place = {i: faults[key] for i, key in enumerate(keys) if key in faults}
  said = {key: _kept(kept, key) for key in unique}
  ends = {
    key: next((r for r in replies if _is_readable(read(r))), replies[-1] if replies else '')
    for key, replies in said.items()
  }
  return Verdicts([values.get(key) for key in keys], [ends[key] for key in keys], by_place, usage)


def _kept(kept: journal.ReplyJournal, key: str) -> list[str]:
  """The replies to a question in the journal, in the order in which they came."""
  names = itertools.takewhile(kept.__contains__, (f'{key}-{n}' for n in itertools.count()))
  return [kept[name]['text'] for name in names]


def stream(
  c,
  questions: Iterable[Question],
  read: Callable[[str], Any],
  kept: journal.ReplyJournal,
  *,
  total: int,
  done: int = 0,
  failed: int = 0,
  sure: int | None = None,
  again: Again | None = None,
  whole: bool = True,
  usage: client.Usage | None = None,
  quiet: bool = False,
) -> Generator[Verdict]:
  """Verdicts on questions as they arrive, in memory that does not depend on their number.

  A question whose reply cannot be read is asked again after all others, until `judge.rounds`
  replies could not be read: then its verdict is a fault. One that got no reply is not asked again
  (the client has tried often enough): its verdict is that fault.

  Args:
    questions: none whose verdict is in the journal; each with its key.
    read: the value of a reply; None or '' if it cannot be read.
    kept: gets every reply as it comes, under `key-turn`; see `whole`.
    total, done, failed: numbers of questions, of those with a verdict already, and of failures.
    sure: number of verdicts from which the share of failures so far counts; None is `total`.
    again: asks again in a chat that goes on from the unreadable reply; None: as another sample.
    whole: False keeps of a reply that can be read, under `key`, only the value and the end.
    usage: counts replies, tokens and cost.

  Raises RuntimeError if more than `judge.max_failures` have failed.
  """
  write = connect(c)
  usage = usage or client.Usage()
  label = f'judge {name(c)}'
  with terminal.Progress(total, start=done, label=label, quiet=quiet) as bar:
    asked: Iterable[Question] = (  # after the replies of an earlier run: not the same once more
      functools.reduce(lambda q, unread: q.after(unread, again), _kept(kept, one.key), one)
      for one in questions
    )
    while asked:
      unread: list[Question] = []
      with contextlib.closing(_replies(c, write, asked)) as replies:
        for question, reply in replies:
          usage.add(reply, c.judge.price_in, c.judge.price_out)
          value, fault = None, reply.fault
          if not fault:
            value = read(reply.text)
            if whole or not _is_readable(value):
              kept.add(f'{question.key}-{question.turn}', text=reply.text)
            else:
              kept.add(question.key, value=value, answer=reply.text[-_KEPT:])
            if not _is_readable(value):
              question = question.after(reply.text, again)
              if question.turn % c.judge.rounds:  # another run has its own rounds
                unread.append(question)
                continue
              value, fault = None, f'unreadable: {" ".join(reply.text.split())[-_SHOWN:]}'
          done, failed = done + 1, failed + is_failure(fault)
          stop_on_failures(c, failed, max(done, min(total, sure or total)), f'judge: {fault}')
          bar.update(done, failed=failed, cost=usage.cost)
          yield Verdict(question.key, value, fault)
      asked = unread


def _is_readable(value: Any) -> bool:
  return value is not None and value != ''


def _replies(
  c, write: systems.Write | None, asked: Iterable[Question]
) -> Generator[tuple[Question, client.Reply]]:
  """Each question with its reply, as they arrive; only questions in flight are held."""
  if write is None:
    for question in asked:
      yield question, client.Reply(0, question.by_rules())
    return
  waiting: dict[int, Question] = {}

  def requests() -> Generator[client.Request]:
    for index, question in enumerate(asked):
      waiting[index] = question
      yield client.Request(question.messages, sampling(c), question.sample)

  with contextlib.closing(write(requests())) as replies:
    for reply in replies:
      yield waiting.pop(reply.index), reply


def connect(c) -> systems.Write | None:
  """The function that sends requests to the judge; None if it is 'offline-rules'."""
  if c.judge.model == offline.NAME:
    return None
  return systems.connect(c, c.judge.model, c.judge, **sampling(c))
