"""The loop of a training stage: a state that begins, resumes, and is saved as it goes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from lwz import hosts, types
from lwz.learn import optimizer, update
from lwz.model import config as config_lib
from lwz.model import parameters, qwen, sharding
from lwz.programs import placement, program
from lwz.report import directions, terminal
from lwz.runtime import interrupts, setup, watchdog
from lwz.store import checkpoint, faulty_step, metrics, model_source, run


def initial_params(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, dtype: Any = jnp.float32
) -> qwen.Params:
  """Parameters as `c.init` says, each part on the device that holds it."""
  key = jax.random.key(c.seed)
  if c.init == 'random':
    return jax.jit(
      lambda key: jax.tree.map(lambda x: x.astype(dtype), qwen.init(key, config)),
      out_shardings=sharding.shardings(config, mesh, sharding.TRAIN),
    )(key)
  source = setup.reference(c, c.init)
  with setup.loading(source) as progress:
    return model_source.params(source, config, key, mesh=mesh, dtype=dtype, progress=progress)


def begin(
  c, config: config_lib.QwenConfig, rule: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> types.TrainState:
  """Step 0: float32 parameters and a fresh optimiser."""
  wanted = placement.state(config, rule, mesh, offload=c.train.offload)
  params = initial_params(c, config, mesh)
  fresh = jax.jit(
    lambda params: update.init(params, rule),
    out_shardings=placement.shardings(wanted),
    donate_argnums=0,
  )
  return fresh(params)


def adamw(c, config: config_lib.QwenConfig) -> optax.GradientTransformation:
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
    decay_mask=parameters.decay_mask(config),
    max_norm=c.train.max_norm,
    moments=c.train.moments,
  )


def rerun(c, step: program.Program) -> None:
  """Runs the step that `debug.replay` names once more, and prints its figures then and now."""
  args, fault = faulty_step.read(c.debug.replay, step.abstract_args)
  figures = jax.device_get(step.jit()(*args)[1])
  print(f'{c.debug.replay}: not finite: {", ".join(fault["not_finite"])}')
  for name, value in sorted(figures.items()):
    print(f'  {name}: {fault["figures"].get(name)} then, {float(value)} now')


class Training:
  """A training loop that can be stopped at any step: iterate over it, and `record` each step.

  A step that is recorded is counted in metrics.jsonl, on the progress bar and, every
  `checkpoint.every` steps or `checkpoint.minutes`, when the run is asked to stop, and at the end,
  in a checkpoint together with `extra`. With several processes all stop and save at the same step.
  """

  def __init__(self, c, opened: run.Run, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh):
    self._c, self._run = c, opened
    self._checkpoints = checkpoint.Checkpoints(
      opened.folder,
      keep=c.checkpoint.keep,
      keep_best=c.checkpoint.keep_best if c.checkpoint.best else 0,
    )
    self.optimizer = adamw(c, config)
    self.extra: dict[str, Any] = {'step': 0}
    if self._checkpoints.latest() is None:
      self.state = begin(c, config, self.optimizer, mesh)
    else:
      wanted = placement.state(config, self.optimizer, mesh, offload=c.train.offload)
      self.state, self.extra = self._checkpoints.restore(wanted)
    self.start = self.extra['step']
    self._speaks = jax.process_index() == 0
    self._writer = (
      metrics.Writer(opened.folder, start_step=self.start, tensorboard=c.log.tensorboard)
      if self._speaks
      else None
    )
    self._bar = terminal.progress(
      c.train.num_steps, start=self.start, label=setup.run_name(c), quiet=not self._speaks
    )
    self._watchdog = watchdog.Watchdog(c.debug.watchdog)
    self._began = self._lapped = self._saved = time.monotonic()
    self._figure: float | None = None  # the last known value of `checkpoint.best`
    self._step, self._stopping = self.start, False
    self._faults: list[tuple[int, str]] = []  # (step, what) of the steps that went wrong in a row
    self._open = contextlib.ExitStack()
    self.laps: dict[str, float] = {}

  def __iter__(self) -> Iterator[int]:
    """The steps that are left. Raises `signals.Stopped` between two of them, all saved."""
    with self._open as stack:
      stack.enter_context(contextlib.closing(self._checkpoints))
      for opened in (self._writer, self._bar, self._watchdog, interrupts.kept()):
        stack.enter_context(opened or contextlib.nullcontext())
      for step in range(self.start, self._c.train.num_steps):
        self._step = step
        with self._profiled(step):
          yield step
        if self._stopping:
          self._leave()

  def update(self, fn: Callable, state, *batch) -> tuple[Any, dict[str, Any]]:
    """`fn(state, *batch) -> (state, figures)`, one step of the optimiser; figures on the host.

    Where one of them is NaN or infinite, `fn` has returned the state as it was: it is written to
    `faults/` with the batch, once for faults that follow each other, to be run again.
    """
    hosts.check_same(f'the batch of step {self._step}', batch)
    state, figures = fn(state, *batch)
    figures = jax.device_get(figures)
    if not all(np.isfinite(value).all() for value in figures.values()):
      self._note_fault(state, batch, figures)
    return state, figures

  def lap(self, name: str) -> None:
    """Ends a phase of the step: `laps['seconds/NAME']`, recorded with it, is what all such took."""
    now = time.monotonic()
    self.laps[f'seconds/{name}'] = self.laps.get(f'seconds/{name}', 0.0) + now - self._lapped
    self._lapped = now
    self._watchdog.moved(f'{name!r} of step {self._step}')

  def rest(self) -> None:
    """A place inside a step, before its first update, where a run that was asked to stop does."""
    if self._agree()[0]:
      self._save()
      self._leave()  # the loop is not asked again, so it ends here

  def record(
    self, step: int, state, values: dict[str, float], *, show: Sequence[str], extra=None
  ) -> None:
    """Writes down a step that is done. `show` names the figures for the bar.

    Raises RuntimeError where more than `debug.max_skipped` steps in a row were not finite.
    """
    now = time.monotonic()
    values = {name: float(value) for name, value in values.items()} | self.laps
    if self._writer:
      self._writer.write(step, values | {'seconds': now - self._began})
    self._began, self.laps = now, {}
    self._bar.update(step + 1, **{name.split('/')[-1]: values[name] for name in show})
    self._watchdog.moved(f'step {step}')
    self._figure = values.get(self._c.checkpoint.best, self._figure)
    self.state, self.extra = state, {'step': step + 1, **(extra or {})}
    self._check_faults(step)
    self._stopping, due = self._agree()
    every = (step + 1) % self._c.checkpoint.every == 0
    # Steps in a row that went wrong: what is saved then would push out what was good before.
    if step + 1 == self._c.train.num_steps or (
      (every or due or self._stopping) and not self._faults
    ):
      self._save()
    self._lapped = time.monotonic()

  def _agree(self) -> tuple[bool, bool]:
    """(any process was asked to stop, process 0 finds that it is time to save)."""
    minutes = (time.monotonic() - self._saved) / 60
    due = bool(self._c.checkpoint.minutes) and minutes >= self._c.checkpoint.minutes
    votes = hosts.all_gather(np.array([interrupts.heard(), due]))
    return bool(votes[:, 0].any()), bool(votes[0, 1])

  def _save(self) -> None:
    latest, step = self._checkpoints.latest(), self.extra['step']
    if latest is not None and step <= latest:
      return
    figure = None
    if self._figure is not None and np.isfinite(self._figure):
      figure = self._figure * directions.of(self._c.checkpoint.best)
    self._checkpoints.save(step, self.state, self.extra, figure=figure)
    self._saved = time.monotonic()

  def _leave(self) -> None:
    self._checkpoints.wait()
    self._open.close()
    step, of = self._checkpoints.latest(), self._c.train.num_steps  # not a bad one, see `record`
    raise interrupts.Stopped(f'{setup.run_name(self._c)}: stopped and saved at step {step} of {of}')

  def _note_fault(self, state, batch, figures) -> None:
    what = ', '.join(faulty_step.not_finite(batch, figures))
    if not self._faults:
      name = f'step-{self._step:06d}-{int(state.step)}'
      target = faulty_step.write(self._run.folder, name, state, batch, figures)
      what += f'; to run it again: --config.debug.replay={target}'
      if self._speaks:
        logging.warning('step %d is skipped, not finite: %s', self._step, what)
    if not self._faults or self._faults[-1][0] != self._step:
      self._faults.append((self._step, what))

  def _check_faults(self, step: int) -> None:
    if self._faults and self._faults[-1][0] != step:
      self._faults = []
    if len(self._faults) > self._c.debug.max_skipped:
      began, what = self._faults[0]
      raise RuntimeError(
        f'{len(self._faults)} steps in a row were not finite, more than debug.max_skipped='
        f'{self._c.debug.max_skipped}. It began at step {began}: {what}\n'
        f'the last good checkpoint is of step {self._checkpoints.latest()}'
      )

  @contextlib.contextmanager
  def _profiled(self, step: int) -> Iterator[None]:
    if step not in self._c.profile.steps:
      yield
      return
    target = self._run.folder / 'profile'
    with jax.profiler.trace(str(target)):
      yield
    jax.profiler.save_device_memory_profile(str(target / f'memory-{step}.prof'))
