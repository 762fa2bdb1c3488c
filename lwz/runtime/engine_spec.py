"""The rollout engine that a config describes."""

import jax

from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib
from lwz.runtime import setup


def sampling(
  tok, config: config_lib.QwenConfig, source: str, temperature: float, top_p=1.0, top_k=0
) -> sampler.Sampling:
  """Returns how a model samples with this tokenizer; see `setup.end_ids` for what is refused."""
  ends, num_ids = setup.end_ids(tok, config, source), tokenizer.num_ids(tok)
  return sampler.Sampling(temperature, top_p, top_k, ends, num_ids)


def from_config(
  c,
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh,
  sampling: sampler.Sampling,
  *,
  num_slots: int,
  max_prompt_tokens: int | None = None,
  max_tokens: int | None = None,
) -> spec_lib.EngineSpec:
  """Returns the engine's specification by `c.rollout`, whose limits hold where none are given."""
  if max_prompt_tokens is None:
    max_prompt_tokens = c.rollout.max_prompt_tokens
  return spec_lib.EngineSpec(
    config,
    num_slots=num_slots,
    max_prompt_tokens=max_prompt_tokens,
    max_tokens=c.rollout.max_tokens if max_tokens is None else max_tokens,
    sampling=sampling,
    exact=c.rollout.exact,
    num_steps=c.rollout.block,
    int8=c.rollout.int8,
    weights=c.rollout.weights,
    attention=c.rollout.attention,
    mesh=mesh,
  )
