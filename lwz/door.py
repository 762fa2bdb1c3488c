"""The common part of the doors: finds the runs that an experiment needs, and runs them.

door.Door(experiments).launch(c)

runs what the config `c` needs and is not there, and then `c` itself.
"""

import functools
import importlib
import inspect
import os
import pathlib
import pkgutil
import runpy
import shlex
import sys
import time
import types
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple

os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')  # else: 'PyTorch was not found ...'
import jax

from lwz import stages
from lwz.programs import program
from lwz.report import arms as arms_table
from lwz.rl import registry
from lwz.runtime import (
  arms,
  command_line,
  distributed,
  interrupts,
  jobs,
  keys,
  refusal,
  setup,
  sizing,
)
from lwz.store import lock, run

_NAMED = ('eval.systems', 'eval.scorers')  # keys whose values may be NAME=VALUE


class Stage(NamedTuple):
  """A stage as the door uses it: the keys that it reads, and its two functions of the config."""

  reads: tuple[str, ...]
  check: Callable
  run: Callable  # where it trains, a generator of the records of its steps


def stage_of(c, rewards: registry.Given = None) -> Stage:
  """Returns the stage of a config.

  What a config cannot hold is handed to it here: to preflight the stage that it looks at, and the
  functions that `reward.functions` names.
  """
  module = _stage('stage', c.stage)
  given: dict[str, Any] = {}
  if c.stage == 'preflight':
    given['stage'] = _stage('preflight.stage', c.preflight.stage)
  if c.reward.functions:
    if 'rewards' not in inspect.signature(module.run).parameters:
      raise ValueError(f'stage={c.stage} reads no rewards; give functions to a run of GRPO')
    given['rewards'] = rewards or {}
  return Stage(module.READS, *(functools.partial(fn, **given) for fn in (module.check, module.run)))


def _stage(key: str, name: str) -> types.ModuleType:
  if name not in (known := [module.name for module in pkgutil.iter_modules(stages.__path__)]):
    raise ValueError(f'{key}: there is no {name!r}; choose from {", ".join(known)}')
  return importlib.import_module(f'lwz.stages.{name}')


def needs(c, experiments: pathlib.Path) -> list:
  """Returns the configs of the runs that `c` needs, each after those that it needs itself."""
  found = []
  for key, value in references(c):
    if not setup.is_experiment(value):
      continue  # a folder or a model: there is nothing to run
    need = _config_of(key, value, experiments)
    if (kinds := keys.of(key).stages) and need.stage not in kinds:
      raise ValueError(f'{key}={value}: a run of {need.stage}; name one of {" or ".join(kinds)}')
    inherit(need, c)
    sizing.fill(need)
    own = setup.run_name(c)
    found += [*(needs(need, experiments) if setup.run_name(need) != own else []), need]
    if own in map(setup.run_name, found):
      raise ValueError(f'{key}={value}: the run needs itself; set another --config.name')
  return list({setup.run_name(need): need for need in found}.values())


def _config_of(key: str, value: str, experiments: pathlib.Path):
  """Returns the config of experiment:size, which a key names."""
  name, _, size = value.partition(':')
  path = experiments / f'{name}.py'
  if not path.exists():
    raise FileNotFoundError(f'{key}={value}: there is no experiment {path}')
  try:
    return load(path, size)
  except ValueError as error:
    raise ValueError(f'{key}={value}: {error}') from error


def load(path: pathlib.Path, *size: str):
  """Returns the config of an experiment file; it may import others of its folder."""
  sys.path.insert(0, str(path.resolve().parents[1]))
  try:
    return runpy.run_path(str(path))['get_config'](*size)
  finally:
    del sys.path[0]


def inherit(need, c) -> None:
  """Gives a needed run the values that it takes from the run `c` that needs it."""
  for key in keys.names(lambda key: key.inherited):
    keys.set_value(need, key, keys.get(c, key))
  need.seed += c.needs_seed
  if need.name and c.needs_seed:  # as `setup.run_name` does where it makes the name
    need.name += f'-s{c.needs_seed}'


