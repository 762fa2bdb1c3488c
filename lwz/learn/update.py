"""One optimiser step from a batch that may come in several micro-batches.

A gradient is a gradient: `loss_fn` returns *shares* of the loss of the whole batch (sums divided by
global counts, see `losses.budget_mean`), so that adding up micro-batches gives the same number and
the same gradient as taking the batch at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lwz import types


def init(params: Any, optimizer: optax.GradientTransformation) -> types.TrainState:
  """Step 0: the given parameters and a fresh optimiser state."""
  return types.TrainState(
    step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params)
  )


def accumulate(
  loss_fn: Callable, params: Any, micro_batches: Any, num_micro: int | jax.Array
) -> tuple[Any, Any]:
  """Sums gradient and metrics of `loss_fn(params, micro_batch) -> (loss, metrics)`.

  Args:
    loss_fn: returns shares of loss and metrics of the whole batch.
    params: what to differentiate.
    micro_batches: a pytree whose leaves have a leading dimension, the micro-batch.
    num_micro: how many of them to take; a traced number needs no new compilation.

  Returns:
    (gradients, metrics), with the loss among the metrics.
  """

  def one(index):
    micro_batch = jax.tree.map(
      lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), micro_batches
    )
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, micro_batch)
    return grads, {'loss': loss, **metrics}

  if isinstance(num_micro, int) and num_micro == 1:
    return one(0)
  shapes = jax.eval_shape(one, 0)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.fori_loop(
    0, num_micro, lambda index, total: jax.tree.map(jnp.add, total, one(index)), zeros
  )


def apply(
  state: types.TrainState, grads: Any, optimizer: optax.GradientTransformation
) -> tuple[types.TrainState, dict[str, jax.Array]]:
  """One step of the optimiser; metrics hold the norm of the gradient before clipping."""
  # Inside, optax multiplies float32 by an int32 step count.
  with jax.numpy_dtype_promotion('standard'):
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  new = types.TrainState(step=state.step + 1, params=params, opt_state=opt_state)
  return new, {'grad_norm': optax.tree.norm(grads)}
