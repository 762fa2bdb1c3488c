"""The loop of a training stage: a state that begins, resumes, and is saved as it goes."""

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import optax

from lwz import types
from lwz.learn import optimizer, update
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import placement
from lwz.report import terminal
from lwz.stages import prepare
from lwz.store import checkpoint, metrics, origin, run


def begin(
  c, config: config_lib.QwenConfig, rule: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> types.TrainState:
  """Step 0: float32 parameters as `c.init` says, each part on the device that holds it."""
  wanted = placement.state(config, rule, mesh)
  key = jax.random.key(c.seed)
  if c.init == 'random':
    where = placement.shardings(wanted.params)
    params = jax.jit(functools.partial(qwen.init, config=config), out_shardings=where)(key)
  else:
    source = prepare.reference(c, c.init)
    with prepare.loading(source) as progress:
      params = origin.params(source, config, key, mesh=mesh, progress=progress)
  fresh = jax.jit(
    lambda params: update.init(params, rule),
    out_shardings=placement.shardings(wanted),
    donate_argnums=0,
  )
  return fresh(params)


def adamw(c) -> optax.GradientTransformation:
  rate = optimizer.schedule(
    c.train.learning_rate,
    warmup_steps=c.train.warmup_steps,
    decay_steps=c.train.decay_steps,
    final_share=c.train.final_share,
  )
  return optimizer.adamw(
    rate,
    b1=c.train.b1,
    b2=c.train.b2,
    weight_decay=c.train.weight_decay,
    max_norm=c.train.max_norm,
  )


class Training:
  """A training loop that can be stopped at any step: iterate over it, and `record` each step.

  A step that is recorded is counted in metrics.jsonl, on the progress bar and, every
  `checkpoint.every` steps and at the end, in a checkpoint together with `extra`.
  """

  def __init__(self, c, opened: run.Run, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh):
    self._c, self._run = c, opened
    self._checkpoints = checkpoint.Checkpoints(opened.folder, keep=c.checkpoint.keep)
    self.optimizer = adamw(c)
    self.extra: dict[str, Any] = {}
    if self._checkpoints.latest() is None:
      self.state = begin(c, config, self.optimizer, mesh)
    else:
      wanted = placement.state(config, self.optimizer, mesh)
      self.state, self.extra = self._checkpoints.restore(wanted)
    self.start = self.extra['step'] if self.extra else 0
    self._writer = metrics.Writer(
      opened.folder, start_step=self.start, tensorboard=c.log.tensorboard
    )
    self._bar = terminal.progress(
      c.train.num_steps, start=self.start, label=prepare.run_name(c), quiet=jax.process_index() != 0
    )
    self._began = self._lapped = time.monotonic()
    self.laps: dict[str, float] = {}

  def __iter__(self) -> Iterator[int]:
    """The steps that are left."""
    with contextlib.closing(self._checkpoints), self._writer, self._bar:
      for step in range(self.start, self._c.train.num_steps):
        if step not in self._c.profile.steps:
          yield step
          continue
        target = self._run.folder / 'profile'
        with jax.profiler.trace(str(target)):
          yield step
        jax.profiler.save_device_memory_profile(str(target / f'memory-{step}.prof'))

  def lap(self, name: str) -> None:
    """Ends a phase of the step: `laps['seconds/NAME']`, recorded with it, is what it took."""
    now = time.monotonic()
    self.laps[f'seconds/{name}'], self._lapped = now - self._lapped, now

  def record(
    self, step: int, state, values: dict[str, float], *, show: Sequence[str], extra=None
  ) -> None:
    """Writes down a step that is done. `show` names the figures for the bar."""
    now = time.monotonic()
    values = {name: float(value) for name, value in values.items()} | self.laps
    self._writer.write(step, values | {'seconds': now - self._began})
    self._began, self.laps = now, {}
    self._bar.update(step + 1, **{name.split('/')[-1]: values[name] for name in show})
    self.state, self.extra = state, {'step': step + 1, **(extra or {})}
    if (step + 1) % self._c.checkpoint.every == 0 or step + 1 == self._c.train.num_steps:
      self._checkpoints.save(step + 1, state, self.extra)
    self._lapped = time.monotonic()
