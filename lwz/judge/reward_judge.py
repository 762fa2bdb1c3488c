"""The judge whose verdicts train: a reward form's questions become chats, and replies are kept.

    judge = RewardJudge(c, run.folder)
    verdicts = judge(questions)   # of `reward.questions`; None where the judge failed

A reply is kept in the run's folder under what was asked (judge, sampling, the chat with its texts
in their order; of rules, which read more than a chat says, the whole question), so a resumed run
asks nothing twice, and nor do threads that ask the same at a time. One that cannot be read is asked
for again, in a chat that goes on; after `ROUNDS` of them the verdict is None, in a resumed run too.
A request that got no reply has None as well, and is asked again if its step is.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import re
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from etils import epath

from lwz import hosts
from lwz.judge import chats, client, journal, own, scripted, systems
from lwz.judge import http as http_lib
from lwz.judge import judge as judge_lib
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import program as program_lib
from lwz.programs import rollout as rollout_program
from lwz.reward import questions
from lwz.rollout import sampler
from lwz.runtime import setup
from lwz.store import inputs

READS = ('reward', 'judge.sends', *systems.READS)

FOLDER = 'judge'  # in a run's folder
ROUNDS = 3  # replies that cannot be read, until a question counts as failed
POLICY = 'policy'  # the judge that is the policy of the step whose samples it judges


def is_remote(c) -> bool:
  """Whether the judge is behind an endpoint."""
  return systems.is_endpoint(c.reward.judge)


def is_slow(c) -> bool:
  """Whether several questions are asked at a time: of an endpoint, or of a judge of one's own."""
  return is_remote(c) or own.is_own(c.reward.judge)


def is_policy(c) -> bool:
  """Whether the judge is the policy itself, as it is at each step."""
  return c.reward.judge == POLICY


def is_engine(c) -> bool:
  """Whether the judge is a model on our devices."""
  return not is_slow(c) and not scripted.is_scripted(c.reward.judge)


def check(c) -> None:
  """Raises ValueError or FileNotFoundError if the judge cannot be asked."""
  value = c.reward.judge
  if not value or systems.is_file(value):
    raise ValueError(
      f'reward.judge={value!r} names no judge: choose MODEL@http://host/v1, a run, a model, a '
      f'Python file, {POLICY}, or one of rules such as {scripted.PREFIX}perfect'
    )
  if c.reward.judge_budget and (own.is_own(value) or not (c.judge.price_in or c.judge.price_out)):
    raise ValueError(
      f'reward.judge_budget={c.reward.judge_budget}: nothing that {value} says has a cost, so it '
      'would end no run: give judge.price_in or judge.price_out of an endpoint, or leave it out'
    )
  if scripted.is_scripted(value):
    scripted.flaw(value)
  elif own.is_own(value):
    own.load(value)
  elif is_remote(c):
    systems.endpoint(_settings(c), value, _settings(c).judge).read_key()
  elif jax.process_count() > 1:
    raise ValueError(
      f'reward.judge={value}: several processes cannot hold a judge during a training; serve one '
      'by vLLM or another server, and name it as MODEL@http://host/v1'
    )
  elif not (is_policy(c) or setup.is_experiment(value)):
    systems.describe(c, value)


def program(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, num_texts: int
) -> program_lib.Program:
  """Returns the decoding of a judge on our devices, for questions about so many whole texts."""
  asked = c.rollout.max_prompt_tokens + num_texts * c.rollout.max_tokens
  room = max(1, config.num_positions - c.reward.judge_tokens)
  coldest = sampler.Sampling(c.reward.judge_temperature, stop_ids=(0,))
  spec = systems.spec(c, config, mesh, coldest, min(asked, room), c.reward.judge_tokens)
  read = spec.cache_layout.max_read
  made = rollout_program.decode(spec, batch_size=spec.num_slots, read_length=read)
  return dataclasses.replace(made, name='policy_judge' if is_policy(c) else 'judge')


def _settings(c):
  """Returns a config whose `judge` is the one that trains; limits of endpoints are common."""
  made = c.copy_and_resolve_references()
  made.judge.model, made.judge.key_env = c.reward.judge, c.reward.judge_key_env
  made.judge.temperature, made.judge.top_p = c.reward.judge_temperature, 1.0
  made.judge.max_tokens = c.reward.judge_tokens
  return made


