"""How processes find each other is read from the environment, whole or not at all."""

import types

import jax
import pytest

from experiments import base
from lwz import launch
from lwz.runtime import distributed


@pytest.fixture
def joined(monkeypatch):
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *a, **k: calls.append((a, k)))
  monkeypatch.setattr(jax.config, 'update', lambda *a: None)
  for name in ('SLURM_STEP_NUM_TASKS', 'LWZ_PROCESSES', *distributed._EXPLICIT):
    monkeypatch.delenv(name, raising=False)
  return calls


def test_alone_nothing_is_started(joined):
  distributed.start(10)
  assert joined == []


def test_three_variables_name_the_others(joined, monkeypatch):
  for name, value in zip(distributed._EXPLICIT, ('h:1', '2', '0'), strict=True):
    monkeypatch.setenv(name, value)
  distributed.start(10)
  [(arguments, options)] = joined
  assert arguments == ('h:1', 2, 0) and options['heartbeat_timeout_seconds'] == 10


@pytest.mark.parametrize(
  ('name', 'value', 'times'),
  [
    ('SLURM_STEP_NUM_TASKS', '8', 1),
    ('SLURM_STEP_NUM_TASKS', '1', 0),
    ('LWZ_PROCESSES', 'auto', 1),
  ],
)
def test_a_cluster_is_asked_for_them(name, value, times, joined, monkeypatch):
  monkeypatch.setenv(name, value)
  distributed.start(10)
  assert joined == [((), {'heartbeat_timeout_seconds': 10})] * times


def test_a_missing_variable_is_named_in_a_sentence(joined, monkeypatch, capsys):
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  monkeypatch.setattr(launch.compilation, 'prepare', lambda c: None)
  given = types.SimpleNamespace(config=base.get_config('micro'))
  monkeypatch.setattr(launch.flags, 'FLAGS', given)
  with pytest.raises(SystemExit, match='2'):
    launch.main([])
  wanted = 'lwz: JAX_NUM_PROCESSES is set, but not JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID'
  assert wanted in capsys.readouterr().err


def test_what_one_process_does_is_refused_to_several(monkeypatch):
  distributed.check('evaluate')
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  distributed.check('grpo')
  with pytest.raises(ValueError, match='evaluate is the work of one process, and there are 2'):
    distributed.check('evaluate')


def test_alone_an_error_is_an_error():
  with pytest.raises(KeyError), distributed.guarded(10):
    raise KeyError('a')


@pytest.mark.parametrize(
  ('error', 'wanted'),
  [
    (jax.errors.JaxRuntimeError('UNKNOWN: Gloo all-reduce failed: connection closed'), True),
    (jax.errors.JaxRuntimeError('FAILED_PRECONDITION: the heartbeat stopped'), True),
    (jax.errors.JaxRuntimeError('INVALID_ARGUMENT: not addressable'), False),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory'), False),
    (ValueError('UNAVAILABLE: failed to connect'), True),
    (ValueError('rollout.top_p=0.9'), False),
  ],
)
def test_what_no_other_process_can_cause_is_an_error_of_its_own(error, wanted):
  assert distributed.lost(error) == wanted
