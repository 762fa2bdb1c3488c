"""Functions that an experiment chooses by name: rewards, advantages, losses, aggregations.

Every entry is `(c, mesh) -> function`. A new one is a function in its room and a line here.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from lwz import jsonl
from lwz.data import templates, tokenizer
from lwz.evals import arena
from lwz.judge import http as http_lib
from lwz.judge import systems
from lwz.learn import advantage, composition, distillation, losses, overlong
from lwz.programs import language_model, reward_model
from lwz.programs import program as program_lib
from lwz.reward import components, diversity, protocols, verdict, writing
from lwz.rl import judged, likelihood
from lwz.runtime import setup, tokenizers
from lwz.store import model_source, run

READS = (
  *('data.long', 'data.row_length', 'reward', 'rl.group_size', 'rl.overlong_margin'),
  *('rl.prompts_per_step', 'rl.ratio_cap', 'rollout.exact', 'rollout.max_tokens'),
  *(*judged.READS, *likelihood.READS),
)

# (scores_PGR, weights_R, valid_PG) -> advantage_PG
ADVANTAGES: dict[str, Callable[..., Callable]] = {
  'balanced': lambda c, mesh: advantage.balanced,
  'batch_balanced': lambda c, mesh: advantage.batch_balanced,
  'mean_reward': lambda c, mesh: advantage.mean_reward,
  'leave_one_out': lambda c, mesh: functools.partial(
    advantage.mean_reward, relative=advantage.leave_one_out
  ),
  'centred': lambda c, mesh: functools.partial(advantage.mean_reward, relative=advantage.centred),
}
AFTER = ('balanced', 'batch_balanced')  # advantages that average rewards once each is normalised
# (scores_PGR, weights_R, valid_PG) -> reward_PG, before it is normalised
COMPOSITIONS: dict[str, Callable[..., Callable]] = {
  'sum': lambda c, mesh: composition.weighted_sum,
  'product': lambda c, mesh: composition.product,
  'veto': lambda c, mesh: functools.partial(composition.veto, **_constraints(c)),
  'violators': lambda c, mesh: functools.partial(composition.violators, **_constraints(c)),
}
CONSTRAINED = ('veto', 'violators')  # compositions that read `rl.constraints`
# arguments and results of `losses.grpo`; those of DISTILLING also take `teacher_logp_BT`
LOSSES: dict[str, Callable[..., Callable]] = {
  'grpo': lambda c, mesh: functools.partial(losses.grpo, ratio_cap=c.rl.ratio_cap or math.inf),
  'gspo': lambda c, mesh: losses.gspo,
  'cispo': lambda c, mesh: losses.cispo,
  'distill': lambda c, mesh: distillation.loss,
}
DISTILLING = ('distill',)  # losses that need `rl.teacher`
# (scores_PGR, valid_PG, lengths_PG, finished_PG) -> (scores_PGR, valid_PG)
OVERLONG: dict[str, Callable[..., Callable]] = {
  'keep': lambda c, mesh: overlong.keep,
  'mask': lambda c, mesh: overlong.mask,
  'penalise': lambda c, mesh: functools.partial(
    overlong.penalise, max_tokens=c.rollout.max_tokens, margin=c.rl.overlong_margin
  ),
}
# (num_tokens, num_sequences) -> aggregate(values_BT, mask_BT)
AGGREGATES: dict[str, Callable[..., Callable]] = {
  'token': lambda c, mesh: lambda num_tokens, num_sequences: losses.budget_mean(num_tokens),
  'sequence': lambda c, mesh: (
    lambda num_tokens, num_sequences: losses.sequence_budget_mean(num_sequences)
  ),
  'budget': lambda c, mesh: (
    lambda num_tokens, num_sequences: losses.budget_mean(num_sequences * c.rollout.max_tokens)
  ),
}
REWARDS: dict[str, Callable[..., components.Reward]] = {
  'length': lambda c, mesh: components.per_answer(
    functools.partial(components.length, max_words=c.reward.max_words)
  ),
  'writing': lambda c, mesh: writing_by(c, mesh, (c.reward.model, *c.reward.ensemble)),
  'format': lambda c, mesh: components.per_answer(components.format),
  'rubric': lambda c, mesh: judged.JudgedRewards(c).reward('rubric'),
  'sibling': lambda c, mesh: judged.JudgedRewards(c).reward('sibling'),
  'ranking': lambda c, mesh: judged.JudgedRewards(c).reward('ranking'),
  'ladder': lambda c, mesh: judged.JudgedRewards(c).reward('ladder'),
  'verdict': lambda c, mesh: components.per_answer(
    functools.partial(verdict.right, read=arena.verdict)
  ),
  'likelihood': lambda c, mesh: likelihood.reward(c, mesh, score_shape(c, mesh).num_rows),
  'diversity': lambda c, mesh: components.per_group(diversity.distance),
}
Given = Mapping[str, components.Reward] | None  # by name: rewards of `lwz.run`, beside REWARDS
HELDOUT_OF = 'writing'  # the reward that the held-out reward model is compared with

SCALE = 'scale.json'  # file of an exported reward model: mean and deviation of its scores


def _constraints(c) -> dict[str, Any]:
  names = [name in c.rl.constraints for name in c.reward.weights]
  return {'constraint_R': np.array(names), 'satisfied': c.rl.satisfied}


def score_shape(c, mesh: jax.sharding.Mesh) -> language_model.RowShape:
  """Returns the shape of one pass of the reward model: rows, and tokens per row."""
  num_samples = c.rl.prompts_per_step * c.rl.group_size
  return language_model.RowShape(setup.pass_rows(c, mesh, num_samples), c.data.row_length)


def is_server(value: str) -> bool:
  """Whether a reward model is given as the address of a server, or as MODEL@ADDRESS."""
  return model_source.is_address(value) or systems.is_endpoint(value)


def _server(c, value: str, **limits: Any) -> tuple[http_lib.Endpoint, protocols.Protocol]:
  """Returns the endpoint of a reward server, and what it speaks; raises ValueError for neither."""
  model, at, url = value.partition('@http')
  model, url = (model, f'http{url}') if at else ('', value)
  endpoint = http_lib.Endpoint(url, model, key_env=c.reward.key_env, **limits)
  return endpoint, protocols.of(url, chat=c.reward.server_chat)


def has_own_model(c) -> bool:
  """Whether a reward model on our devices gives a reward."""
  return 'writing' in c.reward.weights and not is_server(c.reward.model)


def rewards(c, mesh: jax.sharding.Mesh, given: Given = None) -> dict[str, components.Reward]:
  """Returns the rewards that `reward.weights` names, in its order."""
  given = given or {}
  return {
    name: given[name] if name in given else REWARDS[name](c, mesh) for name in c.reward.weights
  }


def check_rewards(c, given: Given = None) -> None:
  """Raises ValueError if a reward, a reward model or the scale of its scores is invalid."""
  if not any(c.reward.weights.values()):  # `keys` has refused negative ones
    raise ValueError('reward.weights are all 0: give at least one reward a positive weight')
  for name in c.reward.weights:
    if name not in (known := {**REWARDS, **(given or {})}):
      raise ValueError(
        f'reward.weights.{name}: there is no such reward; choose from {", ".join(known)}'
      )
  judged.check(c)
  likelihood.check(c)
  models = c.reward.model, *c.reward.ensemble, c.reward.heldout
  if c.reward.server_chat and not any(map(is_server, models)):
    raise ValueError('reward.server_chat=True, and no reward model is a server: leave the key out')
  for value in models:
    if is_server(value):
      _server(c, value)
    elif value and not setup.is_experiment(value):
      scale(c, value)


def heldout(c, mesh) -> components.Reward | None:
  """Returns the held-out reward, which trains nothing, or None if the config names no model."""
  return writing_by(c, mesh, (c.reward.heldout,)) if c.reward.heldout else None


def writing_by(
  c, mesh, models: Sequence[str], known: Mapping[str, writing.Scorer] | None = None
) -> components.Reward:
  """Returns the writing reward by one or more reward models, each ours or a server.

  `known` are scorers that exist already, by model. In exact runs servers are asked after everything
  is written: the last bits of their scores may depend on the other requests of the time.
  """
  known, faults = known or {}, collections.Counter[str]()
  scorers = [known[value] if value in known else scorer(c, mesh, value, faults) for value in models]
  combined = writing.ensemble(scorers, c.reward.caution) if len(scorers) > 1 else scorers[0]
  fn = functools.partial(components.writing, scorer=combined, floor=c.reward.writing_floor)
  made = components.on_device(fn)
  if all(map(is_server, models)):
    made = components.per_answer(fn, deferred=c.rollout.exact)
  return dataclasses.replace(made, faults=faults)


def scorer(
  c, mesh, value: str, faults: collections.Counter[str] | None = None, /, **limits: Any
) -> writing.Scorer:
  """Returns the scorer of a reward model, ours or a server with these `limits` of `Endpoint`.

  `faults` counts requests to a server without a score, by cause. One whose first replies all have
  another form is no reward server, and ends the run; later such a reply is a fault as any other.
  """
  if not is_server(value):
    return OwnScorer(c, mesh, value)
  limits = {name: c.judge[name] for name in ('timeout', 'deadline', 'tries')} | limits
  server, protocol = _server(c, value, **limits)
  scale = writing.Scale(c.reward.mean, c.reward.std) if c.reward.std else None
  counted, is_known = collections.Counter[str]() if faults is None else faults, False

  def post(payload, read):
    nonlocal is_known
    try:
      found = http_lib.post(server, payload, read)
    except http_lib.Failed as failed:
      cause = http_lib.cause(failed.fault)
      if cause == 'garbage' and not is_known:
        raise ValueError(
          f'reward server {value}: {failed.fault}; name an address that gives {protocol.form}, a '
          'number for each pair, or null'
        ) from None
      if re.match('http 40[1345]', failed.fault):  # no other request would fare better
        raise PermissionError(f'reward server {value}: {failed.fault}') from None
      logging.warning('reward server %s: %s; its samples are masked', value, failed.fault)
      counted[cause] += 1
      raise
    is_known = True
    counted['garbage'] += not all(x is None or math.isfinite(x) for x in found)
    return found

  # A chat is of one pair.
  how: dict[str, Any] = {
    'protocol': protocol,
    'model': server.model,
    'batch': 1 if c.reward.server_chat else 8,
  }
  return writing.remote(post, faults=(http_lib.Failed,), scale=scale, **how)


@functools.lru_cache(4)
def _score_program(config, shape: language_model.RowShape, mesh) -> program_lib.Program:
  """The one of all scorers of these shapes: it is compiled once."""
  return reward_model.score(config, shape, mesh=mesh)


class OwnScorer:
  """A reward model on our devices: (request, answer) pairs -> rewards [B]."""

  def __init__(self, c, mesh, value: str, shape: language_model.RowShape | None = None):
    self._c, self._mesh = c, mesh
    source = setup.reference(c, value)
    self.config = setup.computed(c, model_source.config(source))
    self.take(value)
    self.tokenizer = tokenizers.load(source)
    setup.end_ids(self.tokenizer, self.config, source)
    self.shape = shape or score_shape(c, mesh)
    program = _score_program(self.config, self.shape, mesh)
    program.start()
    self.score_fn = program.jit()

  def take(self, value: str) -> None:
    """Takes the parameters and the scale of a reward model of this configuration."""
    source = setup.reference(self._c, value)
    self._scale = scale(self._c, value)
    self.params = setup.load_params(self._c, source, self.config, self._mesh)

  def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    ids = tokenizer.encode(self.tokenizer, [templates.judged(*pair) for pair in pairs], end=True)
    if self._c.data.long == 'refuse':  # NaN: a sample that cannot be judged is masked and counted
      scores = reward_model.score_all(self.score_fn, self.params, ids, self.shape)
    else:
      requests = [templates.judged(prompt, '') for prompt, _ in pairs]
      heads = [len(head) for head in tokenizer.encode(self.tokenizer, requests, end=False)]
      scores = reward_model.score_windows(self.score_fn, self.params, ids, heads, self.shape)
    return writing.squash(scores, self._scale)


def scale(c, value: str) -> writing.Scale:
  """Returns the scale of a reward model's scores: measured by its run, else that of the config."""
  source = epath.Path(setup.reference(c, value))
  if not model_source.config(source).scalar_head:
    raise ValueError(f'{value} has no scalar head: name a reward model under reward.model')
  fields = {'mean': jsonl.Span(float, -1e30, 1e30), 'std': jsonl.Span(float, 1e-30, 1e30)}
  if model_source.is_run(source):
    measured = run.Run(source).read_done()['summary']
    if fault := jsonl.faults(measured, fields):
      raise ValueError(f'{source / "DONE"}: {"; ".join(fault)}; train the reward model again')
    if fields.keys() <= measured.keys():
      return writing.Scale(measured['mean'], measured['std'])
  if (kept := source / SCALE).exists():
    found = jsonl.document(kept, fields, remedy='mend it, or delete it')
    return writing.Scale(found['mean'], found['std'])
  if c.reward.std:
    return writing.Scale(c.reward.mean, c.reward.std)
  raise ValueError(
    f'{value} has no measured scale: give the mean and the standard deviation of its scores over '
    'good texts as reward.mean and reward.std'
  )
