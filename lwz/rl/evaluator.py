"""Evaluation of a policy in training, on prompts that it does not train on.

1. between two updates: sample an answer to each prompt, and greedy ones and siblings of some
                                                                    rl.heldout_answers
2. in the background, while training goes on: measure what needs no judge, score by models on our
   devices (off a CPU and on several devices still in the step), have the judge compare them with
   the baselines, rate them                                         rl.judging, rl.referee
3. when it has ended: a record in evaluations.jsonl                 store.evaluations

    evaluations = evaluator.Evaluator(c, tok, config, generator.engine, folder, prompts)
    metrics = evaluations.step(loop, step, state.params)  # {} if no evaluation is due

Training does not depend on it. Its random keys are its own and the same in every evaluation, so
that its curves differ by the policy alone. Answers and verdicts are kept in `evaluations/` as they
come: a run that was killed asks nothing twice, and judges what has no record; `store.by_prompt` has
the marks of each answer. Of a step that a resumed run passes again, what there is stays only if it
is of the policy of now: an inexact run comes by with another one.
"""

import functools
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from lwz import hosts, types
from lwz.evals import answers, offline
from lwz.judge import diversity, journal, systems
from lwz.judge import judge as judge_lib
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.rl import heldout_answers, judging, rating, referee, tasks
from lwz.rollout import scheduler
from lwz.runtime import setup, trainer
from lwz.store import by_prompt, checksum
from lwz.store import evaluations as records

READS = (
  *('eval.every', 'eval.file', 'eval.prompts', 'data.lower', 'data.upper', 'data.style', 'seed'),
  *('data.template', 'rollout.max_prompt_tokens', 'rollout.max_tokens', 'rollout.temperature'),
  *('eval.greedy', 'eval.inside', 'eval.siblings', 'eval.wait', 'eval.window', 'checkpoint.best'),
  *(*setup.DOCUMENTS, 'data.tested', 'train.num_steps', *judge_lib.READS, *referee.READS),
)

MODES = heldout_answers.MODES
_TICK = 1.0  # seconds between two looks at the judge, where one waits for it
# Metrics of each mode. Words are means over answers; `words_finished` leaves out those that
# max_tokens has cut; `plan` is the mean of `plan.following` over valid ones.
METRICS = (
  *('rating', 'win_rate', 'words', 'words_finished', 'think', 'plan', 'finished', 'valid_format'),
  *diversity.MEASURES,
)
INTERVAL = ('eval/rating/low', 'eval/rating/high')  # 95 %, of the rating of the sampled answers
FAILURES = 'eval/judge_failures'  # share of the judge's questions without a verdict
SIBLINGS = 'eval/sibling_similarity'  # of sampled answers to one prompt
SHARE = 'evaluation/share_of_seconds'  # that evaluations have held training, since it was started
KEYS = (*(f'eval/{name}/{mode}' for name in METRICS for mode in MODES), SIBLINGS)


def check(c) -> None:
  """Raises ValueError if evaluations cannot be done as the config asks."""
  if not c.eval.every:
    return
  judge_lib.check(c)
  if c.eval.file:
    tasks.load(c)


