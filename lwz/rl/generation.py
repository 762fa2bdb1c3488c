"""Writing, step after step: the engine as a run sets it up, and G answers to each of P prompts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lwz import rows, types
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.model.attention import decode as decode_attention
from lwz.programs import program
from lwz.programs import rollout as rollout_program
from lwz.rl import resume
from lwz.rollout import local, sampler, scheduler
from lwz.runtime import validation


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
  """What the engine compiles, at its largest: every slot taken, the cache full, one prompt."""
  settings = _settings(c, mesh)
  int8 = settings['int8']
  attention = decode_attention.choose(settings['attention'], mesh, config.head_dim, int8=int8)
  space = rollout_program.room(
    settings['max_prompt_tokens'] + settings['max_tokens'],
    settings['num_steps'],
    attention=attention,
    int8=int8,
    mesh=mesh,
  )
  slots = rollout_program.abstract_slots(
    config,
    num_slots=settings['num_slots'],
    capacity=space.capacity,
    num_stretches=space.num_stretches,
    int8=int8,
    mesh=mesh,
  )
  kind: dict[str, Any] = {
    'written_out': rollout_program.writes_out(attention, mesh, int8=int8),
    'mesh': mesh,
  }
  return {
    'reshard': rollout_program.reshard(config, **kind),
    'prefill': rollout_program.prefill(config, num_tokens=settings['max_prompt_tokens'], **kind),
    'decode': rollout_program.decode(
      config,
      slots,
      num_rows=settings['num_slots'],
      read=space.read,
      num_steps=settings['num_steps'],
      sampling=sampler.Sampling(c.rollout.temperature, stop_ids=(0,)),
      attention=attention,
      **kind,
    ),
  }


def engine(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, stop_id: int, temperature: float
) -> scheduler.Engine:
  """The engine of a run, at this temperature."""
  return rollout_program.engine(
    config,
    sampling=sampler.Sampling(temperature, stop_ids=(stop_id,)),
    exact=c.rollout.exact,
    mesh=mesh,
    **_settings(c, mesh),
  )


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
    ended: Callable[[scheduler.Reply], None],
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
    tally = scheduler.Tally()
    decoder = self.engine.reshard(params)
    for reply in local.stream(self.engine, decoder, [asked[b] for b in missing], tally=tally):
      own = dataclasses.replace(reply, index=missing[reply.index])
      done.add(own)
      ended(own)
      replies[own.index] = own
    rollout = local.rollout(list(replies.values()), self._c.rollout.max_tokens, self._stop_id)
    return rollout, tally.figures if len(missing) == len(asked) else {}


def _settings(c, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  num = c.rl.prompts_per_step * c.rl.group_size
  ways = mesh.shape['data'] * mesh.shape['fsdp']
  return {
    'num_slots': rows.bucket(min(num, c.rollout.slots or num), ways),
    'max_prompt_tokens': c.rollout.max_prompt_tokens,
    'max_tokens': c.rollout.max_tokens,
    'num_steps': c.rollout.block,
    'int8': c.rollout.int8,
    'attention': c.rollout.attention,
  }
