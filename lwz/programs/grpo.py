"""One GRPO update on a minibatch of trajectories, and the arrays it reads.

Trajectories (prompt and answer) are packed into rows; the forward pass sees rows, the loss sees
sequences: log-probabilities are gathered back to [B, T]. Rows are worked off in micro-batches, as
many as the packing needed; since the loop's length is an argument, there is one compilation.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import losses, update
from lwz.model import qwen
from lwz.programs import language_model, placement, program


def update_step(
  config: qwen.QwenConfig,
  optimizer: optax.GradientTransformation,
  *,
  num_sequences: int,
  max_tokens: int,
  row_length: int,
  micro_rows: int,
  temperature: float,
  chunk: int,
  remat: str,
  clip_low: float,
  clip_high: float,
  aggregate: Callable,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(state, minibatch, num_micro) -> (state, metrics).

  `aggregate(num_tokens, num_sequences)` gives the aggregation of `losses.grpo`, bound to the counts
  of the whole minibatch (what is masked counts in neither), so that shares of micro-batches add up.
  """

  def step(state, minibatch, num_micro):
    num_tokens = jnp.maximum(jnp.sum(minibatch['mask']).astype(jnp.float32), 1.0)
    written_B = jnp.any(minibatch['mask'], axis=1)
    num_written = jnp.maximum(jnp.sum(written_B).astype(jnp.float32), 1.0)
    share = losses.budget_mean(num_tokens)

    def loss_fn(params, micro):
      logp_NT, entropy_NT, _ = language_model.row_logprob(
        params, micro, config, temperature=temperature, chunk=chunk, remat=remat, mesh=mesh
      )
      mask_BT = minibatch['mask'] & micro['here'][:, None]
      logp_BT = logp_NT.reshape(-1)[minibatch['index']]
      entropy_BT = entropy_NT.reshape(-1)[minibatch['index']]
      loss, metrics = losses.grpo(
        logp_BT,
        minibatch['old_logp'],
        minibatch['advantage'],
        mask_BT,
        clip_low=clip_low,
        clip_high=clip_high,
        aggregate=aggregate(num_tokens, num_written),
      )
      weight = jnp.sum(mask_BT).astype(jnp.float32) / num_tokens
      metrics = jax.tree.map(lambda x: x * weight, metrics)
      gap_BT = jnp.abs(logp_BT - minibatch['old_logp'])
      metrics |= {'entropy': share(entropy_BT, mask_BT), 'logp_gap': share(gap_BT, mask_BT)}
      return loss, metrics

    grads, metrics = update.accumulate(loss_fn, state.params, minibatch['micro'], num_micro)
    state, norms = update.apply(state, grads, optimizer)
    return state, metrics | norms

  state = placement.state(config, optimizer, mesh)
  B, T, M = num_sequences, max_tokens, -(-num_sequences // micro_rows)
  of = functools.partial(placement.array, mesh=mesh)
  row = placement.array((M, micro_rows, row_length), jnp.int32, mesh, None, 'rows', 'time')
  minibatch = {
    'old_logp': of((B, T), jnp.float32),
    'advantage': of((B,), jnp.float32),
    'mask': of((B, T), jnp.bool_),
    'index': of((B, T), jnp.int32),
    'micro': {
      **dict.fromkeys(('ids', 'segments', 'positions'), row),
      'here': of((M, B), jnp.bool_),
    },
  }
  args = (state, minibatch, of((), jnp.int32))
  return program.Program('grpo', step, args, (0,), placement.results(state, mesh))


def minibatch(
  prompts: Sequence[np.ndarray],
  answers: Sequence[np.ndarray],
  old_logp_BT: np.ndarray,
  advantage_B: np.ndarray,
  valid_B: np.ndarray,
  *,
  row_length: int,
  micro_rows: int,
) -> tuple[dict, int]:
  """The arguments of `update_step` for B trajectories, and the number of micro-batches in use.

  Args:
    prompts: ids of each trajectory's prompt, at least one token.
    answers: ids that the policy wrote, its stop token included.
    old_logp_BT: their log-probabilities; beyond an answer's length anything.
    advantage_B: one number per trajectory.
    valid_B: False masks a trajectory out of the loss.
    row_length, micro_rows: tokens per row, rows per micro-batch.
  """
  B, T = old_logp_BT.shape
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
  shape = (num_micro_max, micro_rows, row_length)
  arrays = {
    'old_logp': np.asarray(old_logp_BT, np.float32),
    'advantage': np.asarray(advantage_B, np.float32),
    'mask': mask_BT,
    'index': index_BT.astype(np.int32),
    'micro': {
      'ids': rows.ids.reshape(shape),
      'segments': rows.segments.reshape(shape),
      'positions': rows.positions.reshape(shape),
      'here': here_MB,
    },
  }
  return arrays, -(-rows_lib.num_used(rows) // micro_rows)


def sweeps(
  num_sequences: int, *, num_epochs: int, num_minibatches: int, seed: int, step: int
) -> list[np.ndarray]:
  """Indices of the trajectories of each minibatch, in the order of the updates.

  Every epoch goes through the whole rollout once, in an order of its own, before the next begins.
  """
  orders = [
    np.random.default_rng((seed, step, epoch)).permutation(num_sequences)
    for epoch in range(num_epochs)
  ]
  return [part for order in orders for part in np.split(order, num_minibatches)]