class Evaluator:
  """The evaluations of a run, by its own engine.

  `trained` are the prompts that the run trains on: none of them is used.
  """

  def __init__(
    self,
    c,
    tok,
    config: config_lib.QwenConfig,
    engine: scheduler.Engine,
    folder: epath.Path,
    trained: Sequence[types.Prompt],
  ):
    self._c, self._run, self._folder = c, folder, folder / 'evaluations'
    if hosts.of_first((folder / 'checkup').exists() and not self._folder.exists()):
      hosts.first(lambda: (folder / 'checkup').rename(self._folder))  # its name before 0.2
    self._answers = heldout_answers.HeldoutAnswers(c, tok, engine, self._folder, trained)
    self._tasks, self.samples = self._answers.tasks, self._answers.samples
    if c.eval.every and not self._tasks:
      logging.warning('no held-out prompts, so no evaluations: name an Arena-Write under eval.file')
    self._inside = c.judge.model != offline.NAME and not systems.is_endpoint(c.judge.model)
    if self._tasks and self._inside and jax.process_count() > 1:
      raise ValueError(
        f'judge.model={c.judge.model}: several processes cannot hold a judge during a training; '
        'serve it elsewhere, `vllm serve MODEL` (of a run, the folder that experiments/export.py '
        'writes), and name it as judge.model=MODEL@http://host:8000/v1'
      )
    places = range(len(self._tasks))
    self._read = tasks.spread(places, c.eval.inside) if c.eval.inside else []
    self._referee = None
    if self._tasks and c.reward.heldout:
      passages = [referee.Answer(t.question, t.baselines.get('passage', '')) for t in self._tasks]
      start = self._folder / 'start.json'
      self._referee = referee.Referee(c, tok, config, setup.mesh(c), passages, start)
    self._judging = judging.Judging(folder)
    self._kept: journal.ReplyJournal | None = None
    self._began, self._seconds = time.monotonic(), 0.0
    self._left: list[int] | None = None  # steps to come of which an earlier attempt left something

  def stop(self) -> None:
    """Drops what is under way, for a resumed run to judge; no server's reply is waited for."""
    self._judging.stop()
    if self._kept is not None:
      self._kept.close()
    if self._inside:  # it ends at the next reply, which finds the journal closed
      self._judging.join()

  def step(self, loop: trainer.Trainer, step: int, params: qwen.Params) -> dict[str, float]:
    """Evaluates the policy before the update of a step; returns {} if no evaluation is due.

    One is due at step 0, every `eval.every` steps, and at the last, unless the step has a record of
    this policy. The last waits for all that are under way, `eval.wait` seconds at most. So does one
    that `checkpoint.best` needs, whose value is returned, and, for as long as it takes, one by a
    judge on our own devices.
    """
    if not self._tasks:
      return {}
    began = time.monotonic()
    if self._left is None:
      self._left = self._resume(loop, step)
    self._pass_on(loop)
    measured = self._evaluate(loop, step, params, self._left)
    now = time.monotonic()
    self._seconds += now - began
    return measured and measured | {SHARE: self._seconds / max(now - self._began, 1e-9)}

  def _evaluate(
    self, loop: trainer.Trainer, step: int, params: qwen.Params, left: list[int]
  ) -> dict[str, float]:
    c, is_last = self._c, step + 1 >= self._c.train.num_steps
    is_due = is_last or step % c.eval.every == 0
    if not is_due and step not in left:
      return {}
    policy = checksum.of(params)
    for then in [s for s in left if s == step or (is_last and s > step)]:
      hosts.first(functools.partial(self._forget, then, policy))
    has = hosts.of_first(self._judging.has(step, policy))
    if has:  # the sinks have dropped what they had of this step
      loop.late(step, records.metrics(self._run).get(step, {}))
    if not is_due:
      return {}
    if not has:
      answered = self._answers.write(params, policy, step)
      loop.lap('eval_write')
      loop.stop_if_asked()
      self._judge(step, policy, answered)
      loop.lap('eval_referee')
    best = c.checkpoint.best if c.checkpoint.best.startswith('eval/') else ''
    if is_last or self._inside or best:
      self._wait(loop)
      self._pass_on(loop)
    if not best:
      return {SHARE: 0.0}
    value = records.metrics(self._run).get(step, {}).get(best)
    return {best: float(hosts.all_gather(np.float64(np.nan if value is None else value))[0])}

  def _forget(self, step: int, policy: int) -> None:
    """Drops what there is of a step by another policy than this one."""
    self._judging.forget(step, policy)
    self._answers.forget(step, policy)

  def _pass_on(self, loop: trainer.Trainer) -> None:
    for step, values in hosts.first(self._judging.ended) or ():
      loop.late(step, values)

  def _wait(self, loop: trainer.Trainer) -> None:
    """Waits until no evaluation is under way; all processes together, and a signal is heard."""
    c, until = self._c, time.monotonic() + (math.inf if self._inside else self._c.eval.wait)
    while not hosts.of_first(self._judging.wait(_TICK)):
      if hosts.of_first(time.monotonic() > until):
        hosts.first(
          lambda: self._judging.give_up(f'not ended after eval.wait={c.eval.wait} seconds')
        )
        break
      loop.lap('eval_wait')
      loop.stop_if_asked()
    loop.lap('eval_wait')

  def _resume(self, loop: trainer.Trainer, before: int) -> list[int]:
    """Has evaluations of earlier steps judged that are written, and have no record.

    Returns the steps from `before` on of which an earlier attempt has left something.
    """
    left: list[int] = []
    todo: dict[int, tuple[int, heldout_answers.Written]] = {}
    if jax.process_index() == 0:
      kept = records.metrics(self._run)
      for then, values in kept.items():
        if then < before:
          loop.late(then, values)  # a sink may lack them
      found = self._answers.whole(before)
      todo = {
        step: (policy, by) for step, policy, by in found if not self._judging.has(step, policy)
      }
      left = sorted(step for step in {*kept, *self._answers.written()} if step >= before)
    named = json.dumps([[(step, policy) for step, (policy, _) in todo.items()], left])
    again, left = json.loads(hosts.text_of_first(named))
    for step, policy in again:
      self._judge(step, policy, todo[step][1] if todo else {}, again=True)
      loop.lap('eval_referee')
      loop.stop_if_asked()
    return left

  def _judge(self, step: int, policy: int, answered, again: bool = False) -> None:
    """Has process 0 judge answers in the background, and score them by models on our devices.

    Several processes score them now: they run programs in one order, and several devices of a CPU
    end where collectives of two programs wait for its cores. So does an accelerator, whose memory
    another program beside the training would take.
    """
    score = functools.partial(self._scored, answered)
    if setup.mesh(self._c).size > 1 or jax.default_backend() != 'cpu':
      score = functools.partial(tuple, score())
    if jax.process_index() == 0:
      # Open until `stop`, so that a thread that still judges then can add nothing.
      if self._kept is None:
        self._kept = journal.ReplyJournal(self._folder / 'verdicts.jsonl')
      describe = functools.partial(self._describe, step, answered, score, again)
      rate = functools.partial(self._rate, step, answered, self._kept)
      self._judging.add(step, policy, describe, rate)

  def _scored(self, answered):
    """Returns the referee's answers and scores by mode, and its scores inside; {} without one."""
    if not self._referee:
      return {}, {}, {}
    asked = {task.idx: task.question for task in self._tasks}
    sound = functools.partial(heldout_answers.sound, style=self._c.data.style)
    found = {
      mode: [(asked[idx], sound(one['text'])) for idx, one in answered[mode].items()]
      for mode in (MODES if answered else ())
    }
    shared = json.loads(hosts.text_of_first(json.dumps(found)))
    by_mode = {mode: [referee.Answer(*one) for one in texts] for mode, texts in shared.items()}
    logps: dict[str, list[np.ndarray]] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for mode, said in by_mode.items():  # minutes, for a large model on a CPU
      logps[mode] = self._referee.logprobs(said)
      self._judging.check()
      scores[mode] = self._referee.scores(said, logps[mode])
      self._judging.check()
    of = MODES[0]
    read = [by_mode[of][i] for i in self._read], [logps[of][i] for i in self._read]
    return by_mode, scores, self._referee.within(*read, self._c.eval.window)

  def _describe(self, step: int, answered, score, again: bool, values: dict[str, Any]) -> None:
    """Fills in the metrics of an evaluation that need no judge, and NaN for those of the judge."""
    c = self._c
    names = [*KEYS, *INTERVAL, FAILURES, *(referee.names(MODES) if self._referee else ())]
    values |= dict.fromkeys(names, float('nan'))
    by_mode, scores, within = score()
    groups: dict[int, list[str]] = {}
    for mode in answered:
      for idx, reply in answered[mode].items() if mode != 'greedy' else ():
        groups.setdefault(idx, []).append(answers.final(reply['text']))
    values[SIBLINGS] = diversity.similarity(groups.values())
    for mode in MODES:
      found = rating.described(answered[mode], self._answers.prompts, c.data.style)
      values |= {f'eval/{name}/{mode}': x for name, x in found.items() if name in METRICS}
    read = {self._tasks[i].idx: answered[MODES[0]][self._tasks[i].idx] for i in self._read}
    values |= rating.within(c, read, self._answers.prompts, within)
    if self._referee:
      values |= self._referee.measure(by_mode, scores)
      if not again or by_prompt.step(self._folder) <= step:  # it is of the last evaluation
        by_prompt.write(self._folder, step, referee.rows(by_mode, scores))

  def _rate(self, step: int, answered, kept: journal.ReplyJournal, values: dict[str, Any]) -> None:
    """Fills in the metrics of an evaluation that the judge gives."""
    c, modes = self._c, {mode: answered[mode] for mode in MODES}
    opponents = tasks.with_baselines(self._tasks, lambda: self._answers.first(step))
    rated, values[FAILURES] = rating.of(c, opponents, modes, kept)
    values |= {f'eval/{name}/{m}': rated[m][name] for name in METRICS[:2] for m in MODES}
    bounds = (rated[MODES[0]][name] for name in ('low', 'high'))
    values |= dict(zip(INTERVAL, bounds, strict=True))
