"""What an optimiser keeps may wait in the memory of the host: the step is the same."""

import jax
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import update
from lwz.model import sharding
from lwz.programs import language_model, placement
from lwz.programs.cost import fit
from tests import fakes

CONFIG = fakes.config()


def two_steps(offload):
  """The program and the state after two steps on two devices."""
  rule, shape = optax.adam(0.01), language_model.RowShape(num_rows=2, row_length=8)
  mesh = sharding.make_mesh((1, 2, 1))
  built = language_model.train_step(
    CONFIG, rule, shape, micro_rows=2, chunk=8, remat='none', offload=offload, mesh=mesh
  )
  begin = update.init(fakes.params(CONFIG), rule)
  state = jax.device_put(begin, placement.shardings(built.abstract_args[0]))
  rows = rows_lib.lay(fakes.texts([5, 7], CONFIG), row_length=8, num_rows=2)
  step = built.jit()
  for _ in range(2):
    state, _ = step(state, rows.arrays())
  return built, state


def moments(state):
  return [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]


def test_offloaded_moments_wait_on_the_host_and_teach_the_same():
  built, state = two_steps(offload=True)
  other, expected = two_steps(offload=False)
  assert {leaf.sharding.memory_kind for leaf in moments(state)} == {'pinned_host'}
  assert {leaf.sharding.memory_kind for leaf in moments(expected)} == {'device'}
  jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)
  kept = [fit.bytes_per_device(moments(one.abstract_args[0])) for one in (built, other)]
  assert kept[0] == 0 < kept[1]
