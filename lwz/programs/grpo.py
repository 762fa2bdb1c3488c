"""One GRPO update on a minibatch of trajectories, and the arrays it reads.

Trajectories (prompt and answer) are packed into rows; the forward pass sees rows, the loss sees
sequences: log-probabilities are gathered back to [B, T]. Rows are processed in micro-batches. How
many the packing has filled is an argument of the compiled loop, so that one compilation serves all.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import losses, update
from lwz.model import lora as lora_lib
from lwz.model import qwen
from lwz.programs import language_model, placement, program


@dataclasses.dataclass(frozen=True)
class BatchShape:
  """The shape of a minibatch."""

  num_sequences: int  # B, trajectories
  max_tokens: int  # T, tokens of an answer, at most
  row_length: int  # tokens of a row, which holds whole trajectories
  micro_rows: int  # rows of a micro-batch
  chunk: int  # tokens per block of logits, see `logprob.token_logprob`

  @property
  def max_micro(self) -> int:
    """The number of micro-batches, at most."""
    return -(-self.num_sequences // self.micro_rows)


@dataclasses.dataclass(frozen=True)
class Objective:
  """L = policy_loss + kl_weight * aggregate(KL) - entropy_weight * aggregate(entropy).

  `aggregate(num_tokens, num_sequences)` gives the aggregation, bound to the counts of the whole
  minibatch (what is masked counts in neither): shares of micro-batches add up.
  """

  clip_low: float  # epsilons of the policy loss
  clip_high: float
  aggregate: Callable
  policy_loss: Callable = losses.grpo  # or one with the same arguments: `gspo`, `cispo`
  kl_weight: float = 0.0  # beta; above 0 the minibatch holds the reference's 'ref_logp'
  entropy_weight: float = 0.0  # of the entropy bonus
  teacher: bool = False  # `policy_loss` reads the minibatch's 'teacher_logp'
  weighted: bool = False  # tokens are weighted by the minibatch's 'weight', `truncated_weight`


def update_step(
  config: qwen.QwenConfig,
  optimizer: optax.GradientTransformation,
  shape: BatchShape,
  objective: Objective,
  *,
  temperature: float,
  remat: str,
  offload: bool = False,
  lora: lora_lib.LoRA | None = None,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(state, minibatch, num_micro) -> (state, metrics). `offload`: see `placement.state`.

  With `lora` the state is of adapters, and the last argument their frozen base.
  """
  abstract_state = placement.state(config, optimizer, mesh, offload=offload, lora=lora)
  frozen = placement.frozen(config, mesh, lora)
  where = None if mesh is None else placement.shardings(abstract_state.params)
  sequence_logprob = functools.partial(
    _sequence_logprob, config, temperature=temperature, chunk=shape.chunk, remat=remat, mesh=mesh
  )

  def step(state, minibatch, num_micro, *base):
    num_tokens = jnp.maximum(jnp.sum(minibatch['mask']).astype(jnp.float32), 1.0)
    counted_B = jnp.any(minibatch['mask'], axis=1)
    num_sequences = jnp.maximum(jnp.sum(counted_B).astype(jnp.float32), 1.0)

    def loss_fn(trained, micro):
      params = lora_lib.join(trained, *base, lora=lora)
      logp_BT, entropy_BT, mask_BT = sequence_logprob(params, minibatch, micro)
      counts = num_tokens, num_sequences
      return _loss(objective, minibatch, counts, logp_BT, entropy_BT, mask_BT)

    grads, metrics = update.accumulate(
      loss_fn, state.params, minibatch['micro'], num_micro, shardings=where
    )
    state, norms = update.apply(state, grads, optimizer)
    return state, metrics | norms

  arrays = _abstract_minibatch(shape, mesh)
  wanted = (objective.kl_weight, objective.teacher, objective.weighted)
  for name, is_read in zip(('ref_logp', 'teacher_logp', 'weight'), wanted, strict=True):
    if is_read:
      arrays[name] = arrays['old_logp']
  return program.Program(
    'grpo',
    step,
    (abstract_state, arrays, placement.array((), jnp.int32, mesh), *frozen),
    (0,),
    placement.results(abstract_state, mesh),
    trips=shape.max_micro,
    frozen=len(frozen),
  )