class RewardJudge:
  """The judge of `reward.judge`. Threads may call it together: they share one connection.

  Without a folder nothing is kept beyond its life. Once this process has paid `allowance`, which
  may grow, nothing more is sent, so that it pays beyond that for what is in flight alone.
  """

  def __init__(self, c, folder: epath.Path | None = None):
    self._c, self._name = _settings(c), c.reward.judge
    self._sent = [judge_lib.sampling(self._c), [*c.judge.sends]]  # what decides a reply, but texts
    self._by_rules = own.of(self._name)
    self._lock, self._room = threading.Lock(), threading.Semaphore(c.judge.concurrency)
    self._asking: dict[str, concurrent.futures.Future] = {}  # verdicts to come, of all threads
    self.allowance = math.inf
    self._session: client.Session | None = None
    self._closed = False
    self._engine: systems.Write | None = None
    self._params: Callable[[], qwen.Params]
    self._kept: Any = journal.Memory()
    if folder is not None:
      path = folder / FOLDER / f'verdicts-{jax.process_index()}.jsonl'
      found = sorted(path.parent.glob('verdicts-*.jsonl')) if path.parent.exists() else []
      self._kept = journal.ReplyJournal(path, others=[other for other in found if other != path])
    self._usage, self._faults = client.Usage(), collections.Counter()

  @functools.cached_property
  def _identity(self) -> str:
    if own.is_own(self._name):
      return inputs.digest(self._name)  # wherever it stands: of its name and what is in it
    if is_engine(self._c):
      return systems.describe(self._c, self._name).identity
    return self._name

  def take(self, step: int, params: Callable[[], qwen.Params]) -> None:
    """Takes the policy of a step, `params` in the layout of decoding, if that is the judge."""
    if is_policy(self._c):
      self._identity, self._params = f'{POLICY} of step {step}', params

  def close(self) -> None:
    """Ends what is in flight."""
    with self._lock:
      session, self._session, self._closed = self._session, None, True
    if session:
      session.__exit__()
    self._kept.close()

  def __call__(self, asked: Sequence[questions.Question]) -> list[Any]:
    """Returns the verdict on each question, None where the judge failed."""
    keys, verdicts, todo = [], {}, []
    reads: dict[str, Callable[[str], Any]] = {}
    mine: dict[str, concurrent.futures.Future] = {}
    others: dict[str, concurrent.futures.Future] = {}
    try:
      for question in asked:
        chat, read, form = chats.of(question)
        what = dataclasses.asdict(question) if self._by_rules else chat
        keys.append(key := journal.key(self._identity, self._sent, what))
        if key in reads:
          continue
        reads[key] = read
        with self._lock:
          if known := self._asking.get(key):
            others[key] = known
            continue
          mine[key] = self._asking[key] = concurrent.futures.Future()
        by_rules = functools.partial(self._by_rules or (lambda question: ''), question)
        said = _Asked(judge_lib.Question(chat, by_rules, key), judge_lib.ask_in(form))
        for name in itertools.takewhile(self._kept.__contains__, said.names()):
          if (value := read(self._kept[name]['text'])) not in (None, ''):
            verdicts[key] = value
            break
          said = said.after(self._kept[name]['text'])
        else:
          todo += [said] if said.question.turn < ROUNDS else []
      while todo:
        todo = list(self._round(todo, reads, verdicts))
    finally:  # of an error, which ends the run, the others get no verdict
      for key, future in mine.items():
        with self._lock:
          del self._asking[key]
        future.set_result(verdicts.get(key))
    verdicts |= {key: future.result() for key, future in others.items()}
    return [verdicts.get(key) for key in keys]

  def _round(
    self, todo: list['_Asked'], reads: Mapping[str, Callable], verdicts: dict[str, Any]
  ) -> Generator['_Asked']:
    """Asks once, fills in `verdicts`, and yields what is to be asked again."""
    for reply in self._write([said.question for said in todo]):
      said, fault = todo[reply.index], reply.fault
      key, turn = said.question.key, said.question.turn
      if not fault:
        usage = client.Usage()
        usage.add(reply, self._c.judge.price_in, self._c.judge.price_out)
        cost = {'cost': usage.cost} if usage.cost else {}
        self._kept.add(f'{key}-{turn}', text=reply.text, **cost)
        if (value := reads[key](reply.text)) not in (None, ''):
          verdicts[key] = value
        elif turn + 1 < ROUNDS:
          yield said.after(reply.text)
        else:
          fault = f'unreadable: {" ".join(reply.text.split())[-120:]}'
      self._count(reply, fault)

  def _count(self, reply: client.Reply, fault: str) -> None:
    with self._lock:
      self._usage.add(reply, self._c.judge.price_in, self._c.judge.price_out)
      if fault:
        self._faults[http_lib.cause(fault)] += 1
    if re.match('http 40[1345]', fault):  # no other request would fare better
      raise PermissionError(f'reward.judge={self._name}: {fault}')
    if fault and not fault.startswith('budget'):  # that ends the run, and says so once
      logging.warning('reward.judge=%s: %s; its samples are masked', self._name, fault)

  def _write(self, asked: Sequence[judge_lib.Question]) -> Iterable[client.Reply]:
    """Returns the replies to questions, in any order."""
    if scripted.is_scripted(self._name):
      return [client.Reply(i, question.by_rules()) for i, question in enumerate(asked)]
    if self._by_rules:
      how = self._room, self._c.judge.deadline
      futures = [own.submit(each.by_rules, i, *how) for i, each in enumerate(asked)]
      return (future.result() for future in concurrent.futures.as_completed(futures))
    sampling = judge_lib.sampling(self._c)
    requests = [client.Request(one.messages, sampling, one.sample) for one in asked]
    if not systems.is_endpoint(self._name):
      source, moves = self._name, None
      if is_policy(self._c):  # the folder of its run has the tokenizer
        source, moves = str(setup.run_folder(self._c)), lambda: self._params()
      self._engine = self._engine or systems.by_engine(self._c, source, params=moves, **sampling)
      return self._engine(requests)
    with self._lock:
      if self._closed:
        raise RuntimeError(f'reward.judge={self._name}: asked after the end of the run')
      if not self._session:
        endpoint = systems.endpoint(self._c, self._name, self._c.judge)
        # Its database is for a local disk; the journal keeps what several processes share.
        cache = systems.cache(self._c) if jax.process_count() == 1 else None
        self._session = client.Session(endpoint, cache, lambda: self.allowance).__enter__()
      futures = [self._session.submit(request, i) for i, request in enumerate(requests)]
    # As they come: what has arrived is kept, whatever else a kill finds in flight.
    return (future.result() for future in concurrent.futures.as_completed(futures))

  def spent(self) -> float:
    """Returns what the replies in the journal have cost, steps that a kill undid included."""
    return float(sum(record.get('cost', 0.0) for record in self._kept.values()))

  def unpaid(self) -> tuple[float, int]:
    """Returns the cost since `metrics`, and the questions that `allowance` left unasked."""
    with self._lock:
      return self._usage.cost, self._faults['budget']

  def metrics(self) -> dict[str, float]:
    """Returns what was asked since the last call, of all processes, and the cost; then forgets it.

    Verdicts of the journal were not asked for. All processes call it.
    """
    with self._lock:
      usage, faults = self._usage, self._faults
      self._usage, self._faults = client.Usage(), collections.Counter()
    told = [usage.replies, usage.cached, usage.cost, *(faults[k] for k in http_lib.CAUSES)]
    asked, cached, cost, *failed = hosts.all_gather(np.array(told, np.float64)).sum(axis=0).tolist()
    counts = {f'judge/failed/{k}': n for k, n in zip(http_lib.CAUSES, failed, strict=True) if n}
    return {'judge/asked': asked, 'judge/cached': cached, 'judge/cost': cost} | counts


class _Asked(NamedTuple):
  """A question, and what asks it again in the chat of a reply that could not be read."""

  question: judge_lib.Question
  again: judge_lib.Again

  def names(self) -> list[str]:
    """Returns the names of its replies in the journal."""
    return [f'{self.question.key}-{turn}' for turn in range(ROUNDS)]

  def after(self, unread: str) -> '_Asked':
    return self._replace(question=self.question.after(unread, self.again))
