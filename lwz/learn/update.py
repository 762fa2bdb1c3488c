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
  """Returns the state of step 0: the given parameters and a fresh optimiser state."""
  return types.TrainState(
    step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params)
  )


def accumulate(
  loss_fn: Callable,
  params: Any,
  micro_batches: Any,
  num_micro: int | jax.Array,
  *,
  shardings: Any = None,
) -> tuple[Any, Any]:
  """Sums gradient and metrics of `loss_fn(params, micro_batch) -> (loss, metrics)`.

  `loss_fn` returns shares of loss and metrics of the whole batch. The first `num_micro` of
  `micro_batches`, leaves with a leading dimension, are taken; a traced number needs no new
  compilation. With `shardings`, a `NamedSharding` per parameter, every micro-batch's gradients are
  summed over the devices into these parts, and no device holds more.

  Returns (gradients, metrics), with the loss among the metrics.
  """

  def one(index):
    micro_batch = jax.tree.map(
      lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), micro_batches
    )
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, micro_batch)
    if shardings is not None:
      grads = jax.lax.with_sharding_constraint(grads, shardings)
    return grads, {'loss': loss, **metrics}

  if isinstance(num_micro, int) and num_micro == 1:
    return one(0)

  def add(index, total):
    # The barrier keeps XLA from adding up gradients that are not yet reduced over the mesh, and
    # reducing after the loop: they would be whole on each device (and its TPU pass fails on casts).
    return jax.tree.map(jnp.add, total, jax.lax.optimization_barrier(one(index)))

  shapes = jax.eval_shape(one, 0)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.fori_loop(0, num_micro, add, zeros)


@jax.named_scope('optimizer')
def apply(
  state: types.TrainState, grads: Any, optimizer: optax.GradientTransformation
) -> tuple[types.TrainState, dict[str, jax.Array]]:
  """Takes one step of the optimiser, or none if the gradient is not finite.

  A skipped step returns the state as it was. Metrics: `grad_norm`, before clipping, and
  `skipped`, 1 or 0.
  """
  norm = optax.tree.norm(grads)
  finite = jnp.isfinite(norm)
  kept = jax.device_put(state.opt_state, jax.memory.Space.Device)  # it may wait on the host
  # Inside, optax multiplies float32 by an int32 step count.
  with jax.numpy_dtype_promotion('standard'):
    updates, opt_state = optimizer.update(grads, kept, state.params)
  params = optax.apply_updates(state.params, updates)
  new = types.TrainState(step=state.step + 1, params=params, opt_state=opt_state)
  old = types.TrainState(step=state.step, params=state.params, opt_state=kept)
  new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
  return new, {'grad_norm': norm, 'skipped': 1.0 - finite.astype(jnp.float32)}
