"""What generation in training refuses before any work, and compiles before the first step."""

import types
from concurrent import futures

import jax
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


def test_on_an_accelerator_what_a_rollout_meets_is_compiled_first(monkeypatch, capsys):
  asked: list[tuple[int, int]] = []
  fault, int4 = None, False

  def compiling(*shape):
    asked.append(shape)
    if int4:
      return None  # as `Program.start` does
    done: futures.Future = futures.Future()
    done.set_exception(fault) if fault else done.set_result(None)
    return done

  shapes = {'batch_sizes': (1, 2, 4), 'read_lengths': (128, 256)}
  engine, c = types.SimpleNamespace(**shapes, compiling=compiling), grpo_think.get_config('micro')
  generation.compile_first(c, engine)
  assert not asked and not capsys.readouterr().err
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  generation.compile_first(c, engine)
  assert asked == [(4, 128), (4, 256), (1, 256), (2, 256)]
  assert 'done at program 4 of 4' in capsys.readouterr().err
  fault = MemoryError('out of memory')
  with pytest.raises(MemoryError, match='out of memory'):
    generation.compile_first(c, engine)
  fault, int4 = None, True
  capsys.readouterr()
  generation.compile_first(c, engine)
  assert len(asked) == 12 and not capsys.readouterr().err
