"""A model that writes, as `c.init` names it: how it is asked and sampled, and its engine."""

import dataclasses
from typing import Any

from etils import epath

from lwz.data import templates, tokenizer
from lwz.model import config as config_lib
from lwz.programs import rollout as rollout_program
from lwz.rollout import sampler, scheduler
from lwz.runtime import engine_spec, setup, tokenizers, validation
from lwz.store import model_source
from lwz.store import run as run_lib

READS = (
  *(*setup.READS, *setup.MESH, *setup.MODEL, 'data.style', 'data.template'),
  *('rollout.temperature', 'rollout.max_prompt_tokens', 'rollout.max_tokens'),
  *('rollout.min_tokens', 'rollout.top_p', 'rollout.top_k', 'rollout.exact', 'rollout.block'),
  *('rollout.int8', 'rollout.weights', 'rollout.attention', 'rollout.slots'),
)


@dataclasses.dataclass(frozen=True)
class Policy:
  """A model without its weights: its tokenizer, its prompt, how it is sampled."""

  source: str
  config: config_lib.QwenConfig
  tok: Any
  style: str
  template: str
  sampling: sampler.Sampling

  def decoder(self, tok: Any = None):
    """Returns ids to text. Tokens that end a text are no part of it, though one may read as a stop
    string does.
    """
    return tokenizer.decoder(tok or self.tok, self.sampling.stop_ids)

  def ids(self, prompts) -> list[list[int]]:
    """Returns the ids of writing requests, as the policy was trained to read them."""
    return templates.prompt_ids(self.tok, prompts, self.style, self.template)


def check(c) -> None:
  """Raises ValueError if `c.init` names no model that can write as `c.rollout` says."""
  if c.init == 'random':
    raise ValueError("init='random' has learnt nothing: name a run or a model")
  room = setup.expected(c, c.init).num_positions
  if c.rollout.max_prompt_tokens + c.rollout.max_tokens > room:
    raise ValueError(
      'rollout.max_prompt_tokens + rollout.max_tokens = '
      f'{c.rollout.max_prompt_tokens + c.rollout.max_tokens} exceeds the {room} positions of '
      f'init={c.init}: lower one of them'
    )
  validation.decoding(c, c.init)
  validation.rollout(c)


def describe(c) -> Policy:
  """Returns the policy that `c.init` names; no weight is read."""
  source = setup.reference(c, c.init)
  config = setup.computed(c, model_source.config(source))
  tok = tokenizers.load(c.data.tokenizer or source, c.data.chat_template)
  limits = c.rollout.temperature, c.rollout.top_p, c.rollout.top_k
  sampling = engine_spec.sampling(tok, config, source, *limits)
  if config.scalar_head:
    raise ValueError(f'init={c.init}: a reward model gives marks; name a model that writes')
  return Policy(source, config, tok, *prompt_style(c, source), sampling)


def load(c, policy: Policy) -> Any:
  """Returns the parameters of a policy."""
  return setup.load_params(c, policy.source, policy.config, setup.mesh(c))


def engine(
  c, policy: Policy, params: Any, num_slots: int, **limits: int
) -> tuple[scheduler.Engine, Any]:
  """Returns the engine that writes with a policy, and the parameters as it takes them.

  `limits` are `max_prompt_tokens` and `max_tokens`, by default those of `c.rollout`: a text that
  goes on is read as its prompt is, and has fewer tokens left.
  """
  mesh = setup.mesh(c)
  spec = engine_spec.from_config(
    c, policy.config, mesh, policy.sampling, num_slots=num_slots, **limits
  )
  built = rollout_program.engine(spec)
  return built, built.reshard(params)


def prompt_style(c, source: str) -> tuple[str, str]:
  """Style and template that a run is trained with; of any other model, those of `c.data`."""
  opened = run_lib.Run(epath.Path(source))
  if not model_source.is_run(source):
    return c.data.style, c.data.template
  style, template = opened.settings('data', 'style', 'template')
  return style, template
