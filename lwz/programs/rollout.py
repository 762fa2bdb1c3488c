"""Writing G samples to each of P prompts: prefill, fork, decode loop, in one program."""

import functools

import jax
import jax.numpy as jnp

from lwz.model import qwen
from lwz.programs import program
from lwz.rollout import engine


def generate(
  config: qwen.QwenConfig,
  *,
  num_prompts: int,
  num_samples: int,
  max_prompt_tokens: int,
  max_tokens: int,
  temperature: float,
  stop_id: int,
) -> program.Program:
  """(params, prompts_PT, prompt_lengths_P, keys_B2) -> `types.Rollout`."""
  fn = functools.partial(
    engine.generate,
    config=config,
    num_samples=num_samples,
    max_tokens=max_tokens,
    temperature=temperature,
    stop_id=stop_id,
  )
  args = (
    qwen.abstract(config),
    jax.ShapeDtypeStruct((num_prompts, max_prompt_tokens), jnp.int32),
    jax.ShapeDtypeStruct((num_prompts,), jnp.int32),
    jax.ShapeDtypeStruct((num_prompts * num_samples, 2), jnp.uint32),
  )
  return program.Program('generate', fn, args)
