"""Answers to held-out prompts: what an evaluation asks, writes by our engine, keeps on disk."""

import contextlib
import dataclasses
import itertools
import json
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from lwz import hosts, jsonl
from lwz.data import templates, tokenizer
from lwz.evals import answers
from lwz.judge import journal
from lwz.model import qwen
from lwz.reward import format as format_lib
from lwz.reward import length
from lwz.rl import tasks
from lwz.rollout import local, sampler, scheduler
from lwz.store import atomic

MODES = ('sampled', 'greedy')
_SIBLINGS = 4  # sampled answers to a prompt that are compared with one another

Written = dict[str, dict[int, dict[str, Any]]]  # by mode and task


class _Wanted(NamedTuple):
  """An answer: its mode, the place of its task, its number among siblings."""

  mode: str
  place: int
  sample: int = 0


class HeldoutAnswers:
  """The held-out tasks of a run, and the answers to them at each evaluation.

  Each task gets a sampled answer, `eval.greedy` of them a greedy one, and `eval.siblings` of them
  siblings, under modes of their own. `trained` are the prompts that the run trains on: none of them
  is used.
  """

  def __init__(self, c, tok, engine: scheduler.Engine, folder: epath.Path, trained):
    self._c, self._engine, self._path = c, engine, folder / 'answers.jsonl'
    self._decode = tokenizer.decoder(tok)
    found = tasks.of(c, trained) if c.eval.every else []
    asked = [task.question for task in found]
    ids = templates.prompt_ids(tok, asked, c.data.style, c.data.template)
    most = c.rollout.max_prompt_tokens
    fits = [(task, one) for task, one in zip(found, ids, strict=True) if len(one) <= most]
    fits = tasks.spread(fits, c.eval.prompts)
    self.tasks = [task for task, _ in fits]
    self._ids = [np.array(one, np.int32) for _, one in fits]
    self.prompts = {task.idx: task.question for task in self.tasks}
    self._wanted = [_Wanted('sampled', i) for i in range(len(fits))]
    self._wanted += [_Wanted('greedy', i) for i in tasks.spread(range(len(fits)), c.eval.greedy)]
    groups = tasks.spread(range(len(fits)), c.eval.siblings) if c.eval.siblings else []
    self._wanted += [_Wanted(f'sibling-{k}', i, k) for i in groups for k in range(1, _SIBLINGS)]
    self._wanted.sort(key=lambda wanted: wanted.place)  # so that a prompt is read once for all

  def write(self, params: qwen.Params, policy: int, step: int) -> Written:
    """Returns the answers of a policy on process 0, and {} on the others; none is written twice."""
    is_first = jax.process_index() == 0
    keys = [self._key(step, policy, wanted) for wanted in self._wanted]
    with contextlib.ExitStack() as stack:
      kept: Any = {}
      if is_first:
        kept = stack.enter_context(journal.ReplyJournal(self._path))
      here = hosts.all_gather(np.array([key in kept for key in keys]))[0]
      todo = np.flatnonzero(~here).tolist()
      requests = [self._request(self._wanted[i]) for i in todo]
      placed = self._engine.reshard(params) if todo else None
      replies = local.stream(self._engine, placed, requests, decode=self._decode) if todo else ()
      for reply in replies:
        if is_first:
          wanted, key = self._wanted[todo[reply.index]], keys[todo[reply.index]]
          about = {'step': step, 'policy': policy, 'mode': wanted.mode}
          said = {'text': reply.text, 'finished': reply.finished}
          kept.add(key, **about, idx=self.tasks[wanted.place].idx, **said)
      found: Written = {}
      for wanted, key in zip(self._wanted, keys, strict=True) if is_first else ():
        found.setdefault(wanted.mode, {})[self.tasks[wanted.place].idx] = kept[key]
      return found

  def _key(self, step: int, policy: int, wanted: _Wanted) -> str:
    ids, temperature = self._ids[wanted.place].tolist(), self._c.rollout.temperature
    return journal.key(step, policy, wanted.mode, temperature, ids)

  def _request(self, wanted: _Wanted) -> scheduler.Request:
    """Returns the request of an answer; its random key depends on the prompt and on no step."""
    ids = self._ids[wanted.place]
    greedy = wanted.mode == 'greedy'
    prompt, sample = jnp.array([zlib.crc32(ids.tobytes()) >> 1]), jnp.array([wanted.sample])
    return scheduler.Request(
      ids,
      np.asarray(sampler.trajectory_keys(self._c.seed, 0, prompt, sample))[0],
      self._c.rollout.max_tokens,
      expected=float(self.tasks[wanted.place].length * (1 + greedy)),  # may loop to the limit
      greedy=greedy,
    )

  def written(self) -> dict[int, Written]:
    """Returns the answers on disk by step."""
    found: dict[int, Written] = {}
    for r in jsonl.read(self._path, skip='all')[0] if self._path.exists() else ():
      if 'step' in r:
        found.setdefault(r['step'], {}).setdefault(r['mode'], {})[r['idx']] = r
    return found

  def forget(self, step: int, policy: int) -> None:
    """Drops the answers of a step that are not of this policy."""
    found = jsonl.read(self._path, skip='all')[0] if self._path.exists() else []
    kept = [r for r in found if r.get('step') != step or r.get('policy') == policy]
    if len(kept) < len(found):
      atomic.write_text(self._path, ''.join(json.dumps(r) + '\n' for r in kept))

  def whole(self, before: int) -> list[tuple[int, int, Written]]:
    """Returns (step, policy, answers) of the earlier steps whose answers are all on disk.

    Another start may ask fewer prompts, or others by the same numbers: of those that are asked now.
    """
    found: list[tuple[int, int, Written]] = []
    for step, by_mode in sorted(self.written().items()):
      rows = [by_mode.get(w.mode, {}).get(self.tasks[w.place].idx, {}) for w in self._wanted]
      policy = rows[0].get('policy')
      now: Written = {}
      for wanted, row in zip(self._wanted, rows, strict=True):
        if policy is not None and row.get('key') == self._key(step, policy, wanted):
          now.setdefault(wanted.mode, {})[row['idx']] = row
      if policy is not None and step < before and sum(map(len, now.values())) == len(rows):
        found.append((step, policy, now))
    return found

  def first(self, before: int) -> dict[int, str]:
    """Returns the sampled texts of the first evaluation by task, if it was before a step."""
    found = self.written()
    step = min(found, default=before)
    return {i: str(r['text']) for i, r in found[step][MODES[0]].items()} if step < before else {}

  def samples(self, num: int = 8) -> list[dict[str, Any]]:
    """Returns the sampled answers to `num` prompts at every evaluation, for the report."""
    if jax.process_index():
      return []
    by_step, found = self.written(), []
    for step, task in itertools.product(sorted(by_step), tasks.spread(self.tasks, num)):
      if (row := by_step[step].get(MODES[0], {}).get(task.idx)) is not None:
        text = str(row['text'])
        parsed = dataclasses.asdict(format_lib.parse(text, self._c.data.style))
        words = length.count_words(answers.final(text))
        found.append({'step': step, 'prompt': task.question, 'text': text, 'words': words} | parsed)
    return found


def sound(text: str, style: str) -> str:
  """Returns the answer of a trajectory in valid format, else ''."""
  parsed = format_lib.parse(text, style)
  return parsed.answer if parsed.valid else ''
