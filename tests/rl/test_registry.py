"""Entries of the registry are `(c, mesh) -> function`; a reward says what it reads."""

import numpy as np
import pytest

from experiments import base, grpo_think
from lwz.programs import language_model
from lwz.rl import registry
from lwz.stages import grpo
from lwz.store.hf import checkpoint as hf
from tests import fakes

SERVER = 'http://localhost:1/score'


def config(model=SERVER, *, ensemble=(), exact=False, heldout=''):
  c = base.get_config('micro')
  c.reward.model, c.reward.ensemble, c.reward.heldout = model, ensemble, heldout
  c.reward.caution, c.rollout.exact = 0.0, exact
  return c


@pytest.fixture
def scorers(monkeypatch):
  """Scorers that load no model."""
  monkeypatch.setattr(registry, 'scorer', lambda *_: lambda pairs: np.ones(len(pairs)))
  monkeypatch.setattr(registry, 'score_shape', lambda c, mesh: language_model.RowShape(1, 8))
  monkeypatch.setattr(registry.likelihood, 'FrozenModel', lambda c, mesh, num_rows: len)


TABLES = ('REWARDS', 'ADVANTAGES', 'COMPOSITIONS', 'LOSSES', 'OVERLONG', 'AGGREGATES')


@pytest.mark.parametrize('table', TABLES)
def test_every_entry_makes_a_function_of_config_and_mesh(table, scorers):
  for name, entry in getattr(registry, table).items():
    made = entry(config(), None)
    assert callable(made.fn if table == 'REWARDS' else made), name


@pytest.mark.parametrize(
  'kwargs, reads, deferred',
  [
    ({}, 'answer', False),
    ({'exact': True}, 'answer', True),  # its last bits may depend on what else it is asked
    ({'model': 'reward_model'}, 'device', True),
    ({'ensemble': (SERVER,)}, 'answer', False),
    ({'ensemble': ('reward_model',)}, 'device', True),
  ],
)
def test_what_the_writing_reward_reads_depends_on_its_models(kwargs, reads, deferred, scorers):
  reward = registry.REWARDS['writing'](config(**kwargs), None)
  assert (reward.reads, reward.deferred) == (reads, deferred)


def test_the_held_out_reward_is_made_like_the_writing_reward(scorers):
  assert registry.heldout(config(), None) is None
  assert registry.heldout(config(heldout='other_model'), None).reads == 'device'
  assert registry.HELDOUT_OF in registry.REWARDS


def test_reward_models_of_one_configuration_share_a_program():
  shape = language_model.RowShape(2, 8)
  one, same, other = (
    registry._score_program(fakes.config(scalar_head=True, vocab_size=size), shape, None)
    for size in (16, 16, 32)
  )
  assert one is same and one is not other


@pytest.mark.parametrize('key', ['heldout', 'ensemble'])
def test_no_reward_model_reads_beyond_its_positions(key, tmp_path):
  model = fakes.config(scalar_head=True)
  hf.save(tmp_path, model, fakes.params(model))
  c = grpo_think.get_config('micro')
  c.reward.std, c.reward.model = 1.0, SERVER
  c.reward[key] = str(tmp_path) if key == 'heldout' else (SERVER, str(tmp_path))
  with pytest.raises(ValueError, match=f'row_length=256 exceeds the 64 positions of {tmp_path}'):
    grpo.check(c)
