"""What is compiled before the first step of a run."""

import types
from concurrent import futures

import jax

from experiments import grpo_think
from lwz.rl import generation


def test_on_an_accelerator_what_a_rollout_meets_is_compiled_first(monkeypatch, capsys):
  asked: list[tuple[int, int]] = []

  def compiling(*shape):
    asked.append(shape)
    done: futures.Future = futures.Future()
    done.set_result(None)
    return done

  shapes = {'batch_sizes': (1, 2, 4), 'read_lengths': (128, 256)}
  engine, c = types.SimpleNamespace(**shapes, compiling=compiling), grpo_think.get_config('micro')
  generation.compile_first(c, engine)
  assert not asked and not capsys.readouterr().err
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  generation.compile_first(c, engine)
  assert asked == [(4, 128), (4, 256), (1, 256), (2, 256)]
  assert 'done at program 4 of 4' in capsys.readouterr().err
