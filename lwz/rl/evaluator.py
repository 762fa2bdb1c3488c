"""Check-ups: what a policy in training writes to prompts that it does not train on, and its rating.

1. write two answers to each prompt, one at the run's temperature, one greedy   rollout.local
2. put them to the judge against the baselines, in both orders                  judge.judge
3. rate the policy against the baselines, whose own ratings stay as they are    evals.anchors

held_out = checkup.Checkup(c, tok, writer.engine, greedy, run.folder, asked)
figures = held_out.step(loop, step, state.params)  # nothing, where none is due

Training depends on none of it: the draws have keys of their own, the same in every check-up, so
that its curves differ by the policy alone. Answers and verdicts are kept in `checkup/` as they
come: a run that was killed asks nothing twice.
"""

import contextlib
import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from lwz import hosts, types
from lwz.data import heldout_tasks, templates
from lwz.evals import anchors, answers, arena, offline, standings
from lwz.judge import journal, systems
from lwz.judge import judge as judge_lib
from lwz.model import qwen
from lwz.reward import format as format_lib
from lwz.reward import length
from lwz.rollout import local, sampler, scheduler
from lwz.runtime import setup, trainer
from lwz.store import checksum

MODES = ('sampled', 'greedy')
# Of each mode. Words are means over answers; `whole` is of those that max_tokens did not cut.
FIGURES = ('rating', 'win_rate', 'words', 'whole', 'think', 'finished', 'valid_format')
INTERVAL = ('eval/rating/low', 'eval/rating/high')  # 95 %, of the rating of the sampled answers
FAILURES = 'eval/judge_failures'  # share of the questions to the judge that have no verdict
KEYS = tuple(f'eval/{name}/{mode}' for name in FIGURES for mode in MODES)


def check(c) -> None:
  """Raises where check-ups cannot be done."""
  if not c.eval.every:
    return
  judge_lib.check(c)
  for key, least in (('eval.prompts', 0), ('judge.rounds', 1)):
    if setup.get(c, key) < least:
      raise ValueError(f'{key}={setup.get(c, key)} must be at least {least}')
  if c.eval.file:
    _load(c)


def pictures(c) -> list[dict[str, Any]]:
  """The curves of a run's check-ups, as arguments of `curves.draw`."""
  if not c.eval.every:
    return []
  by = offline.NAME if c.judge.model == offline.NAME else systems.name(c, c.judge.model)
  return [
    {
      'keys': _both('rating'),
      'band': INTERVAL,
      'title': 'held-out rating',
      'unit': f'Elo scale, by {by}',
    },
    {'keys': _both('win_rate'), 'title': 'held-out win rate', 'unit': f'by {by}'},
    {'keys': ['words/think', *_both('think')], 'title': 'words of thoughts, and held-out ones'},
    {'keys': _both('whole'), 'title': 'words of held-out answers that were not cut'},
    {'keys': _both('valid_format'), 'title': 'share of valid format, held-out prompts'},
  ]


def _both(name: str) -> list[str]:
  return [f'eval/{name}/{mode}' for mode in MODES]


def facts(c) -> dict[str, str]:
  """What a reader of the curves has to know."""
  if not c.eval.every:
    return {}
  said = 'length and repetition, no meaning' if c.judge.model == offline.NAME else ''
  return {'judge of the check-ups': ': '.join(filter(None, [judge_lib.name(c), said]))}


