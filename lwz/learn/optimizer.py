"""AdamW and Muon, their schedule, and the placement of their state, from plain numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib


def schedule(
  learning_rate: float, *, warmup_steps: int, decay_steps: int, final_share: float
) -> optax.Schedule:
  """Linear warm-up, then a cosine from `learning_rate` to `final_share` of it at `decay_steps`.

  `decay_steps=0` keeps the rate constant after the warm-up.
  """
  if not decay_steps:
    return optax.linear_schedule(
      0.0 if warmup_steps else learning_rate, learning_rate, max(warmup_steps, 1)
    )
  return optax.warmup_cosine_decay_schedule(
    0.0,
    learning_rate,
    warmup_steps,
    max(decay_steps, warmup_steps + 1),
    learning_rate * final_share,
  )


def adamw(
  rate: optax.Schedule,
  *,
  b1: float,
  b2: float,
  weight_decay: float,
  decay_mask: Any,
  max_norm: float,
  moments: jax.typing.DTypeLike = jnp.float32,
) -> optax.GradientTransformation:
  """AdamW (arXiv 1711.05101) after a clip of the global gradient norm.

  `decay_mask` says for each parameter whether `weight_decay` applies to it, in the structure of the
  parameters. `moments` is the dtype in which both moments are kept between steps, computed on in
  float32: bfloat16 halves them, at 4 instead of 8 bytes per parameter beside the 4 of the parameter
  itself.
  """
  rule = optax.adamw(rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=decay_mask)
  return optax.chain(optax.clip_by_global_norm(max_norm), _kept_in(moments, rule))


def muon(
  rate: optax.Schedule,
  *,
  matrices: Any,
  b1: float,
  b2: float,
  weight_decay: float,
  max_norm: float,
  moments: jax.typing.DTypeLike = jnp.float32,
) -> optax.GradientTransformation:
  """Muon for the matrices of layers, AdamW without decay for the rest, after a clip of the norm.

  The momentum M of a matrix is orthogonalised by Newton-Schulz steps (K. Jordan, 2024), so every
  direction of it moves alike: W <- W - rate (0.2 sqrt(max(in, out)) orthogonal(M) + weight_decay W)
  (arXiv 2502.16982, Eq. 4), of about AdamW's size. `matrices` holds for each parameter the (input,
  output) dimensions of its matrix, and None where it has none: embeddings and the head, too, which
  do not decay here. A matrix keeps half of AdamW's state, its momentum.
  """
  dimensions = jax.tree.map(
    lambda x: x and contrib.MuonDimensionNumbers(*x), matrices, is_leaf=_is_dimensions
  )
  rule = contrib.muon(
    rate,
    beta=b1,
    nesterov=False,
    weight_decay=weight_decay,
    adam_b1=b1,
    adam_b2=b2,
    muon_weight_dimension_numbers=lambda _: dimensions,
    consistent_rms=0.2,
  )
  return optax.chain(optax.clip_by_global_norm(max_norm), _kept_in(moments, rule))


def _is_dimensions(x) -> bool:
  return x is None or isinstance(x, tuple)


def _kept_in(dtype, rule: optax.GradientTransformation) -> optax.GradientTransformation:
  """`rule`, whose moments `mu` and `nu` are of `dtype` between steps."""
  if jnp.dtype(dtype) == jnp.float32:
    return rule

  def cast(state, dtype):
    def one(path, x):
      moment = any(getattr(key, 'name', '') in ('mu', 'nu') for key in path)
      return x.astype(dtype) if moment else x

    return jax.tree.map_with_path(one, state)

  def update(grads, state, params=None):
    updates, state = rule.update(grads, cast(state, jnp.float32), params)
    return updates, cast(state, dtype)

  return optax.GradientTransformation(lambda params: cast(rule.init(params), dtype), update)


def on_host(opt_state: Any) -> Any:
  """Returns an optimiser's state, in shape, with its arrays in the memory of the host.

  Takes and returns `jax.ShapeDtypeStruct`s with shardings. `update.apply` brings to the device what
  lies on the host; results go back where `out_shardings` says. Scalars stay. Raises ValueError
  if a device has no such memory.
  """

  def place(leaf):
    if not leaf.shape:
      return leaf
    kind = 'pinned_host'
    for device in leaf.sharding.mesh.devices.flat[:1]:
      known = [memory.kind for memory in device.addressable_memories()]
      if kind not in known:
        raise ValueError(f'{device} has no memory {kind!r}, only {", ".join(known)}')
    where = leaf.sharding.with_memory_kind(kind)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  return jax.tree.map(place, opt_state)
