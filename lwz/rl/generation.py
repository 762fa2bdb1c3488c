"""Generation in training: the engine of a run, and G trajectories of each of P prompts."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent import futures

import jax
import numpy as np

from lwz import rows, types
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import program
from lwz.programs import rollout as rollout_program
from lwz.report import terminal
from lwz.rl import resume
from lwz.rollout import local, sampler, scheduler
from lwz.rollout import spec as spec_lib
from lwz.runtime import adapters, engine_spec, setup, validation

READS = (
  *('rl.group_size', 'rl.prompts_per_step', 'rollout.attention', 'rollout.block', 'seed'),
  *('rollout.exact', 'rollout.int8', 'rollout.max_prompt_tokens', 'rollout.max_tokens'),
  *('rollout.min_tokens', 'rollout.slots', 'rollout.temperature', 'rollout.top_k'),
  *('rollout.top_p', 'rollout.weights', *adapters.READS),
)


def check(c) -> None:
  if not c.rollout.temperature > 0:
    raise ValueError(
      f'rollout.temperature={c.rollout.temperature}: choose a value above 0, since greedy samples '
      'of one prompt are all the same'
    )
  validation.rollout(c)
  for key, value, off in (('top_p', c.rollout.top_p, 1.0), ('top_k', c.rollout.top_k, 0)):
    if value != off:
      raise ValueError(
        f'rollout.{key}={value}: set {off} for GRPO, whose loss takes log-probabilities over the '
        'whole vocabulary, not over the most likely tokens'
      )
  if c.rollout.min_tokens:
    raise ValueError(
      f'rollout.min_tokens={c.rollout.min_tokens}: set 0 for GRPO, whose loss knows no minimum'
    )
  if c.rollout.weights != 'float' and not c.rl.tis_cap:
    raise ValueError(
      f'rollout.weights={c.rollout.weights}: set rl.tis_cap, to 2 for instance, since samples of '
      'rounded weights are not those of the policy that learns from them'
    )


def programs(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """Returns the programs of the engine at their largest: all slots active, the cache full."""
  spec = _spec(c, config, mesh, sampler.Sampling(c.rollout.temperature, stop_ids=(0,)))
  length = spec.max_prompt_tokens
  return {
    'reshard': rollout_program.reshard(spec, adapters.of(c)),
    'prefill': rollout_program.prefill(spec, batch_size=1, num_tokens=length),
    'decode': rollout_program.decode(
      spec, batch_size=spec.num_slots, read_length=spec.cache_layout.max_read
    ),
  }


def engine(
  c,
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh,
  sampling: sampler.Sampling,
  *base: qwen.Params,
) -> scheduler.Engine:
  """Returns the engine of a run; `base` is that of adapters, where it trains these."""
  return rollout_program.engine(_spec(c, config, mesh, sampling), adapters.of(c), *base)


def compile_first(c, engine: scheduler.Engine) -> None:
  """Compiles programs of decoding before the first step, several at a time, with a progress bar.

  Those are of the full batch at every read length, and of smaller ones at the largest; any other is
  compiled while a block runs. On a CPU all are: there a block takes longer than a compilation.
  """
  if jax.default_backend() == 'cpu' or jax.process_count() > 1:
    return
  shapes = [(engine.batch_sizes[-1], length) for length in engine.read_lengths]
  shapes += [(size, engine.read_lengths[-1]) for size in engine.batch_sizes[:-1]]
  waiting = [begun for shape in shapes if (begun := engine.compiling(*shape))]
  if not waiting:  # of int4, which is compiled in its first calls
    return
  label = f'{setup.run_name(c)}: decoding programs compiled'
  with terminal.Progress(len(waiting), label=label, unit='program') as bar:
    for num, done in enumerate(futures.as_completed(waiting), 1):
      done.result()  # its error
      bar.update(num)


def _spec(c, config, mesh, sampling: sampler.Sampling) -> spec_lib.EngineSpec:
  num = c.rl.prompts_per_step * c.rl.group_size
  shards = mesh.shape['data'] * mesh.shape['fsdp']
  num_slots = rows.bucket(min(num, c.rollout.slots or num), shards)
  return engine_spec.from_config(c, config, mesh, sampling, num_slots=num_slots)


class Generator:
  """Generates the trajectories of batches."""

  def __init__(
    self,
    c,
    config: config_lib.QwenConfig,
    mesh: jax.sharding.Mesh,
    sampling: sampler.Sampling,
    *base: qwen.Params,
  ):
    self._c, self._pad_id = c, sampling.stop_ids[0]
    self.engine = engine(c, config, mesh, sampling, *base)

  def sample(
    self,
    number: int,
    params: qwen.Params,
    prompts: Sequence[types.Prompt],
    prompt_ids: Sequence[np.ndarray],
    stored: resume.StoredBatch,
    *,
    on_end: Callable[[scheduler.Trajectory], None],
  ) -> tuple[types.Rollout, dict[str, float]]:
    """Returns G trajectories of each prompt, in the order p * G + g, and metrics of the engine.

    Stored trajectories are not generated again; if there are any, there are no metrics. Each
    trajectory is stored when it ends, and given to `on_end`, unless the batch is archived already.
    """
    for trajectory in stored.trajectories.values():
      on_end(trajectory)
    if stored.rollout is not None:
      return stored.rollout, {}
    requests = local.requests(
      prompt_ids,
      num_samples=self._c.rl.group_size,
      max_tokens=self._c.rollout.max_tokens,
      seed=self._c.seed,
      step=number,
      expected=[prompt.upper for prompt in prompts],
    )
    missing = [b for b in range(len(requests)) if b not in stored.trajectories]
    trajectories = dict(stored.trajectories)
    stats = scheduler.Stats()
    decode_params = self.engine.reshard(params)
    todo = [requests[b] for b in missing]
    for found in local.stream(self.engine, decode_params, todo, stats=stats):
      trajectory = dataclasses.replace(found, index=missing[found.index])
      stored.add(trajectory)
      on_end(trajectory)
      trajectories[trajectory.index] = trajectory
    rollout = local.rollout(list(trajectories.values()), self._c.rollout.max_tokens, self._pad_id)
    return rollout, stats.metrics if len(missing) == len(requests) else {}
