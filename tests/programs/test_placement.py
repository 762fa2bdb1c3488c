"""What an optimiser keeps lies where its parameters do, or waits in the memory of the host."""

import jax
import numpy as np
import optax
import pytest

from lwz import rows as rows_lib
from lwz.learn import optimizer, update
from lwz.model import parameters, sharding
from lwz.programs import language_model, placement
from lwz.programs.cost import fit
from tests import fakes

CONFIG = fakes.config()
MATRICES = parameters.matrices(parameters.describe(CONFIG))
RULES = {
  'adam': optax.adam(0.01),
  'muon': optimizer.muon(
    optax.constant_schedule(0.01),
    matrices=MATRICES,
    b1=0.9,
    b2=0.95,
    weight_decay=0.1,
    max_norm=1.0,
  ),
}


def two_steps(offload, rule):
  """The program and the state after two steps on two devices."""
  shape = language_model.RowShape(num_rows=2, row_length=8)
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


@pytest.mark.parametrize(
  'rule',
  [RULES['adam'], pytest.param(RULES['muon'], marks=pytest.mark.slow)],
  ids=['adam', 'muon'],
)
def test_offloaded_moments_wait_on_the_host_and_teach_the_same(rule):
  built, state = two_steps(True, rule)
  other, expected = two_steps(False, rule)
  assert {leaf.sharding.memory_kind for leaf in moments(state)} == {'pinned_host'}
  assert {leaf.sharding.memory_kind for leaf in moments(expected)} == {'device'}
  jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)
  kept = [fit.bytes_per_device(moments(one.abstract_args[0])) for one in (built, other)]
  assert kept[0] == 0 < kept[1]


@pytest.mark.parametrize('rule', RULES.values(), ids=RULES)
def test_moments_lie_where_their_parameters_do(rule):
  _, state = two_steps(False, rule)
  seen = []
  for path, leaf in jax.tree.leaves_with_path(state.opt_state):
    owners = [p for p, _ in jax.tree.leaves_with_path(state.params) if path[-len(p) :] == p]
    for owner in owners:
      param = state.params
      for key in owner:
        param = param[key.key]
      assert (leaf.shape, leaf.sharding) == (param.shape, param.sharding), path
      seen.append(leaf.sharding.is_fully_replicated)
  num_params, num_matrices = len(jax.tree.leaves(state.params)), 7
  of_muon = 2 * num_params - num_matrices
  assert len(seen) == (of_muon if rule is RULES['muon'] else 2 * num_params)
  assert seen.count(False) >= num_matrices