class Checkup:
  """The check-ups of a run, whose own engine writes, `greedy` being the same at temperature 0.

  `asked` are the prompts that it trains on: none of them is used.
  """

  def __init__(
    self,
    c,
    tok,
    engine: scheduler.Engine,
    greedy: scheduler.Engine,
    folder: epath.Path,
    asked: Sequence[types.Prompt],
  ):
    self._c, self._tok, self._folder = c, tok, folder / 'checkup'
    self._tasks = _tasks(c, asked) if c.eval.every else []
    ids = {
      task.idx: np.array(
        templates.prompt_ids(tok, task.question, c.data.style, c.data.template), np.int32
      )
      for task in self._tasks
    }
    self._tasks = [t for t in self._tasks if len(ids[t.idx]) <= c.rollout.max_prompt_tokens]
    self._tasks = _spread(self._tasks, c.eval.prompts)
    self._ids = [ids[task.idx] for task in self._tasks]
    if c.eval.every and not self._tasks:
      logging.warning('no held-out prompts, so no check-ups: name an Arena-Write under eval.file')
    inside = c.judge.model != offline.NAME and not systems.is_endpoint(c.judge.model)
    if self._tasks and inside and jax.process_count() > 1:
      raise ValueError(
        f'judge.model={c.judge.model}: several processes cannot hold a judge during a training; '
        'serve it, and name MODEL@http://host/v1'
      )
    # All but the drawing of a token is the same program, so it is not compiled again.
    greedy = dataclasses.replace(engine, decode=greedy.decode)
    self._engines = dict(zip(MODES, (engine, greedy), strict=True))

  def step(self, loop: trainer.Training, step: int, params: qwen.Params) -> dict[str, float]:
    """The figures of the policy that is about to write the answers of a step, before its update.

    At step 0, every `eval.every` steps, and at the last. Raises RuntimeError where the judge fails
    on more than `judge.max_failures` of the questions; below, a pair without verdicts is left out.
    """
    c = self._c
    if not self._tasks or (step % c.eval.every and step + 1 < c.train.num_steps):
      return {}
    policy = checksum.of(params)
    placed = self._engines[MODES[0]].reshard(params)
    written = {}
    for mode in MODES:
      written[mode] = self._write(mode, placed, policy)
      loop.lap(f'eval_{mode}')
      loop.rest()
    figures = hosts.first(functools.partial(self._measure, written)) or {}
    loop.lap('eval_judge')
    loop.rest()
    names = (*KEYS, *INTERVAL, FAILURES)
    values = np.array([figures.get(name, np.nan) for name in names])
    return dict(zip(names, hosts.all_gather(values)[0].tolist(), strict=True))

  def _write(self, mode: str, placed, policy: int) -> dict[int, dict[str, Any]]:
    """The answers of one mode by task, for process 0; the others have written theirs with it."""
    c, speaks = self._c, jax.process_index() == 0
    keys = [journal.key(policy, mode, c.rollout.temperature, ids.tolist()) for ids in self._ids]
    with contextlib.ExitStack() as stack:
      kept: Any = {}
      if speaks:
        kept = stack.enter_context(journal.Journal(self._folder / 'answers.jsonl'))
      here = hosts.all_gather(np.array([key in kept for key in keys]))[0]
      todo = np.flatnonzero(~here).tolist()
      replies = local.stream(
        self._engines[mode],
        placed,
        [self._request(i) for i in todo],
        decode=lambda ids: str(self._tok.decode(list(ids))),
      )
      for reply in replies if todo else ():
        if speaks:
          said = {'text': reply.text, 'finished': reply.finished}
          kept.add(
            keys[todo[reply.index]], mode=mode, idx=self._tasks[todo[reply.index]].idx, **said
          )
      if not speaks:
        return {}
      return {task.idx: kept[key] for task, key in zip(self._tasks, keys, strict=True)}

  def _request(self, i: int) -> scheduler.Request:
    """Named by its prompt, and by no step: two check-ups differ by the policy alone."""
    prompt = zlib.crc32(self._ids[i].tobytes()) >> 1
    key = sampler.trajectory_keys(self._c.seed, 0, jnp.array([prompt]), jnp.array([0]))
    expected = float(self._tasks[i].length)
    return scheduler.Request(
      self._ids[i], np.asarray(key)[0], self._c.rollout.max_tokens, expected=expected
    )

  def _measure(self, written: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, float]:
    """Everything that the record of a step gets."""
    c = self._c
    texts = {
      _player(mode): {idx: answers.final(reply['text']) for idx, reply in replies.items()}
      for mode, replies in written.items()
    }
    with journal.Journal(self._folder / 'verdicts.jsonl') as kept:
      fixed = _fixed(c, self._tasks, kept)
      met, judged = judge_lib.contest(c, self._tasks, texts, kept, rivals=False, quiet=True)
    found, _ = standings.pairings(met, judged.values)
    figures = {FAILURES: len(judged.faults) / len(met)}
    for mode, replies in written.items():
      rated = anchors.rate(found, _player(mode), fixed, c.seed)
      values = rated | _described(replies.values(), c.data.style)
      figures |= {f'eval/{name}/{mode}': values[name] for name in FIGURES}
      if mode == 'sampled':
        figures |= dict(zip(INTERVAL, (rated['low'], rated['high']), strict=True))
    return figures


