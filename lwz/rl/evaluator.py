"""Evaluation of a policy in training, on prompts that it does not train on.

1. generate two answers to each prompt, one sampled, one greedy      rollout.local
2. have the judge compare them with the baselines, in both orders    judge.judge
3. rate the policy against the baselines, whose ratings stay fixed   evals.anchors
4. have the referee compare them with those of step 0                rl.referee

    evaluations = evaluator.Evaluator(c, tok, config, generator.engine, greedy, folder, prompts)
    metrics = evaluations.step(loop, step, state.params)  # {} if no evaluation is due

Training does not depend on it. Its random keys are its own and the same in every evaluation, so
that its curves differ by the policy alone. Answers and verdicts are kept in `evaluations/` as they
come: a run that was killed asks nothing twice; `store.by_prompt` has the marks of each answer.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from lwz import hosts, jsonl, types
from lwz.data import templates, tokenizer
from lwz.evals import answers, offline
from lwz.judge import journal, systems
from lwz.judge import judge as judge_lib
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.reward import format as format_lib
from lwz.reward import length
from lwz.rl import judged, rating, referee, tasks
from lwz.rollout import local, sampler, scheduler
from lwz.runtime import setup, trainer
from lwz.store import by_prompt, checksum

READS = (
  *('eval.every', 'eval.file', 'eval.prompts', 'data.lower', 'data.upper', 'data.style', 'seed'),
  *('data.template', 'rollout.max_prompt_tokens', 'rollout.max_tokens', 'rollout.temperature'),
  *(*setup.DOCUMENTS, 'data.tested', 'train.num_steps', *judge_lib.READS, *referee.READS),
)

MODES = ('sampled', 'greedy')
# Metrics of each mode. Words are means over answers; `words_finished` leaves out those that
# max_tokens has cut; `plan` is the mean of `plan.following` over valid ones.
METRICS = (
  *('rating', 'win_rate', 'words', 'words_finished', 'think', 'plan', 'finished', 'valid_format'),
)
INTERVAL = ('eval/rating/low', 'eval/rating/high')  # 95 %, of the rating of the sampled answers
FAILURES = 'eval/judge_failures'  # share of the judge's questions without a verdict
KEYS = tuple(f'eval/{name}/{mode}' for name in METRICS for mode in MODES)


def check(c) -> None:
  """Raises ValueError if evaluations cannot be done as the config asks."""
  if not c.eval.every:
    return
  judge_lib.check(c)
  if c.eval.file:
    tasks.load(c)


def plots(c) -> list[dict[str, Any]]:
  """Returns the curves of a run's evaluations, as arguments of `curves.draw`."""
  if not c.eval.every:
    return []
  by = offline.NAME if c.judge.model == offline.NAME else systems.name(c, c.judge.model)
  by += judged.mark(c, judge_lib.name(c))
  return [
    {
      'keys': _both('rating'),
      'band': INTERVAL,
      'title': 'held-out rating',
      'unit': f'Elo scale, by {by}',
    },
    {'keys': _both('win_rate'), 'title': 'held-out win rate', 'unit': f'by {by}'},
    {'keys': ['words/think', *_both('think')], 'title': 'words of thoughts, and held-out ones'},
    {'keys': _both('plan'), 'title': 'outline followed, in order', 'unit': 'share'},
    {'keys': _both('words_finished'), 'title': 'words of held-out answers that were not cut'},
    {'keys': _both('valid_format'), 'title': 'share of valid format, held-out prompts'},
  ]


def _both(name: str) -> list[str]:
  return [f'eval/{name}/{mode}' for mode in MODES]


def facts(c) -> dict[str, str]:
  """Returns facts that a reader of the curves needs."""
  if not c.eval.every:
    return {}
  said = 'length and repetition, no meaning' if c.judge.model == offline.NAME else ''
  name = judge_lib.name(c) + judged.mark(c, judge_lib.name(c))
  return {'judge of the evaluations': ': '.join(filter(None, [name, said]))}


