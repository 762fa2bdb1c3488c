"""What generation in training refuses before any work."""

import pytest

from experiments import grpo_think
from lwz.rl import generation


def config(**changes):
  c = grpo_think.get_config('micro')
  c.update_from_flattened_dict(changes)
  return c


@pytest.mark.parametrize('kind', ['int8', 'int4'])
def test_samples_of_rounded_weights_are_weighted(kind):
  with pytest.raises(ValueError, match=f'rollout.weights={kind}: set rl.tis_cap, to 2 for'):
    generation.check(config(**{'rollout.weights': kind}))
  generation.check(config(**{'rollout.weights': kind, 'rl.tis_cap': 2.0}))
