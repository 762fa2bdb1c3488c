"""What an experiment may choose by name: rewards, advantages, losses, aggregations.

A new one is a function in its room and a line here.
"""

import functools
import json
import math
from collections.abc import Callable

import jax
from etils import epath

from lwz.data import templates, tokenizer
from lwz.judge import http as http_lib
from lwz.learn import advantage, losses, overlong
from lwz.programs import reward_model
from lwz.reward import components, writing
from lwz.runtime import setup
from lwz.store import model_source, run

ADVANTAGES: dict[str, Callable[..., jax.Array]] = {
  'balanced': advantage.balanced,
  'batch_balanced': advantage.batch_balanced,
  'mean_reward': advantage.mean_reward,
  'leave_one_out': functools.partial(advantage.mean_reward, relative=advantage.leave_one_out),
  'centred': functools.partial(advantage.mean_reward, relative=advantage.centred),
}
LOSSES: dict[str, Callable[..., Callable]] = {
  'grpo': lambda c: functools.partial(losses.grpo, ratio_cap=c.rl.ratio_cap or math.inf),
  'gspo': lambda c: losses.gspo,
  'cispo': lambda c: losses.cispo,
}
OVERLONG: dict[str, Callable[..., Callable]] = {
  'keep': lambda c: overlong.keep,
  'mask': lambda c: overlong.mask,
  'penalise': lambda c: functools.partial(
    overlong.penalise, max_tokens=c.rollout.max_tokens, margin=c.rl.overlong_margin
  ),
}
AGGREGATES = {
  'token': lambda c, num_tokens, num_sequences: losses.budget_mean(num_tokens),
  'sequence': lambda c, num_tokens, num_sequences: losses.sequence_budget_mean(num_sequences),
  'budget': lambda c, num_tokens, num_sequences: losses.budget_mean(
    num_sequences * c.rollout.max_tokens
  ),
}
REWARDS: dict[str, Callable[..., components.Component]] = {
  'length': lambda c, mesh: functools.partial(components.length, max_words=c.reward.max_words),
  'writing': lambda c, mesh: functools.partial(
    components.writing, scorer=_scorer(c, mesh), floor=c.reward.writing_floor
  ),
  'format': lambda c, mesh: components.format,
}

SCALE = 'scale.json'  # beside a Hugging Face model of ours: mean and spread of its scores


def score_shape(c, mesh: jax.sharding.Mesh) -> dict[str, int]:
  """Rows of one pass of the reward model, and their tokens."""
  num_samples = c.rl.prompts_per_step * c.rl.group_size
  return {'num_rows': setup.pass_rows(c, mesh, num_samples), 'row_length': c.data.row_length}


def is_server(value: str) -> bool:
  """Whether a reward model is named by the address of a server."""
  return value.startswith(('http://', 'https://'))


def reward_models(c) -> list[str]:
  """The models of our own that the writing reward comes from; servers are left out."""
  return [value for value in (c.reward.model, *c.reward.ensemble) if not is_server(value)]


def on_devices(c) -> list[str]:
  """The rewards that compute on our devices: all processes call them, when all is written."""
  return ['writing'] if reward_models(c) else []


def ahead(c) -> list[str]:
  """The rewards that judge an answer while others are being written.

  In exact runs a server is asked when all is written: the last bits of its scores may depend on
  what else it is asked at the time.
  """
  late = {'writing'} if c.rollout.exact else set()
  return [name for name in c.reward.weights if name not in {*late, *on_devices(c)}]


def check_rewards(c) -> None:
  """Raises where a reward model that is there is none, or its scores have no scale."""
  if c.data.long not in ('refuse', 'window'):
    raise ValueError(f"data.long: there is no {c.data.long!r}; choose from 'refuse', 'window'")
  for value in (c.reward.model, *c.reward.ensemble, c.reward.heldout):
    if value and not is_server(value) and not setup.is_experiment(value):
      _scale(c, value)


def heldout_scorer(c, mesh) -> writing.Scorer | None:
  """The scorer that trains nothing, where there is one."""
  return _one_scorer(c, mesh, c.reward.heldout) if c.reward.heldout else None


def _scorer(c, mesh) -> writing.Scorer:
  """(request, answer) pairs -> writing rewards, by what `reward` names."""
  scorers = [_one_scorer(c, mesh, value) for value in (c.reward.model, *c.reward.ensemble)]
  return writing.ensemble(scorers, c.reward.caution) if len(scorers) > 1 else scorers[0]


def _one_scorer(c, mesh, value: str) -> writing.Scorer:
  if is_server(value):
    server = http_lib.Endpoint(value, key_env=c.reward.key_env)
    scale = writing.Scale(c.reward.mean, c.reward.std) if c.reward.std else None
    post = functools.partial(http_lib.post, server)
    return writing.remote(post, faults=(http_lib.Failed,), scale=scale)
  source = setup.reference(c, value)
  scale = _scale(c, value)
  config = setup.computed(c, model_source.config(source))
  with setup.loading(source) as progress:
    params = model_source.params(
      source, config, jax.random.key(0), mesh=mesh, dtype=config.dtype, progress=progress
    )
  tok = tokenizer.load(model_source.tokenizer(source))
  shape = score_shape(c, mesh)
  score_fn = reward_model.score(config, mesh=mesh, **shape).jit()

  def score(pairs):
    ids = tokenizer.encode(tok, [templates.judged(*pair) for pair in pairs], end=True)
    if c.data.long == 'refuse':  # NaN: a sample that cannot be judged is masked and counted
      scores = reward_model.score_all(score_fn, params, ids, **shape)
    else:
      requests = [templates.judged(prompt, '') for prompt, _ in pairs]
      heads = [len(head) for head in tokenizer.encode(tok, requests, end=False)]
      scores = reward_model.score_windows(score_fn, params, ids, heads, **shape)
    return writing.squash(scores, scale)

  return score


def _scale(c, value: str) -> writing.Scale:
  """Mean and spread of a reward model's scores: measured by its run, or given in the config."""
  source = epath.Path(setup.reference(c, value))
  if not model_source.config(source).scalar_head:
    raise ValueError(f'reward: {value} has no scalar head, so it is no reward model')
  if model_source.is_run(source):
    measured = run.Run(source).read_done()['summary']
    if {'mean', 'std'} <= measured.keys():
      return writing.Scale(measured['mean'], measured['std'])
  kept = source / SCALE
  if kept.exists():
    return writing.Scale(**json.loads(kept.read_text()))
  if c.reward.std:
    return writing.Scale(c.reward.mean, c.reward.std)
  raise ValueError(
    f'reward: nobody measured the scores of {value}: give their mean and spread over good texts as '
    'reward.mean and reward.std'
  )
