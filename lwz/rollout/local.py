"""Writing with our own engine: prompts of any length in, trajectories on the host out."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lwz import types
from lwz.model import qwen
from lwz.rollout import sampler


def write(
  generate: Callable,
  params: qwen.Params,
  prompts: Sequence[np.ndarray],
  *,
  num_samples: int,
  max_prompt_tokens: int,
  seed: int,
  step: int,
) -> types.Rollout:
  """G trajectories for each of P prompts, in the order p * G + g, as NumPy arrays.

  Args:
    generate: the compiled engine, `programs.rollout.generate(...).jit()`.
    params: the policy.
    prompts: ids of each prompt, at least one and at most `max_prompt_tokens`.
    num_samples: G.
    max_prompt_tokens: what `generate` was built for.
    seed, step: name the draws, see `sampler.trajectory_keys`.

  Raises:
    ValueError: a prompt is empty or too long.
  """
  P = len(prompts)
  for p, ids in enumerate(prompts):
    if not 1 <= len(ids) <= max_prompt_tokens:
      raise ValueError(
        f'prompt {p} has {len(ids)} tokens, outside 1 ... max_prompt_tokens={max_prompt_tokens}: '
        'raise the limit, or change the prompt'
      )
  padded_PT = np.zeros((P, max_prompt_tokens), np.int32)
  for row, ids in zip(padded_PT, prompts, strict=True):
    row[: len(ids)] = ids
  keys_B2 = sampler.trajectory_keys(
    seed,
    step,
    jnp.repeat(jnp.arange(P), num_samples),
    jnp.tile(jnp.arange(num_samples), P),
  )
  lengths_P = np.array([len(ids) for ids in prompts], np.int32)
  return jax.device_get(generate(params, padded_PT, lengths_P, keys_B2))


def decode(rollout: types.Rollout, decode_batch: Callable) -> list[str]:
  """The text of each trajectory, without its stop token; `decode_batch`: lists of ids to texts."""
  ends_B = rollout.lengths - rollout.finished.astype(rollout.lengths.dtype)
  return decode_batch([ids[:end] for ids, end in zip(rollout.ids, ends_B, strict=True)])
