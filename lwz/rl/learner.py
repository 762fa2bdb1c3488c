"""Updates of the policy by a scored batch, and the programs that they run.

learn = learner.Learner(c, config, mesh, compiled)
state, metrics = learn.step(loop, state, step, batch)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lwz import rows, types
from lwz.learn import advantage, losses
from lwz.model import config as config_lib
from lwz.programs import grpo, program
from lwz.programs.cost import mfu
from lwz.rl import comparison, fixed_models, registry, sampling
from lwz.runtime import adapters, keys, setup, trainer

READS = (
  *('data.row_length', 'reward.weights', 'rl', 'rollout.max_prompt_tokens', 'rollout.max_tokens'),
  *('rollout.temperature', 'seed', 'train.chunk', 'train.halvings', 'train.offload'),
  *('train.remat', *adapters.READS),
)


def check(c) -> None:
  """Raises ValueError if a name is not in the registry, or values contradict each other."""
  for key, table in (
    ('rl.advantage', registry.ADVANTAGES),
    ('rl.aggregate', registry.AGGREGATES),
    ('rl.loss', registry.LOSSES),
    ('rl.overlong', registry.OVERLONG),
  ):
    if (value := keys.get(c, key)) not in table:
      raise ValueError(f'{key}: there is no {value!r}; choose from {", ".join(table)}')
  if c.rl.group_size < 2:
    raise ValueError(
      f'rl.group_size={c.rl.group_size}: choose at least 2, since an answer is compared with its '
      'siblings'
    )
  num = c.rl.prompts_per_step * c.rl.group_size
  if num % c.rl.num_minibatches:
    raise ValueError(
      f'rl.num_minibatches={c.rl.num_minibatches} does not divide rl.prompts_per_step x '
      f'rl.group_size = {num} samples: choose a divisor'
    )
  longest = c.rollout.max_prompt_tokens + c.rollout.max_tokens
  if longest > c.data.row_length:
    raise ValueError(
      f'rollout.max_prompt_tokens + rollout.max_tokens = {longest} exceeds '
      f'data.row_length={c.data.row_length}: raise it, since a trajectory must fit a row'
    )
  if c.rl.overlong == 'penalise' and c.rl.overlong_margin > c.rollout.max_tokens:
    raise ValueError(
      f'rl.overlong_margin={c.rl.overlong_margin} exceeds '
      f'rollout.max_tokens={c.rollout.max_tokens}: choose at most that many'
    )
  several = sum(map(bool, c.reward.weights.values())) > 1
  if c.rl.overlong == 'penalise' and several and c.rl.advantage in registry.AFTER:
    raise ValueError(
      f"rl.overlong='penalise' takes a little off each reward, and rl.advantage={c.rl.advantage!r} "
      'normalises each alone: where all samples have the same reward, the least penalty would '
      "count as much as the rewards of others; set rl.advantage='mean_reward'"
    )
  comparison.check(c)
  _check_clips(c)
  _check_halvings(c)
  fixed_models.check(c)


def _check_clips(c) -> None:
  """Raises ValueError, or warns, if the clips do not go with the loss."""
  numbers = {name: c.rl[name] for name in ('clip_low', 'clip_high', 'ratio_cap')}
  try:
    warning = losses.check(c.rl.loss, **numbers)
  except ValueError as error:
    raise ValueError(f'rl.{error}') from error
  if warning:
    logging.warning('rl.%s', warning)


def _check_halvings(c) -> None:
  over, parts = setup.mesh(c), 2**c.train.halvings
  ways = over.shape['tensor'] * over.shape['context']
  if c.data.row_length % (parts * ways):
    raise ValueError(
      f'train.halvings={c.train.halvings}: data.row_length={c.data.row_length} is not divisible by '
      f'2^halvings x mesh.tensor x mesh.context = {parts * ways}; lower train.halvings'
    )


def plots(c) -> list[dict[str, Any]]:
  """Returns the plots of learning, as arguments of `curves.draw`."""
  names = comparison.names(c)
  found: list[dict[str, Any]] = [
    {
      'keys': ['zero_variance/all', *[f'zero_variance/{name}' for name in names]],
      'title': 'share of trained groups with equal rewards',
    },
    {'keys': [f'advantage/{name}' for name in names], 'title': 'mean |advantage|, each alone'},
    {'keys': ['learn/entropy'], 'title': 'entropy', 'unit': 'nats per token'},
    {'keys': ['learn/clip_frac_low', 'learn/clip_frac_high'], 'title': 'share of clipped tokens'},
    {'keys': ['learn/loss'], 'title': 'loss'},
    {'keys': ['learn/grad_norm'], 'title': 'gradient norm, before the clip'},
    {'keys': ['learn/logp_gap'], 'title': 'mean |log p sampler - log p scorer|'},
    {'keys': ['learn/tokens_per_second'], 'title': 'tokens learnt from per second'},
  ]
  if c.rl.max_resamples:
    found.append({'keys': ['sampling/rounds'], 'title': 'batches sampled in a step'})
    found.append({'keys': ['sampling/informative_groups'], 'title': 'groups with advantages'})
  if c.rl.kl_weight:
    found.append({'keys': ['learn/kl_reference'], 'title': 'KL to the reference', 'unit': 'nats'})
  if c.rl.teacher:
    found.append({'keys': ['learn/kl_teacher'], 'title': 'KL to the teacher', 'unit': 'nats'})
  if mfu.mfu(1.0, 1.0) is not None:
    found.append({'keys': ['learn/mfu'], 'title': 'model FLOPs utilisation of learning'})
  return found


def programs(
  c,
  policy: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh,
  teacher: config_lib.QwenConfig | None = None,
) -> dict[str, program.Program]:
  """Returns the programs of learning: the update, and log-probabilities that the loss needs."""
  shape, temperature, lora = _batch_shape(c, mesh), c.rollout.temperature, adapters.of(c)
  logprob = functools.partial(grpo.logprob_step, shape=shape, temperature=temperature, mesh=mesh)
  found = {}
  if c.rl.tis_cap:  # of the policy itself, from its masters
    found['logprob'] = logprob(policy, dtype=jnp.float32, lora=lora)
  for name, other in (('reference', policy if c.rl.kl_weight else None), ('teacher', teacher)):
    if other:
      base_of = lora if name == 'reference' else None
      found[name] = dataclasses.replace(logprob(other, base_of=base_of), name=name)
  numbers = ('clip_low', 'clip_high', 'kl_weight', 'entropy_weight')
  objective = grpo.Objective(
    **{name: c.rl[name] for name in numbers},
    aggregate=registry.AGGREGATES[c.rl.aggregate](c, mesh),
    policy_loss=registry.LOSSES[c.rl.loss](c, mesh),
    teacher=bool(teacher),
    weighted=bool(c.rl.tis_cap),
  )
  rule = trainer.update_rule(c, policy, lora=lora)
  found['grpo'] = grpo.update_step(
    *(policy, rule, shape, objective),
    temperature=temperature,
    remat=c.train.remat,
    offload=c.train.offload,
    lora=lora,
    mesh=mesh,
  )
  return found


def _batch_shape(c, mesh: jax.sharding.Mesh) -> grpo.BatchShape:
  num_sequences = c.rl.prompts_per_step * c.rl.group_size // c.rl.num_minibatches
  return grpo.BatchShape(
    num_sequences,
    max_tokens=c.rollout.max_tokens,
    row_length=c.data.row_length,
    micro_rows=setup.pass_rows(c, mesh, num_sequences),
    chunk=c.train.chunk,
  )


class Learner:
  """The updates of a run, of adapters to a `base` or of all parameters.

  A reference or a teacher is loaded only if the loss reads it.
  """

  def __init__(
    self,
    c,
    config: config_lib.QwenConfig,
    mesh: jax.sharding.Mesh,
    compiled: dict[str, program.Program],
    *base: Any,
  ):
    self._c, self._mesh = c, mesh
    self._flops = functools.partial(mfu.train_flops, config, frozen=bool(base))
    names = {'grpo', 'logprob', *fixed_models.LOGPROBS} & compiled.keys()
    # A batch that a step does not merge with others is asked for twice: `informative`, then `step`.
    self._advantages = functools.lru_cache(maxsize=1)(
      lambda batch: comparison.advantages(c, mesh, batch.scores, batch.rollout)
    )
    self._fns = {n: compiled[n].jit(*(() if n in fixed_models.LOGPROBS else base)) for n in names}
    self._fixed = fixed_models.load(c, config, mesh, names, *base)

  def step(
    self, loop: trainer.Trainer, state: types.TrainState, step: int, sampled: sampling.Batch
  ) -> tuple[types.TrainState, dict[str, float]]:
    """Returns the state after all epochs over a batch, and their metrics.

    The optimiser's steps are made by `loop.update`.
    """
    prompt_ids, rollout = sampled.prompt_ids, sampled.rollout
    advantage_PG, values_PGR, valid_PG = self._advantages(sampled)
    valid_B = np.asarray(valid_PG).reshape(-1)
    batch = functools.partial(self._minibatch, prompt_ids, rollout, valid_B)
    measured = advantage.measure(values_PGR, comparison.names(self._c), valid_PG)
    per_token, seen = self._per_token(state.params, batch, rollout, valid_B)
    advantage_B = np.asarray(advantage_PG).reshape(-1)
    learned = []
    for members in grpo.minibatch_members(
      len(valid_B),
      num_epochs=self._c.rl.num_epochs,
      num_minibatches=self._c.rl.num_minibatches,
      seed=self._c.seed,
      step=step,
    ):
      extras = {name: x_BT[members] for name, x_BT in per_token.items()}
      minibatch, num_micro = batch(members, advantage_B=advantage_B[members], **extras)
      state, metrics = loop.update(self._fns['grpo'], state, minibatch, num_micro)
      learned.append(metrics)
    measured |= {f'learn/{name}': float(np.mean([m[name] for m in learned])) for name in learned[0]}
    # Before an update both policies are the same: the gap is numerical.
    measured['learn/logp_gap'] = float(learned[0]['logp_gap'])
    return state, measured | seen

  def informative(self, batch: sampling.Batch) -> np.ndarray:
    """Returns which groups of a batch have advantages, bool [P]."""
    advantage_PG, _, _ = self._advantages(batch)
    return np.any(np.asarray(advantage_PG) != 0, axis=1)

  def advantages(self, batch: sampling.Batch) -> np.ndarray:
    """Returns the advantages of a batch, [P, G], NaN where a sample has none: it trains nothing."""
    return comparison.trained(self._c, *self._advantages(batch))

  def speed(self, batch: sampling.Batch, seconds: float) -> dict[str, float]:
    """Returns trained tokens per second, model FLOPs utilisation and peak memory, where known.

    Tokens of prompts and answers count once per epoch; `seconds` include compilation.
    """
    c = self._c
    prompt_lengths_B = np.repeat([len(ids) for ids in batch.prompt_ids], c.rl.group_size)
    lengths_B = prompt_lengths_B + np.asarray(batch.rollout.lengths)
    measured = {'learn/tokens_per_second': c.rl.num_epochs * float(lengths_B.sum()) / seconds}
    flops = c.rl.num_epochs * self._flops(lengths_B)
    if (share := mfu.mfu(flops, seconds)) is not None:
      measured['learn/mfu'] = share
    memory = jax.local_devices()[0].memory_stats() or {}
    if 'peak_bytes_in_use' in memory:
      measured['memory/peak_gib'] = memory['peak_bytes_in_use'] / 2**30
    return measured

  def _minibatch(
    self, prompt_ids, rollout, valid_B, members, *, old_logp, advantage_B, **extras
  ) -> tuple[dict, int]:
    c = self._c
    return grpo.minibatch(
      [prompt_ids[b // c.rl.group_size] for b in members],
      [rollout.ids[b, : rollout.lengths[b]] for b in members],
      old_logp,
      advantage_B,
      valid_B[members],
      _batch_shape(c, self._mesh),
      halvings=c.train.halvings,
      **extras,
    )

  def _per_token(
    self, params, batch: Callable, rollout: types.Rollout, valid_B: np.ndarray
  ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns the loss's inputs per token [B, T], computed before the first update, and metrics."""
    c, found, seen = self._c, {'old_logp': np.asarray(rollout.logp)}, {}
    for name, other in self._fixed.items():
      found[fixed_models.LOGPROBS[name]] = self._logprob(name, other, batch, rollout)
    if 'logprob' in self._fns:
      own_BT = self._logprob('logprob', params, batch, rollout)
      weight_BT = losses.truncated_weight(own_BT, found['old_logp'], cap=c.rl.tis_cap)
      mask_BT = rows.length_mask(np.asarray(rollout.lengths), own_BT.shape[1]) & valid_B[:, None]
      gap_BT = np.abs(own_BT - found['old_logp'])
      found |= {'old_logp': own_BT, 'weight': np.asarray(weight_BT)}
      seen = {
        'learn/logp_gap': float(losses.masked_mean(gap_BT, mask_BT)),
        'learn/tis_weight': float(losses.masked_mean(weight_BT, mask_BT)),
      }
    return found, seen

  def _logprob(self, name: str, params, batch: Callable, rollout: types.Rollout) -> np.ndarray:
    """Returns log-probabilities [B, T] of a rollout by one program, a minibatch at a time."""
    found = []
    for members in np.split(np.arange(len(rollout.lengths)), self._c.rl.num_minibatches):
      minibatch, num_micro = batch(
        members,
        old_logp=np.asarray(rollout.logp)[members],
        advantage_B=np.zeros(len(members), np.float32),
      )
      found.append(np.asarray(self._fns[name](params, minibatch, num_micro)))
    return np.concatenate(found)
