"""The training loop of a stage: state, checkpoints, metrics, and an orderly stop."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from etils import epath

from lwz import hosts, types
from lwz.learn import optimizer, update
from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import parameters, qwen, sharding
from lwz.programs import placement
from lwz.report import directions, terminal
from lwz.runtime import adapters, interrupts, setup, watchdog
from lwz.store import checkpoint, faulty_step, inputs, metrics, run, sinks

READS = (
  *('init', 'seed', 'checkpoint', 'debug', 'profile.steps', 'log.sinks', 'train.offload'),
  *('train.num_steps', 'train.learning_rate', 'train.warmup_steps', 'train.decay_steps'),
  *('train.final_share', 'train.b1', 'train.b2', 'train.weight_decay', 'train.max_norm'),
  *('train.optimizer', 'train.moments', *adapters.READS),
)


def initial_params(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, dtype: Any = jnp.float32
) -> qwen.Params:
  """Returns the parameters that `c.init` names, sharded over the mesh."""
  if c.init == 'random':
    return jax.jit(
      lambda key: jax.tree.map(lambda x: x.astype(dtype), qwen.init(key, config)),
      out_shardings=sharding.shardings(config, mesh, sharding.TRAIN),
    )(jax.random.key(c.seed))
  source = setup.reference(c, c.init)
  return setup.load_params(c, source, config, mesh, dtype=dtype, seed=c.seed)


def frozen_params(
  c, folder: epath.Path, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh
) -> tuple[qwen.Params, ...]:
  """Returns (base,) of the adapters of a run, as it keeps it; () where it has none.

  Raises ValueError if a resumed run finds another base than it began with.
  """
  if not adapters.of(c):
    return ()
  base = initial_params(c, config, mesh, config.dtype)
  base = adapters.keep(c, folder, config, base, mesh)
  print(f'{setup.run_name(c)}: {adapters.describe(c, config)}')
  return (base,)


def begin_from(
  c,
  config: config_lib.QwenConfig,
  rule: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  params: qwen.Params,
  *,
  lora: lora_lib.LoRA | None = None,
) -> types.TrainState:
  """Returns the state of step 0, with a fresh optimiser: of float32 parameters, or of adapters.

  `params` are donated.
  """
  wanted = placement.state(config, rule, mesh, offload=c.train.offload, lora=lora)
  fresh = jax.jit(
    lambda params: update.init(params, rule),
    out_shardings=placement.shardings(wanted),
    donate_argnums=0,
  )
  return fresh(params)


def update_rule(
  c,
  config: config_lib.QwenConfig,
  rate: optax.Schedule | None = None,
  *,
  lora: lora_lib.LoRA | None = None,
) -> optax.GradientTransformation:
  """Returns the optimiser that `c.train` describes, with its learning rate or the one given.

  It is of all parameters, or of adapters.
  """
  described = lora_lib.describe(config, lora)
  rate = rate or optimizer.schedule(
    c.train.learning_rate,
    warmup_steps=c.train.warmup_steps,
    decay_steps=c.train.decay_steps,
    final_share=c.train.final_share,
  )
  numbers = {name: c.train[name] for name in ('b1', 'b2', 'weight_decay', 'max_norm', 'moments')}
  if c.train.optimizer == 'muon':
    return optimizer.muon(rate, matrices=parameters.matrices(described), **numbers)
  return optimizer.adamw(rate, decay_mask=parameters.decay_mask(described), **numbers)


class Trainer:
  """A training loop that can be stopped at any step: iterate over it, and `record` each step.

  `record` writes a line to metrics.jsonl and moves the progress bar. It saves a checkpoint, which
  holds `extra` besides the state, every `checkpoint.every` steps or `checkpoint.minutes`, when the
  run is asked to stop, and at the end. Several processes stop and save at the same step.
  """

  def __init__(self, c, opened: run.Run, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh):
    self._c, self._folder = c, opened.folder
    self._checkpoints = checkpoint.Checkpoints(
      opened.folder,
      keep=c.checkpoint.keep,
      keep_best=c.checkpoint.keep_best if c.checkpoint.best else 0,
    )
    lora = adapters.of(c)
    self.frozen = frozen_params(c, opened.folder, config, mesh)  # last arguments of programs
    rule = update_rule(c, config, lora=lora)
    self.extra: dict[str, Any] = {'step': 0}  # 'step' is the next to be recorded
    if self._checkpoints.latest() is None:
      first = adapters.initial if self.frozen else initial_params
      params = first(c, config, mesh, *self.frozen)
      self.state = begin_from(c, config, rule, mesh, params, lora=lora)
    else:
      wanted = placement.state(config, rule, mesh, offload=c.train.offload, lora=lora)
      self.state, self.extra = self._checkpoints.restore(wanted)
    start, self._writer = self.extra['step'], None
    self._tokenizer = inputs.digest(opened.folder / 'tokenizer')
    if self.extra.get('tokenizer', self._tokenizer) != self._tokenizer:
      raise ValueError(
        f'{opened.folder / "tokenizer"}: is another one than the checkpoint of step {start} '
        'was trained with; put that back, or give this run another `name`'
      )
    if jax.process_index() == 0:
      make = functools.partial(sinks.make, start_step=start, config=c.to_dict())
      outlets = [make(name, opened.folder) for name in c.log.sinks]
      self._writer = metrics.Writer(opened.folder, start_step=start, sinks=outlets)
    self.late = self._writer.late if self._writer else lambda step, values: None  # to sinks
    self._bar = terminal.Progress(
      c.train.num_steps, start=start, label=setup.run_name(c), quiet=not self._writer
    )
    self._watchdog = watchdog.Watchdog(c.debug.watchdog)
    self._began = self._lapped = self._saved = time.monotonic()  # last `record`, `lap`, save
    self._best: float | None = None  # the metric `checkpoint.best` of the last step, if it has it
    self._faults: list[tuple[int, str]] = []  # (step, reason) of consecutive skipped steps
    self.closing = contextlib.ExitStack()  # what ends with the loop
    self._is_between = False  # two updates: `state` is the last one's, and may be saved
    self.laps: dict[str, float] = {}

  def __iter__(self) -> Iterator[int]:
    """Yields the steps that are left."""
    with self.closing as stack:
      stack.enter_context(contextlib.closing(self._checkpoints))
      for opened in (self._writer, self._bar, self._watchdog, interrupts.kept()):
        stack.enter_context(opened or contextlib.nullcontext())
      for step in range(self.extra['step'], self._c.train.num_steps):
        self._watchdog.reset()
        with self._profiled(step):
          try:
            yield step
          except GeneratorExit:  # no further step is wanted, or an error ended this one
            if self._is_between and jax.process_count() == 1:
              self._save()
            raise

  def update(self, fn: Callable, state, *batch) -> tuple[Any, dict[str, Any]]:
    """Returns `fn(state, *batch)`, one optimiser step: the state, and its metrics on the host.

    If a metric is NaN or infinite, `fn` has returned the state unchanged: state and batch are
    written to `faults/`, once for consecutive faults, so that the step can be run again.
    """
    hosts.check_same(f'the batch of step {self.extra["step"]}', batch)
    self._is_between = False
    state, values = fn(state, *batch)
    values = jax.device_get(values)
    if not all(np.isfinite(value).all() for value in values.values()):
      self._note_fault(state, batch, values)
    return state, values

  def lap(self, name: str) -> None:
    """Adds the time since the last call to `laps['seconds/NAME']`, which `record` writes."""
    now = time.monotonic()
    self.laps[f'seconds/{name}'] = self.laps.get(f'seconds/{name}', 0.0) + now - self._lapped
    self._lapped = now
    self._watchdog.reset()

  def stop_if_asked(self) -> None:
    """Saves and leaves if the run was asked to stop; for use in a step before its first update."""
    if self._agree()[0]:
      self._save()
      self._leave()

  def stop(self, why: str) -> None:
    """Saves and raises RuntimeError: the same command would not go on. Before a step's update."""
    self._save()
    raise RuntimeError(f'{self._close()}: {why}')

  def record(
    self, step: int, state, values: dict[str, float], *, show: Sequence[str], extra=None
  ) -> dict[str, float]:
    """Records a finished step, and returns the record. `show` names metrics on the progress bar.

    A stage yields it to its caller, who may ask for no further step: then this one is saved. Raises
    `interrupts.Stopped` if the run was asked to stop, and RuntimeError if more than
    `debug.max_skipped` steps in a row were not finite.
    """
    now = time.monotonic()
    values = {n: float(v) for n, v in values.items()} | self.laps | {'seconds': now - self._began}
    if self._writer:
      self._writer.write(step, values)
    self._began, self.laps = now, {}
    self._bar.update(step + 1, **{n.split('/')[-1]: values[n] for n in show if n in values})
    self._watchdog.reset()
    self._best = values.get(self._c.checkpoint.best)
    self.state = state
    self.extra = {'step': step + 1, 'tokenizer': self._tokenizer, **(extra or {})}
    self._check_faults(step)
    self._checkpoints.check()
    stopping, due = self._agree()
    due |= (step + 1) % self._c.checkpoint.every == 0 or step + 1 == self._c.train.num_steps
    # What is measured in a few steps alone says nothing of the others.
    due |= self._best is not None and self._c.checkpoint.best.startswith(('eval/', 'heldout'))
    if due or stopping:
      self._save()
    if stopping:
      self._leave()
    self._watchdog.pause()  # what the caller does before it asks for another step
    self._lapped, self._is_between = time.monotonic(), not self._faults
    return {'step': step, **values}

  def _agree(self) -> tuple[bool, bool]:
    """Returns (a process was asked to stop, `checkpoint.minutes` have passed on process 0)."""
    minutes = (time.monotonic() - self._saved) / 60
    due = bool(self._c.checkpoint.minutes) and minutes >= self._c.checkpoint.minutes
    votes = hosts.all_gather(np.array([interrupts.heard(), due]))
    return bool(votes[:, 0].any()), bool(votes[0, 1])

  def _save(self) -> None:
    latest, step = self._checkpoints.latest(), self.extra['step']
    if latest is not None and step <= latest:
      return
    if self._faults and step < self._c.train.num_steps:
      return  # while steps are skipped, it would replace an older, good checkpoint
    best = None
    if self._best is not None and np.isfinite(self._best):
      best = self._best * directions.of(self._c.checkpoint.best)
    if self._writer:
      self._writer.sync()
    self._checkpoints.save(step, self.state, self.extra, metric=best)
    self._saved = time.monotonic()

  def _leave(self) -> None:
    raise interrupts.Stopped(self._close())

  def _close(self) -> str:
    """Closes what `__iter__` has opened: the caller will not resume it. Returns how far it is."""
    self._checkpoints.wait()
    self.closing.close()
    # It may be older than this step: nothing is saved while steps are skipped.
    step, of = self._checkpoints.latest() or 0, self._c.train.num_steps
    return f'{setup.run_name(self._c)}: stopped and saved at step {step} of {of}'

  def _note_fault(self, state, batch, values) -> None:
    step, what = self.extra['step'], ', '.join(faulty_step.not_finite(batch, values))
    if not self._faults:
      name = f'step-{step:06d}-{int(state.step)}'
      target = faulty_step.write(self._folder, name, state, batch, values)
      what += f'; to run it again: --config.debug.replay={target}'
      if self._writer:
        logging.warning('step %d is skipped, not finite: %s', step, what)
    if not self._faults or self._faults[-1][0] != step:
      self._faults.append((step, what))

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
    target = self._folder / 'profile'
    with jax.profiler.trace(str(target)):
      yield
    jax.profiler.save_device_memory_profile(str(target / f'memory-{step}.prof'))