def _player(mode: str) -> str:
  return f'policy, {mode}'


def _load(c) -> list[arena.Task]:
  """The tasks of `eval.file` that have baselines."""
  tasks, rejects = arena.load(epath.Path(c.eval.file))
  tasks = [task for task in tasks if task.baselines]
  if not tasks:
    why = rejects[0] if rejects else 'none has a baseline_response'
    raise ValueError(f'{c.eval.file}: no prompt of an Arena-Write with baselines in it: {why}')
  return tasks


def _tasks(c, asked: Sequence[types.Prompt]) -> list[arena.Task]:
  """Those of a file, or of the titles that are kept for evaluations, without those in `asked`."""
  if c.eval.file:
    tasks = _load(c)
  else:
    records = heldout_tasks.arena(
      setup.heldout(c)[1],
      lower=c.data.lower,
      upper=c.data.upper,
      num=0,
    )
    tasks = [
      arena.Task(r['idx'], r['question'], r['type'], r['length'], r['baseline_response'])
      for r in records
    ]
  trained = {_plain(prompt.text) for prompt in asked}
  return [task for task in tasks if _plain(task.question) not in trained]


def _plain(text: str) -> str:
  return ' '.join(text.casefold().split())


def _spread(tasks: Sequence[arena.Task], num: int) -> list[arena.Task]:
  """`num` of them, from all over the list; all, where it is 0."""
  num = min(num or len(tasks), len(tasks))
  return [tasks[i * len(tasks) // num] for i in range(num)]


def _fixed(c, tasks: Sequence[arena.Task], kept) -> dict[str, float]:
  """The rating of each baseline, from what they have written themselves: centred on 1000."""
  names = list(dict.fromkeys(name for task in tasks for name in task.baselines))
  if len(names) == 1:
    return {names[0]: 1000.0}
  texts = {n: {t.idx: t.baselines[n] for t in tasks if n in t.baselines} for n in names}
  alone = [dataclasses.replace(task, baselines={}) for task in tasks]
  matches, judged = judge_lib.contest(c, alone, texts, kept, rivals=True, quiet=True)
  found, _ = standings.pairings(matches, judged.values)
  return {row['player']: row['rating'] for row in standings.rate(found, names, c.seed)}


def _described(replies, style: str) -> dict[str, float]:
  """What can be said of answers without a judge."""
  replies = list(replies)
  parsed = [format_lib.parse(reply['text'], style) for reply in replies]
  words = [length.count_words(answers.final(reply['text'])) for reply in replies]
  whole = [num for num, reply in zip(words, replies, strict=True) if reply['finished']]
  return {
    'words': float(np.mean(words)),
    'whole': float(np.mean(whole)) if whole else float('nan'),
    'think': float(np.mean([length.count_words(p.think) for p in parsed])),
    'finished': len(whole) / len(words),
    'valid_format': float(np.mean([p.valid for p in parsed])),
  }