def references(c) -> list[tuple[str, str]]:
  """Returns (key, value) of what `c.needs` names and the stage reads; a key may hold several."""
  names = keys.names(lambda key: key.holds == 'reference')
  for key in c.needs:
    if key not in names:
      raise ValueError(f'needs: {key!r} names no run; choose from {", ".join(names)}')
  return _values(c, c.needs, stage_of(c).reads)


def _values(c, names: Iterable[str], reads: Sequence[str]) -> list[tuple[str, str]]:
  """Returns (key, value) of references that a stage reads, without a NAME= before them."""
  values = [(k, keys.get(c, k)) for k in names if keys.is_under(k, reads)]
  every = [(k, v) for k, held in values for v in (held if isinstance(held, tuple) else (held,))]
  return [(k, keys.alias(v)[1] if k in _NAMED else v) for k, v in every]


def _named(c, need) -> list[str]:
  """Returns the arguments that a needed run of another seed takes."""
  if not c.needs_seed:
    return []
  return [f'--config.seed={need.seed}', f'--config.name={setup.run_name(need)}']


def _may_share(c) -> bool:
  """Whether needed runs may be processes: accelerators, and devices of a job, are not shared."""
  is_part = jax.distributed.is_initialized()
  return c.needs_parallel > 1 and jax.default_backend() == 'cpu' and not is_part


def _are_worth_processes(missing: Sequence) -> bool:
  """Whether there are several, or one that another process writes: a job waits for it."""
  return len(missing) > 1 or any(lock.holder(setup.run_folder(one) / 'LOCK') for one in missing)


