"""What a run says of its adapters, and what it refuses."""

import math
import re

import jax
import numpy as np
import pytest

from experiments import base
from lwz.model import config as config_lib
from lwz.model import parameters, quantised, sharding
from lwz.runtime import adapters, keys
from tests import fakes

MICRO = config_lib.preset('micro')


def config(**changes):
  c = base.get_config('micro')
  c.init = 'pretrain:micro'
  c.update_from_flattened_dict({'lora.rank': 4} | changes)
  return c


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'lora.targets': ()}, r'lora.targets=\(\): name one at least of q, k, v'),
    ({'init': 'random'}, "lora.rank=4 with init='random': adapters change a model"),
    ({'lora.rank': 0, 'lora.frozen': 'int8'}, 'lora.frozen=int8 with lora.rank=0: only what no st'),
    ({'lora.rank': 17}, 'lora.rank=17 exceeds what k has, a matrix of 32 x 16: choose at most 16'),
  ],
)
def test_adapters_that_can_change_nothing_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    adapters.check(config(**changes))


def test_what_can_be_trained_is_not_refused():
  adapters.check(config())
  adapters.check(config(**{'lora.rank': 17, 'lora.targets': ('q', 'o', 'gate')}))
  adapters.check(config(**{'lora.rank': 0, 'init': 'random'}))
  assert adapters.of(config(**{'lora.rank': 0})) is None


def test_a_target_that_is_none_is_named():
  with pytest.raises(
    ValueError, match=r"lora\.targets: there is no 'head'; choose from q, k, v, o"
  ):
    keys.check(config(**{'lora.targets': ('q', 'head')}))


def test_a_scalar_head_begins_as_that_of_the_base():
  model, mesh = fakes.config(scalar_head=True), sharding.make_mesh((1,))
  base = jax.device_put(fakes.params(model), sharding.shardings(model, mesh, sharding.TRAIN))
  found = adapters.initial(config(), model, mesh, base)
  assert set(found) == {'layers', 'score'} and not np.any(found['layers']['wq']['b'])
  kept = np.array(base['score'])
  np.testing.assert_array_equal(found['score'], kept)
  jax.tree.map(lambda x: x.delete(), found)  # as an update does, which gives it another place
  np.testing.assert_array_equal(base['score'], kept)
  assert ', and a scalar head: ' in adapters.describe(config(), model)


def test_it_says_what_is_trained_and_what_is_frozen():
  """Of L = 2: r (D + H C) twice, r (D + K C) twice, r (D + F) thrice; 12 bytes each, and 4."""
  said = adapters.describe(config(), MICRO)
  num = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
  assert said.startswith(f'trains {num:,} parameters, adapters of rank 4 for q, k, v, o, gate')
  assert '48 KiB with their moments; frozen are the 31,008 of pretrain:micro' in said
  assert said.endswith('121 KiB in float32')


@pytest.mark.parametrize(('kind', 'per_weight'), [('int8', 1), ('int4', 0.5)])
def test_it_says_what_a_quantised_base_takes(kind, per_weight):
  """A group of int4 is of 32, 16 or 64 inputs there, so that its scales weigh more."""
  said = adapters.describe(config(**{'lora.frozen': kind}), MICRO)
  found = float(re.search(r'([\d.]+) KiB in int[48], what is no matrix in float32$', said)[1])
  described = parameters.describe(MICRO)
  matrices = [p for p in described['layers'].values() if parameters.is_matrix(p)]
  num = parameters.num_of({str(i): p for i, p in enumerate(matrices)})
  scales = sum(math.prod(quantised.pair(p, kind).scale.shape) for p in matrices)
  whole = 4 * (parameters.num_of(described) - num) + per_weight * num + 4 * scales
  assert found == pytest.approx(whole / 1024, rel=0.01)


def test_a_resumed_run_keeps_to_its_base(tmp_path):
  """In int4 it is the same bit for bit, made again of what it was made of."""
  c = config(**{'runs_dir': str(tmp_path), 'lora.frozen': 'int4'})
  first, again = (adapters.keep(c, tmp_path, MICRO, fakes.params(MICRO), None) for _ in range(2))
  assert first['layers']['wq'].q.dtype == 'int4'
  jax.tree.map(np.testing.assert_array_equal, first, again)
  with pytest.raises(ValueError, match=r'its adapters change .*pretrain-micro, which holds other'):
    adapters.keep(c, tmp_path, MICRO, fakes.params(MICRO, 1), None)
