"""What an experiment may choose by name: rewards, advantages, aggregations.

A new one is a function in its room and a line here.
"""

import functools
from collections.abc import Callable

import jax
from etils import epath

from lwz.data import templates, tokenizer
from lwz.learn import advantage, losses
from lwz.programs import reward_model
from lwz.reward import compose, writing
from lwz.stages import prepare
from lwz.store import origin, run

ADVANTAGES = {'balanced': advantage.balanced, 'mean_reward': advantage.mean_reward}
AGGREGATES = {
  'token': lambda c, num_tokens, num_sequences: losses.budget_mean(num_tokens),
  'sequence': lambda c, num_tokens, num_sequences: losses.sequence_budget_mean(num_sequences),
  'budget': lambda c, num_tokens, num_sequences: losses.budget_mean(
    num_sequences * c.rollout.max_tokens
  ),
}
REWARDS: dict[str, Callable[..., compose.Component]] = {
  'length': lambda c, mesh: functools.partial(compose.length, max_words=c.reward.max_words),
  'writing': lambda c, mesh: functools.partial(
    compose.writing, scorer=_scorer(c, mesh), floor=c.reward.writing_floor
  ),
  'format': lambda c, mesh: compose.format,
}


def score_shape(c, mesh: jax.sharding.Mesh) -> dict[str, int]:
  """Rows of one pass of the reward model, and their tokens."""
  num_samples = c.rl.prompts_per_step * c.rl.group_size
  return {'num_rows': prepare.pass_rows(c, mesh, num_samples), 'row_length': c.data.row_length}


def _scorer(c, mesh):
  """(request, answer) pairs -> writing rewards, by the reward model that `reward.model` names."""
  source = prepare.reference(c, c.reward.model)
  config = origin.config(source)
  with prepare.loading(source) as progress:
    params = origin.params(
      source, config, jax.random.key(0), mesh=mesh, dtype=config.dtype, progress=progress
    )
  tok = tokenizer.load(origin.tokenizer(source))
  measured = run.Run(epath.Path(source)).read_done()['summary']
  if not {'mean', 'std'} <= measured.keys():
    raise ValueError(f'reward.model={c.reward.model}: {source} is no run of a reward model')
  scale = writing.Scale(measured['mean'], measured['std'])
  shape = score_shape(c, mesh)
  score_fn = reward_model.score(config, mesh=mesh, **shape).jit()

  def score(pairs):
    texts = tokenizer.encode(tok, [templates.judged(*pair) for pair in pairs], end=True)
    return writing.squash(reward_model.score_all(score_fn, params, texts, **shape), scale)

  return score
