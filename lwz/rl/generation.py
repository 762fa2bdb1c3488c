"""Writing, step after step: the engine as a run sets it up, and G answers to each of P prompts."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lwz import rows, types
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import program
from lwz.programs import rollout as rollout_program
from lwz.rl import resume
from lwz.rollout import local, sampler, scheduler
from lwz.rollout import spec as spec_lib
from lwz.runtime import engine_spec, validation


def check(c) -> None:
  if not c.rollout.temperature > 0:
    raise ValueError('rollout.temperature must be above 0: greedy groups have no spread')
  validation.rollout(c)
  for key, value, off in (('top_p', c.rollout.top_p, 1.0), ('top_k', c.rollout.top_k, 0)):
    if value != off:
      raise ValueError(
        f'rollout.{key}={value}: a policy is trained by the log-probabilities of what it samples '
        f'from, all tokens; truncation is for generation, so leave {off}'
      )
  if c.rollout.min_tokens:
    raise ValueError(
      f'rollout.min_tokens={c.rollout.min_tokens}: the scorer knows no minimum; leave 0'
    )


def programs(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """The engine's programs at their largest: all slots, a full cache, one prompt."""
  spec = _spec(c, config, mesh, stop_id=0, temperature=c.rollout.temperature)
  length = spec.max_prompt_tokens
  return {
    'reshard': rollout_program.reshard(spec),
    'prefill': rollout_program.prefill(spec, batch_size=1, num_tokens=length),
    'decode': rollout_program.decode(
      spec, batch_size=spec.num_slots, read_length=spec.cache_layout.max_read
    ),
  }


def engine(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, stop_id: int, temperature: float
) -> scheduler.Engine:
  """The engine of a run, at this temperature."""
  return rollout_program.engine(_spec(c, config, mesh, stop_id, temperature))


def _spec(c, config, mesh, stop_id: int, temperature: float) -> spec_lib.EngineSpec:
  num = c.rl.prompts_per_step * c.rl.group_size
  shards = mesh.shape['data'] * mesh.shape['fsdp']
  num_slots = rows.bucket(min(num, c.rollout.slots or num), shards)
  sampling = sampler.Sampling(temperature, stop_ids=(stop_id,))
  return engine_spec.from_config(c, config, mesh, sampling, num_slots=num_slots)


class Writer:
  """Writes the answers of a draw."""

  def __init__(self, c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, stop_id: int):
    self._c, self._stop_id = c, stop_id
    self.engine = engine(c, config, mesh, stop_id, c.rollout.temperature)

  def step(
    self,
    step: int,
    params: qwen.Params,
    prompt_ids: Sequence[np.ndarray],
    chosen: Sequence[types.Prompt],
    done: resume.Step,
    *,
    ended: Callable[[scheduler.Trajectory], None],
  ) -> tuple[types.Rollout, dict[str, float]]:
    """G answers to each prompt, in the order p * G + g, and the figures of what that took.

    What is `done` is not written again; where anything is, there are no figures. `ended` is called
    with each reply when it is there, where the draw is not in the archive yet.
    """
    for reply in done.replies.values():
      ended(reply)
    if done.rollout is not None:
      return done.rollout, {}
    asked = local.requests(
      prompt_ids,
      num_samples=self._c.rl.group_size,
      max_tokens=self._c.rollout.max_tokens,
      seed=self._c.seed,
      step=step,
      expected=[prompt.upper for prompt in chosen],
    )
    missing = [b for b in range(len(asked)) if b not in done.replies]
    replies = dict(done.replies)
    stats = scheduler.Stats()
    decoder = self.engine.reshard(params)
    for reply in local.stream(self.engine, decoder, [asked[b] for b in missing], stats=stats):
      own = dataclasses.replace(reply, index=missing[reply.index])
      done.add(own)
      ended(own)
      replies[own.index] = own
    rollout = local.rollout(list(replies.values()), self._c.rollout.max_tokens, self._stop_id)
    return rollout, stats.metrics if len(missing) == len(asked) else {}