class Door:
  """Runs experiments, and what they need, as the files in one folder define them.

  `rewards` are those that `reward.functions` of a config names. If it has `processes`, needed runs
  may be processes of their own, `needs_parallel` at a time.
  """

  def __init__(
    self, experiments: pathlib.Path, rewards: registry.Given = None, *, processes: bool = False
  ):
    self._experiments, self._rewards, self._processes = experiments, rewards, processes
    self._defaults = functools.cache(self._defaults_of)

  def launch(self, c) -> None:
    """Runs what `c` needs and then `c` itself."""
    for _ in self.steps(c):
      pass

  def steps(self, c) -> Generator[dict[str, Any]]:
    """Runs what `c` needs and then `c` itself, and yields the record of each of its steps."""
    print(
      f'lwz: {c.experiment} at size {setup.size_name(c, c.size)} on {jax.device_count()} '
      f'{jax.devices()[0].device_kind} device(s); another size: --config=...py:0.5b'
    )
    if c.debug.replay:
      if c.stage not in keys.TRAINING or not pathlib.Path(c.debug.replay, 'batch.npz').is_file():
        raise ValueError(f'debug.replay={c.debug.replay}: name a faults/step-... of this training')
      yield from self._stage(c).run(c)
      return
    if self.is_complete(c):
      if not setup.is_unchanged(c, stage_of(c).reads, self._defaults(c.size)):
        self._check(c)  # what may change must have a right value all the same
      folder = setup.run_folder(c)
      left = [name for name in ('report.html', 'DONE') if (folder / name).exists()]
      print(f'{setup.run_name(c)}: complete, nothing to do; see {folder / left[0]}')
      return
    missing = [need for need in needs(c, self._experiments) if not self.is_complete(need)]
    todo = [*missing, c]
    for config in todo:
      if config.stage in keys.RESUMABLE:  # else a run of another config counts as missing
        identity = setup.identity(config, stage_of(config).reads, self._defaults(config.size))
        run.check_identity(setup.run_folder(config), config.to_dict(), identity)
    if missing and c.needs_policy == 'stop':
      kept = [a for key, a in command_line.overrides(sys.argv).items() if keys.of(key).inherited]
      commands = [
        f'  python -m lwz.launch --config={self._experiments}/{need.experiment}.py:{need.size} '
        + shlex.join([*kept, *_named(c, need)])
        for need in missing
      ]
      raise ValueError(
        f'{c.experiment}:{c.size} needs runs that are not there; run first\n'
        + '\n'.join(commands)
        + '\nor set --config.needs_policy=run, or point the key at a folder that exists'
      )
    for config in todo:
      self._check(config)
    if self._processes and _may_share(c) and _are_worth_processes(missing):
      self._execute_together(missing, c)
    else:
      for need in missing:
        for _ in self._execute(need):
          pass
    yield from self._execute(c)

  def flags(self, c) -> list[str]:
    """Returns the arguments of `lwz.launch` that give exactly this config."""
    path = self._experiments / f'{c.experiment}.py'
    return [f'--config={path}:{c.size}', *arms.arguments(c, load(path, c.size))]

  def job(self, c, needed: Iterable, logs: pathlib.Path) -> jobs.Job:
    """Returns the run of `c` as a process, after those of the configs `needed`."""
    name = setup.run_name(c)
    return jobs.Job(
      name=name,
      command=[sys.executable, '-m', 'lwz.launch', *self.flags(c)],
      folder=setup.run_folder(c),
      log=logs / f'{name}.log',
      needs=tuple(setup.run_name(need) for need in needed),
      is_complete=lambda: self.is_complete(c),
    )

  def _execute_together(self, missing: Sequence, c) -> None:
    """Runs what is missing, several at a time, each once those that it needs are complete."""
    names = {setup.run_name(need) for need in missing}
    logs = jobs.logs(c.runs_dir, '.logs')
    todo = []
    for need in missing:
      found = needs(need, self._experiments)
      todo.append(self.job(need, [n for n in found if setup.run_name(n) in names], logs))
    rows = arms.Rows({}, ('loss', 'accuracy'))
    with arms_table.Live() as live:
      heard = jobs.run(
        todo,
        parallel=c.needs_parallel,
        pinned=False,
        all_needed=True,
        watch=lambda current: live.update(rows(current)),
      )
    for job in todo:
      if job.state == 'failed':
        said = f'{job.name}: {job.said.removeprefix("lwz: ")}\nits log is {job.log}'
        if job.status in (0, refusal.STATUS):
          raise ValueError(said)
        print(f'lwz: {said}', file=sys.stderr)  # a fault of ours, or a kill: as it ended, so do we
        sys.exit(job.status if job.status > 0 else 128 - job.status)
    if heard:
      left = [job.name for job in todo if job.state != 'complete']
      raise interrupts.Stopped(f'stopped; not complete: {", ".join(left) or setup.run_name(c)}')

  def _stage(self, c) -> Stage:
    return stage_of(c, self._rewards)

  def _execute(self, c) -> Generator[dict[str, Any]]:
    name, began = setup.run_name(c), time.monotonic()
    print(f'{name}: {c.stage}, size {setup.size_name(c, c.size)}')
    try:
      yield from self._stage(c).run(c) or ()
    finally:
      program.drop()
      lock.release(setup.run_folder(c) / 'LOCK')
    print(f'{name}: done in {time.monotonic() - began:.0f} s')

  def _check(self, c) -> None:
    distributed.check(c.stage)
    keys.check(c)
    stage = self._stage(c)
    names = keys.names(lambda key: key.holds == 'reference')
    for key, value in _values(c, names, stage.reads):
      if setup.is_experiment(value):
        _config_of(key, value, self._experiments)
    stage.check(c)

  def is_complete(self, c) -> bool:
    """Whether there is nothing left to run of `c`."""
    return setup.is_complete(c, stage_of(c).reads, self._defaults(c.size))

  def _defaults_of(self, size: str):
    """Returns the config of base.py, where there is one: what an older run counts new keys as."""
    path = self._experiments / 'base.py'
    return load(path, size) if path.exists() else None