@jax.named_scope('loss')
def _loss(objective, minibatch, counts, logp_BT, entropy_BT, mask_BT):
  """Returns a micro-batch's shares of the minibatch's loss and of its metrics, means over tokens.

  `counts` are the numbers of tokens and of sequences of the minibatch.
  """
  aggregate, token_mean = objective.aggregate(*counts), losses.budget_mean(counts[0])
  aggregate_policy, old_BT = aggregate, minibatch['old_logp']
  if objective.weighted:
    aggregate_policy = losses.weighted(aggregate, minibatch['weight'])
  teacher = {'teacher_logp_BT': minibatch['teacher_logp']} if objective.teacher else {}
  loss, metrics = objective.policy_loss(
    logp_BT,
    old_BT,
    minibatch['advantage'],
    mask_BT,
    clip_low=objective.clip_low,
    clip_high=objective.clip_high,
    aggregate=aggregate_policy,
    **teacher,
  )
  # These metrics are means over the micro-batch's own tokens: its share of all makes them add up.
  share = token_mean(jnp.ones_like(logp_BT), mask_BT)
  metrics = {name: value * share for name, value in metrics.items()}
  metrics['entropy'] = token_mean(entropy_BT, mask_BT)
  metrics['logp_gap'] = token_mean(jnp.abs(logp_BT - old_BT), mask_BT)
  if objective.entropy_weight:
    loss -= objective.entropy_weight * aggregate(entropy_BT, mask_BT)
  if objective.kl_weight:
    kl_reference = functools.partial(losses.kl_reference, logp_BT, minibatch['ref_logp'], mask_BT)
    loss += objective.kl_weight * kl_reference(aggregate=aggregate)
    metrics['kl_reference'] = kl_reference(aggregate=token_mean)
  return loss, jax.lax.stop_gradient(metrics)