class Evaluator:
  """The evaluations of a run, by its own engine; `greedy` is the same at temperature 0.

  `trained` are the prompts that the run trains on: none of them is used.
  """

  def __init__(
    self,
    c,
    tok,
    config: config_lib.QwenConfig,
    engine: scheduler.Engine,
    greedy: scheduler.Engine,
    folder: epath.Path,
    trained: Sequence[types.Prompt],
  ):
    self._c, self._folder = c, folder / 'evaluations'
    self._decode = tokenizer.decoder(tok)
    if (folder / 'checkup').exists() and not self._folder.exists():  # its name before 0.2
      hosts.first(lambda: (folder / 'checkup').rename(self._folder))
    self._tasks = tasks.of(c, trained) if c.eval.every else []
    asked = [task.question for task in self._tasks]
    ids = templates.prompt_ids(tok, asked, c.data.style, c.data.template)
    most = c.rollout.max_prompt_tokens
    fits = [(task, one) for task, one in zip(self._tasks, ids, strict=True) if len(one) <= most]
    fits = tasks.spread(fits, c.eval.prompts)
    self._tasks = [task for task, _ in fits]
    self._ids = [np.array(one, np.int32) for _, one in fits]
    if c.eval.every and not self._tasks:
      logging.warning('no held-out prompts, so no evaluations: name an Arena-Write under eval.file')
    inside = c.judge.model != offline.NAME and not systems.is_endpoint(c.judge.model)
    if self._tasks and inside and jax.process_count() > 1:
      raise ValueError(
        f'judge.model={c.judge.model}: several processes cannot hold a judge during a training; '
        'serve it elsewhere, `vllm serve MODEL` (of a run, the folder that experiments/export.py '
        'writes), and name it as judge.model=MODEL@http://host:8000/v1'
      )
    self._engines = dict(zip(MODES, (engine, greedy), strict=True))
    self._referee = None
    if self._tasks and c.reward.heldout:
      passages = [referee.Answer(t.question, t.baselines.get('passage', '')) for t in self._tasks]
      start = self._folder / 'start.json'
      self._referee = referee.Referee(c, tok, config, setup.mesh(c), passages, start)

  def step(self, loop: trainer.Trainer, step: int, params: qwen.Params) -> dict[str, float]:
    """Returns the metrics of the policy before the update of a step; {} if no evaluation is due.

    One is due at step 0, every `eval.every` steps, and at the last. A pair without a verdict is
    left out; raises RuntimeError if there are more than `judge.max_failures` of them.
    """
    c = self._c
    if not self._tasks or (step % c.eval.every and step + 1 < c.train.num_steps):
      return {}
    policy = checksum.of(params)
    placed = self._engines[MODES[0]].reshard(params)
    answered = {}
    for mode in MODES:
      answered[mode] = self._answers(mode, placed, policy, step)
      loop.lap(f'eval_{mode}')
      loop.stop_if_asked()
    measured = hosts.first(functools.partial(self._measure, step, answered)) or {}
    if self._referee:
      measured |= self._refereed(step, self._referee, answered)
    loop.lap('eval_judge')
    loop.stop_if_asked()
    names = [*KEYS, *INTERVAL, FAILURES, *(referee.names(MODES) if self._referee else ())]
    values = np.array([measured.get(name, np.nan) for name in names])
    return dict(zip(names, hosts.all_gather(values)[0].tolist(), strict=True))

  def samples(self, num: int = 8) -> list[dict[str, Any]]:
    """Returns the sampled answers to `num` prompts at every evaluation, for the report."""
    if jax.process_index():
      return []
    by_step, found = self._sampled(), []
    for step, task in itertools.product(sorted(by_step), tasks.spread(self._tasks, num)):
      if (text := by_step[step].get(task.idx)) is not None:
        parsed = dataclasses.asdict(format_lib.parse(text, self._c.data.style))
        words = length.count_words(answers.final(text))
        found.append({'step': step, 'prompt': task.question, 'text': text, 'words': words} | parsed)
    return found

  def _sampled(self) -> dict[int, dict[int, str]]:
    """Returns the sampled texts of all evaluations so far, by step and task."""
    path, found = self._folder / 'answers.jsonl', {}
    for r in jsonl.read(path, skip='all')[0] if path.exists() else ():
      if r.get('mode') == MODES[0] and 'step' in r:
        found.setdefault(r['step'], {})[r['idx']] = str(r['text'])
    return found

  def _answers(self, mode: str, placed, policy: int, step: int) -> dict[int, dict[str, Any]]:
    """Returns the answers of one mode by task on process 0, and {} on the others."""
    c, is_first = self._c, jax.process_index() == 0
    keys = [journal.key(policy, mode, c.rollout.temperature, ids.tolist()) for ids in self._ids]
    with contextlib.ExitStack() as stack:
      kept: Any = {}
      if is_first:
        kept = stack.enter_context(journal.ReplyJournal(self._folder / 'answers.jsonl'))
      here = hosts.all_gather(np.array([key in kept for key in keys]))[0]
      todo = np.flatnonzero(~here).tolist()
      replies = local.stream(
        self._engines[mode],
        placed,
        [self._request(i) for i in todo],
        decode=self._decode,
      )
      for reply in replies if todo else ():
        if is_first:
          said = {'text': reply.text, 'finished': reply.finished}
          i = todo[reply.index]
          kept.add(keys[i], mode=mode, step=step, idx=self._tasks[i].idx, **said)
      if not is_first:
        return {}
      return {task.idx: kept[key] for task, key in zip(self._tasks, keys, strict=True)}

  def _request(self, i: int) -> scheduler.Request:
    """Returns the request of a task; its random key depends on the prompt and on no step."""
    prompt = zlib.crc32(self._ids[i].tobytes()) >> 1
    key = sampler.trajectory_keys(self._c.seed, 0, jnp.array([prompt]), jnp.array([0]))
    expected = float(self._tasks[i].length)
    return scheduler.Request(
      self._ids[i], np.asarray(key)[0], self._c.rollout.max_tokens, expected=expected
    )

  def _refereed(
    self,
    step: int,
    judge: referee.Referee,
    answered: Mapping[str, Mapping[int, Mapping[str, Any]]],
  ) -> dict[str, float]:
    """Returns the referee's metrics: its models score in all processes, the first one compares."""
    found = {
      mode: [_sound(replies[task.idx]['text'], self._c.data.style) for task in self._tasks]
      for mode, replies in answered.items()
      if replies
    }
    texts_by = json.loads(hosts.text_of_first(json.dumps(found)))
    asked = [task.question for task in self._tasks]
    answers_by = {mode: list(map(referee.Answer, asked, texts)) for mode, texts in texts_by.items()}
    scores = {mode: judge.scores(answers) for mode, answers in answers_by.items()}
    hosts.first(lambda: by_prompt.write(self._folder, step, _rows(answers_by, scores)))
    return hosts.first(lambda: judge.measure(answers_by, scores)) or {}

  def _measure(
    self, step: int, answered: Mapping[str, Mapping[int, Mapping[str, Any]]]
  ) -> dict[str, float]:
    """Returns all metrics of an evaluation."""

    def first() -> Mapping[int, str]:
      earlier = {then: texts for then, texts in self._sampled().items() if then < step}
      return earlier[min(earlier)] if earlier else {}

    opponents = tasks.with_baselines(self._tasks, first)
    with journal.ReplyJournal(self._folder / 'verdicts.jsonl') as kept:
      rated, failures = rating.of(self._c, opponents, answered, kept)
    measured = {FAILURES: failures}
    for mode, replies in answered.items():
      values = rated[mode] | rating.described(replies.values(), self._c.data.style)
      measured |= {f'eval/{name}/{mode}': values[name] for name in METRICS}
    bounds = (rated[MODES[0]][name] for name in ('low', 'high'))
    return measured | dict(zip(INTERVAL, bounds, strict=True))


def _sound(text: str, style: str) -> str:
  """Returns the answer of a trajectory in valid format, else ''."""
  parsed = format_lib.parse(text, style)
  return parsed.answer if parsed.valid else ''


def _rows(
  answers_by: Mapping[str, Sequence[referee.Answer]], scores: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
  """Returns a record of each answer, for differences between runs by prompt."""
  return [
    {
      'mode': mode,
      'prompt': answer.request,
      'valid_format': float(bool(answer.text)),
      'words': length.count_words(answer.text) if answer.text else None,
      **{name: values[i] for name, values in scores[mode].items()},
      referee.OUTCOME: referee.outcome(scores[mode]['referee'])[i],
    }
    for mode, answers in answers_by.items()
    for i, answer in enumerate(answers)
  ]
