"""Floating-point operations of a program, counted in its jaxpr: matrix products times their loops.

XLA's `cost_analysis` counts a loop's body once and a Pallas kernel as nothing. Here a product
[M, K] x [K, N] counts 2 M K N, a scan's body as often as the scan is long, a `shard_map`'s body
once per shard, a kernel what it states, or its body once per point of its grid. Elementwise work
is left out: matrix products are what the peak of a chip is quoted for.
"""

import math
from collections.abc import Iterator

import numpy as np
from jax.extend import core


def count(closed: core.ClosedJaxpr, *, max_trips: int = 1) -> float:
  """FLOPs of one call over all devices.

  Args:
    closed: of the program: `jax.make_jaxpr(fn)(*args)`, or `jax.jit(fn).trace(*args).jaxpr`.
    max_trips: iterations, at most, of a while loop whose condition compares with no constant.

  A causal kernel that skips the blocks above the diagonal (splash) counts half its grid; a branch
  counts as its dearest side.

  >>> import jax
  >>> count(jax.make_jaxpr(jax.numpy.dot)(jax.numpy.ones((2, 3)), jax.numpy.ones((3, 5))))
  60.0
  """
  return sum(_equation(eqn, max_trips) for eqn in closed.jaxpr.eqns)


def kernels(closed: core.ClosedJaxpr) -> dict[str, float]:
  """Bytes that one call of each Pallas kernel reads, by its name, of those that state it."""
  return dict(_stated(closed.jaxpr))


def _stated(jaxpr: core.Jaxpr) -> Iterator[tuple[str, float]]:
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'pallas_call' and (cost := eqn.params['cost_estimate']):
      yield str(eqn.params['name']), float(cost.bytes_accessed)
    for inner in _inner(eqn):
      yield from _stated(inner)


def _equation(eqn, max_trips: int) -> float:
  name = eqn.primitive.name
  if name == 'pallas_call' and (cost := eqn.params['cost_estimate']):
    return float(cost.flops)
  if name == 'dot_general':
    return _dot(eqn)
  if name.startswith('dot_product_attention'):
    return _cudnn(eqn)
  inner = [sum(_equation(e, max_trips) for e in jaxpr.eqns) for jaxpr in _inner(eqn)]
  if not inner:
    return 0.0
  if name == 'cond':
    return max(inner)
  times = 1.0
  if name == 'scan':
    times = eqn.params['length']
  elif name == 'while':
    times = max(_bounds(eqn.params['cond_jaxpr'].jaxpr), default=max_trips)
  elif name == 'shard_map':
    mesh = eqn.params['mesh']
    manual = eqn.params.get('manual_axes') or mesh.axis_names
    times = math.prod(mesh.shape[axis] for axis in manual)
  elif name == 'pallas_call':
    grid = eqn.params['grid_mapping'].grid
    times = math.prod(n for n in grid if isinstance(n, int))
    if 'splash' in str(eqn.params['name']):
      times /= 2
  return times * sum(inner)


def _bounds(jaxpr: core.Jaxpr) -> Iterator[int]:
  """The constants that the counter of a loop with this condition stays below."""
  for eqn in jaxpr.eqns:
    end = eqn.invars[-1]
    is_less = eqn.primitive.name == 'lt'
    if is_less and isinstance(end, core.Literal) and np.asarray(end.val).dtype.kind == 'i':
      yield int(end.val)


def _inner(eqn) -> Iterator[core.Jaxpr]:
  """The jaxprs among an equation's parameters, in lists and tuples too."""
  for value in eqn.params.values():
    for item in value if isinstance(value, list | tuple) else (value,):
      item = item.jaxpr if isinstance(item, core.ClosedJaxpr) else item
      if isinstance(item, core.Jaxpr):
        yield item


def _dot(eqn) -> float:
  """2 x batch x left x right x contracted."""
  (contract, _), (batch, _) = eqn.params['dimension_numbers']
  left, right = (math.prod(v.aval.shape) for v in eqn.invars)
  shape = eqn.invars[0].aval.shape
  shared = math.prod(shape[i] for i in contract)
  batched = math.prod(shape[i] for i in batch)
  return 2.0 * left * right / (shared * batched) if shared * batched else 0.0


def _cudnn(eqn) -> float:
  """cuDNN's fused attention, q [B, T, H, C] on k [B, S, K, C]: two products forward, five back.

  Half of them where the mask is causal.
  """
  B, T, H, C = eqn.invars[0].aval.shape
  products = 5 if 'bwd' in eqn.primitive.name else 2
  causal = 'CAUSAL' in str(eqn.params['mask_type']) if 'mask_type' in eqn.params else False
  return products * 2.0 * B * H * T * eqn.invars[1].aval.shape[1] * C / (2 if causal else 1)