def logprob_step(
  config: qwen.QwenConfig,
  shape: BatchShape,
  *,
  temperature: float,
  dtype: Any = None,
  lora: lora_lib.LoRA | None = None,
  base_of: lora_lib.LoRA | None = None,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(params, minibatch, num_micro) -> log-probabilities [B, T] of the answers, 0 beyond the mask.

  Those of a reference, of a teacher, or of the policy before its first update. Parameters are of
  `dtype`, by default the compute dtype, or the base of adapters `base_of`. `lora`: `update_step`.
  """

  def step(trained, minibatch, num_micro, *base):
    params = lora_lib.join(trained, *base, lora=lora)

    def add(index, total_BT):
      micro = jax.tree.map(lambda x: x[index], minibatch['micro'])
      logp_BT, _, mask_BT = _sequence_logprob(
        *(config, params, minibatch, micro), temperature=temperature, chunk=shape.chunk, mesh=mesh
      )
      return total_BT + jnp.where(mask_BT, logp_BT, 0.0)

    return jax.lax.fori_loop(0, num_micro, add, jnp.zeros(minibatch['mask'].shape, jnp.float32))

  trained = placement.trained(config, mesh, lora, dtype or config.dtype)
  (params,) = placement.frozen(config, mesh, base_of) or (trained,)
  frozen = placement.frozen(config, mesh, lora)
  args = (params, _abstract_minibatch(shape, mesh), placement.array((), jnp.int32, mesh), *frozen)
  where, trips = placement.replicated(mesh), shape.max_micro
  return program.Program('logprob', step, args, (), where, trips, len(frozen))


def _sequence_logprob(config, params, minibatch, micro, *, temperature, chunk, mesh, remat='none'):
  """Log-probabilities and entropies [B, T] of the trajectories in a micro-batch, and their mask."""
  logp_NT, entropy_NT, _ = language_model.row_logprob(
    params, micro, config, temperature=temperature, chunk=chunk, remat=remat, mesh=mesh
  )
  logp_BT, entropy_BT = (x.reshape(-1)[minibatch['index']] for x in (logp_NT, entropy_NT))
  return logp_BT, entropy_BT, minibatch['mask'] & micro['here'][:, None]


def _abstract_minibatch(shape: BatchShape, mesh: placement.AnyMesh) -> dict:
  """Returns the shapes and shardings of a minibatch."""
  B, T, M = shape.num_sequences, shape.max_tokens, shape.max_micro
  of = functools.partial(placement.array, mesh=mesh)
  micro_shape = (M, shape.micro_rows, shape.row_length)
  row = placement.array(micro_shape, jnp.int32, mesh, None, 'rows', 'time')
  rows = dict.fromkeys(('ids', 'segments', 'positions'), row)
  return {
    'old_logp': of((B, T), jnp.float32),
    'advantage': of((B,), jnp.float32),
    'mask': of((B, T), jnp.bool_),
    'index': of((B, T), jnp.int32),
    'micro': {**rows, 'here': of((M, B), jnp.bool_)},
  }


def minibatch(
  prompts: Sequence[np.ndarray],
  answers: Sequence[np.ndarray],
  old_logp_BT: np.ndarray,
  advantage_B: np.ndarray,
  valid_B: np.ndarray,
  shape: BatchShape,
  *,
  halvings: int = 0,
  **extras_BT: np.ndarray,
) -> tuple[dict, int]:
  """Returns the arguments of `update_step` for B trajectories: arrays, micro-batches in use.

  Args:
    prompts: ids of each trajectory's prompt, at least one token.
    answers: ids that the policy wrote, its stop token included.
    old_logp_BT: their log-probabilities; beyond an answer's length anything.
    advantage_B: one number per trajectory.
    valid_B: False masks a trajectory out of the loss.
    shape: that of `update_step`.
    halvings: how often, at most, rows may be halved where all trajectories are short, see
      `row_shape`; a jitted step is compiled once for each length of rows.
    extras_BT: further numbers per token, `ref_logp`, `teacher_logp` and `weight` of `update_step`.
  """
  B, T = old_logp_BT.shape
  longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
  row_length, micro_rows = row_shape(
    longest, B, row_length=shape.row_length, micro_rows=shape.micro_rows, halvings=halvings
  )
  num_micro_max = -(-B // micro_rows)
  rows = rows_lib.lay(
    [np.concatenate(pair).tolist() for pair in zip(prompts, answers, strict=True)],
    row_length=row_length,
    num_rows=num_micro_max * micro_rows,
  )
  mask_BT = rows_lib.length_mask(np.array([len(a) for a in answers]), T) & valid_B[:, None]
  # The hidden state of token i predicts token i + 1: an answer's first is read at the prompt's end.
  start_B = rows.offset + np.array([len(p) for p in prompts]) - 1
  within_BT = np.minimum(start_B[:, None] + np.arange(T)[None], row_length - 1)
  index_BT = (rows.row % micro_rows)[:, None] * row_length + within_BT
  here_MB = (rows.row // micro_rows)[None, :] == np.arange(num_micro_max)[:, None]
  micro_shape = (num_micro_max, micro_rows, row_length)
  arrays = {
    'old_logp': np.asarray(old_logp_BT, np.float32),
    'advantage': np.asarray(advantage_B, np.float32),
    'mask': mask_BT,
    'index': index_BT.astype(np.int32),
    **{name: np.where(mask_BT, x, 0).astype(np.float32) for name, x in extras_BT.items()},
    'micro': {
      'ids': rows.ids.reshape(micro_shape),
      'segments': rows.segments.reshape(micro_shape),
      'positions': rows.positions.reshape(micro_shape),
      'here': here_MB,
    },
  }
  return arrays, -(-rows_lib.num_used(rows) // micro_rows)


def row_shape(
  longest: int, num_sequences: int, *, row_length: int, micro_rows: int, halvings: int
) -> tuple[int, int]:
  """(row length, rows per micro-batch): rows halved while the longest sequence still fits.

  A step of short trajectories then doesn't pay for the attention of long rows. A micro-batch keeps
  its tokens, in twice as many rows, while there are sequences to fill them. One of `halvings` + 1
  shapes, so there are as many compilations at most.

  >>> row_shape(900, 32, row_length=4096, micro_rows=8, halvings=3)
  (1024, 32)
  """
  for _ in range(halvings):
    if row_length % 2 or 2 * longest > row_length:
      break
    row_length //= 2
    micro_rows *= 2 if 2 * micro_rows <= num_sequences else 1
  return row_length, micro_rows


def minibatch_members(
  num_sequences: int, *, num_epochs: int, num_minibatches: int, seed: int, step: int
) -> list[np.ndarray]:
  """Returns the trajectories of each minibatch, by index, in the order of the updates.

  Every epoch takes each trajectory once, in an order of its own.
  """
  orders = [
    np.random.default_rng((seed, step, epoch)).permutation(num_sequences)
    for epoch in range(num_epochs)
  ]
  return [part for order in orders for part in np.split(order, num_minibatches)]
