"""Rewards by a judge: the forms of `reward.weights`, which share one judge, and the ladder's state.

judged = JudgedRewards(c, run.folder, loop.extra)
rewards = registry.rewards(c, mesh, judged.rewards(given))
...                                       # a step is scored
values |= judged.step(names, batches)     # metrics; the ladder's state moves on
loop.record(..., extra=judged.extra)
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from lwz import hosts, text, types
from lwz.data import guidance
from lwz.evals import arena
from lwz.judge import judge as judge_lib
from lwz.judge import reward_judge, systems
from lwz.model import qwen
from lwz.reward import components, ladder, ranking, rubric, sibling, verdict
from lwz.rl import archived, sampling
from lwz.runtime import setup
from lwz.store import metrics, model_source, run

READS = ('data.prompts', 'rl.group_size', 'seed', *reward_judge.READS)

NEEDS = {'rubric': 'criteria', 'ladder': 'references'}  # what a form reads of each prompt
FORMS = (*NEEDS, 'sibling', 'ranking')
_LADDER = 'ladder'  # the reward, and its state in `extra` of a checkpoint
_VERDICT = 5  # least tokens of the verdict on a criterion: "c1": "no",


def names(c) -> list[str]:
  """Returns the rewards of a config that a judge gives."""
  return [name for name in c.reward.weights if name in FORMS]


def check(c) -> None:
  """Raises ValueError or FileNotFoundError if the judge of the rewards cannot be asked."""
  check_moving(c)
  if names(c):
    reward_judge.check(c)


def check_moving(c) -> None:
  """Raises ValueError if the judge is the policy itself, in a stage that has none."""
  if names(c) and reward_judge.is_policy(c) and c.stage not in ('grpo', 'preflight'):
    why = 'only a GRPO run has a policy that moves; name a judge that stays, a run for instance'
    raise ValueError(f'reward.judge={c.reward.judge}: {why}')


def guided(c, prompts: Sequence[types.Prompt]) -> list[types.Prompt]:
  """Returns the prompts with what forms need of them; only those made from titles lack it."""
  is_complete = c.data.prompts or not NEEDS.keys() & {*names(c)}
  return [*prompts] if is_complete else [guidance.add(prompt) for prompt in prompts]


def models(c) -> dict[str, str]:
  """Returns the model of a judge on our devices."""
  if not (names(c) and reward_judge.is_engine(c)):
    return {}
  return {'judge': c.init if reward_judge.is_policy(c) else c.reward.judge}


def num_texts(c) -> int:
  """Returns the answers that the largest question of the forms is about; 0 without any."""
  sizes = {'rubric': 1, 'ranking': c.rl.group_size}
  return max((sizes.get(name, 2) for name in names(c)), default=0)


def check_prompts(c, prompts: Sequence[types.Prompt]) -> None:
  """Raises ValueError if a reward needs what a prompt lacks, or the judge cannot hold an answer."""
  for prompt in prompts if 'verdict' in c.reward.weights else ():
    verdict.wanted(prompt, arena.verdict)
  words = [num_texts(c) * prompt.upper for prompt in prompts]
  if _LADDER in names(c):
    words += [p.upper + text.count_words(one) for p in prompts for one in p.references]
  _check_room(c, max(words, default=0))
  if 'rubric' in names(c) and (reward_judge.is_remote(c) or reward_judge.is_engine(c)):
    most = max((len(prompt.criteria) for prompt in prompts), default=0)
    if most * _VERDICT > c.reward.judge_tokens:
      raise ValueError(
        f'reward.judge_tokens={c.reward.judge_tokens} hold no verdicts on {most:,} criteria, which '
        f'a prompt has: raise it to {most * _VERDICT:,} or more'
      )
  for name in names(c):
    lacking = [p.id for p in prompts if name in NEEDS and not getattr(p, NEEDS[name])]
    if lacking:
      raise ValueError(
        f'reward.weights.{name}: {len(lacking)} of {len(prompts)} prompts have no '
        f'{NEEDS[name]!r}, the first is {lacking[0]!r}; name a file under data.prompts in which '
        f'every prompt has them, in place of {c.data.prompts or "titles"!r}'
      )


def _check_room(c, words: int) -> None:
  """Raises ValueError if a judge on our devices cannot hold a question about so many words.

  A word is a token at least. Of a judge that is to be run first nothing is known yet.
  """
  (value,) = models(c).values() or ('',)
  source = setup.reference(c, value)
  if not value or (setup.is_experiment(value) and not model_source.is_run(source)):
    return
  config = setup.expected(c, source)
  if words + c.reward.judge_tokens > config.num_positions:
    raise ValueError(
      f'reward.judge={c.reward.judge}: of its {config.num_positions} positions '
      f'reward.judge_tokens={c.reward.judge_tokens} are for the reply, and the rest holds no '
      f'question about {words} words: lower reward.judge_tokens, or name a judge of more positions'
    )


def facts(c) -> dict[str, str]:
  """Returns facts that a reader of the curves needs."""
  if not names(c):
    return {}
  itself = ', which judges itself' if reward_judge.is_policy(c) else ''
  return {f'judge of {", ".join(names(c))}': c.reward.judge + itself + mark(c, judge_lib.name(c))}


def mark(c, judge: str) -> str:
  """Returns what marks a judge of evaluations in a table, where it gives rewards as well."""
  trains = any(c.reward.weights[name] for name in names(c))
  same = trains and _plain(c, judge) == _plain(c, c.reward.judge)
  return ', which trains and evaluates' if same else ''


def trained(c, evaluated: Sequence[systems.System]) -> list[str]:
  """Returns the names of the systems of an evaluation that are runs trained by its judge."""
  found = []
  for system in evaluated:
    folder = setup.reference(c, system.source)
    if not systems.is_endpoint(system.source) and model_source.is_run(folder):
      own = archived.config(c, run.Run(epath.Path(folder)))
      if own.stage != 'grpo':
        continue  # other stages have no rewards, and read no key of theirs
      if reward_judge.is_policy(own):
        own.reward.judge = folder
      found += [system.name] if mark(own, judge_lib.name(c)) else []
  return found


def _plain(c, judge: str) -> str:
  """Returns what two names of one judge have in common."""
  return setup.reference(c, judge).rstrip('/')


def plots(c) -> list[dict[str, Any]]:
  """Returns the plots of judging, as arguments of `curves.draw`."""
  found = [{'keys': ['judge/asked'], 'title': 'replies of the judge in a step'}] if names(c) else []
  if _LADDER in names(c):
    found.append({'keys': ['ladder/rung'], 'title': 'mean rung of the prompts of a step'})
  return found


class JudgedRewards:
  """The rewards of a run that a judge gives; without any, nothing is done.

  `extra` is that of the checkpoint from which the run goes on. Without a folder no reply is kept.
  """

  def __init__(self, c, folder: epath.Path | None = None, extra: Mapping[str, Any] = {}):
    self._c, self._names = c, names(c)
    self._spent, self._paid = 0.0, 0.0  # in the run, by all; since this start, by this process
    self.state: dict[str, int] = dict(extra.get(_LADDER, {}))
    self._judge = reward_judge.RewardJudge(c, folder if self._names else None)
    if self._names and c.reward.judge_budget:
      # An older run's journal has no cost, and metrics lack the steps that a kill has undone.
      spent = max(self._judge.spent(), sum(r.get('judge/cost') or 0.0 for r in _records(folder)))
      self._spent = float(hosts.all_gather(np.float64(spent))[0])
      self._allow()

  def close(self) -> None:
    self._judge.close()

  def _allow(self) -> None:
    """Divides what is left of the budget over the processes, each of which knows what it pays."""
    left = self._c.reward.judge_budget - self._spent
    self._judge.allowance = self._paid + left / jax.process_count()

  def stops(self) -> str:
    """Returns why the steps so far end the run, as `reward.judge_budget` says, or ''."""
    budget = self._c.reward.judge_budget
    return self._over(self._spent) if budget and self._spent >= budget else ''

  def refused(self) -> str:
    """Returns why, if the budget left a question of this step unasked; else ''.

    What was answered is kept: with a larger budget the step goes on. All processes call it.
    """
    if not self._c.reward.judge_budget:
      return ''
    cost, left_out = hosts.all_gather(np.array(self._judge.unpaid(), np.float64)).sum(axis=0)
    return self._over(self._spent + cost) if left_out else ''

  def _over(self, cost: float) -> str:
    budget = self._c.reward.judge_budget
    return f'the judge has cost {cost:.2f}, and reward.judge_budget={budget}: raise it'

  def take(self, step: int, params: Callable[[], qwen.Params]) -> None:
    """Takes the policy that writes the samples of a step, see `reward_judge`."""
    self._judge.take(step, params)

  @property
  def extra(self) -> dict[str, Any]:
    """The state that a checkpoint keeps."""
    return {_LADDER: self.state} if _LADDER in self._names else {}

  def rewards(self, given: Mapping[str, components.Reward] | None) -> dict[str, components.Reward]:
    """Returns the judged rewards by name, beside those that are given."""
    return {name: self.reward(name) for name in self._names} | dict(given or {})

  def reward(self, name: str) -> components.Reward:
    """Returns one of `FORMS`.

    Answers are judged while others are being written, in exact runs too: every reply is kept, and
    none is asked for again. A model on our devices is asked when all are there.
    """
    c = self._c
    how: dict[str, Any] = {
      'deferred': reward_judge.is_engine(c),
      'threads': c.judge.concurrency if reward_judge.is_slow(c) else 1,
    }
    match name:
      case 'rubric':
        return components.per_answer(functools.partial(rubric.rubric, judge=self._judge), **how)
      case 'ladder':
        return components.per_answer(self._ladder, **how)
      case 'sibling':
        fn = functools.partial(sibling.sibling, judge=self._judge, seed=c.seed)
      case _:
        fn = functools.partial(ranking.ranking, judge=self._judge, seed=c.seed)
    return components.per_groups(fn, **how)

  def _ladder(self, samples: Sequence[components.Sample]) -> np.ndarray:
    return ladder.ladder(samples, self._judge, state=self.state)

  def step(self, rewards: Sequence[str], batches: Sequence[sampling.Batch]) -> dict[str, float]:
    """Returns metrics of the step that was scored; `rewards` names the last dimension of scores.

    The rungs of its prompts are those that it was scored by; then the ladder's state moves on.
    """
    if not self._names:
      return {}
    self._paid += self._judge.unpaid()[0]
    measured = self._judge.metrics()
    self._spent += measured['judge/cost']
    if self._c.reward.judge_budget:
      self._allow()
    if _LADDER in self._names:
      r, before = list(rewards).index(_LADDER), self.state
      asked = [prompt for batch in batches for prompt in _prompts(batch)]
      measured['ladder/rung'] = float(np.mean([before.get(prompt.id, 0) for prompt in asked]))
      for batch in batches:  # a prompt may be in several, all scored by the rungs before
        values_PG = np.asarray(batch.scores.values)[:, :, r]
        after = ladder.advance(before, _prompts(batch), values_PG, batch.scores.valid)
        self.state = self.state | {k: rung for k, rung in after.items() if rung != before.get(k)}
    return measured


def _records(folder: epath.Path | None) -> list[dict[str, Any]]:
  """Returns the metrics of the steps so far."""
  return metrics.read(folder) if folder and (folder / 'metrics.jsonl').exists() else []


def _prompts(batch: sampling.Batch) -> list[types.Prompt]:
  group_size = batch.scores.valid.shape[1]
  return [sample.prompt for sample in batch.samples[::group_size]]
