"""The door of many runs.

    python -m lwz.sweep --sweep=experiments/sweeps/NAME.py[:SIZE] [--list] [--only=1,3-5]
      [--parallel=2] [--runner=local|slurm|commands] [--config.key=value ...]

A sweep file has `get_hyper(h)`, see `lwz.runtime.hyper`, and either `get_config(size)`, as an
experiment has, or EXPERIMENT, the name of one. Each arm is an ordinary run, with the name of its
experiment and of every value that differs from it, started by `python -m lwz.launch` in a process
of its own; runs that arms need are run once, before them. Started again, a sweep goes on. Several
at a time divide the GPUs or the cores; on fewer cores a run rounds otherwise, in the last bits.

Ends with 0 if every arm is complete, 1 if one failed, 75 if it was stopped, and 2 if refused.
"""

import argparse
import json
import os
import pathlib
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import rich.console
from absl import flags
from etils import epath
from ml_collections import config_flags

from lwz import door
from lwz.report import arms as arms_table
from lwz.runtime import (
  arms,
  cluster,
  command_line,
  hyper,
  interrupts,
  jobs,
  places,
  refusal,
  setup,
  sizing,
)
from lwz.store import atomic, status


class Arm(NamedTuple):
  """An arm: its number, the values that the sweep gives it, and its config."""

  number: int
  values: hyper.Arm
  config: Any


class Sweep:
  """The arms of a sweep file, and the runs that they need."""

  def __init__(self, path: pathlib.Path, size: str, arguments: Sequence[str]):
    """`arguments` are `--config.key=value`, which every arm gets."""
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such sweep; experiments/sweeps/ has some')
    self.path = path
    self._source = runpy.run_path(str(path), run_name=f'experiments.{path.stem}')
    self._arguments = list(arguments)
    beside = [
      folder for folder in (path.parent.parent, path.parent) if (folder / 'base.py').exists()
    ]
    self._experiments = beside[0] if beside else places.experiments()
    self._door = door.Door(self._experiments)
    if 'get_hyper' not in self._source or ('EXPERIMENT' in self._source) == (
      'get_config' in self._source
    ):
      raise ValueError(f'{path}: needs get_hyper(h), and one of get_config(size) and EXPERIMENT')
    given = self._source['get_hyper'](hyper)
    if not isinstance(given, list) or not all(isinstance(values, dict) for values in given):
      raise ValueError(
        f'{path}: get_hyper has to return a list of dicts, as h.sweep and h.product do'
      )
    self.arms: list[Arm] = []
    for number, values in enumerate(given, 1):
      self.arms.append(Arm(number, values, self._config(values, size)))
    if not self.arms:
      raise ValueError(f'{path}: get_hyper gives no arm')
    first: dict[str, int] = {}
    for arm in self.arms:
      name = setup.run_name(arm.config)
      if name in first:
        raise ValueError(f'{path}: arms {first[name]} and {arm.number} are the same run, {name}')
      first[name] = arm.number
    c = self.arms[0].config
    self.folder = epath.Path(c.runs_dir) / f'{path.stem}-{c.size}'

  def _config(self, values: hyper.Arm, size: str):
    """Returns the config of an arm, with its name."""
    values = dict(values)
    sizes = tuple(filter(None, [values.pop('size', size)]))
    given = command_line.overrides(['', *self._arguments])
    if twice := sorted(given.keys() & values.keys()):
      raise ValueError(f'--config.{twice[0]}: the sweep gives it a value; leave it out here')
    if 'name' in given or 'name' in values:
      raise ValueError('name: arms are named by what differs; leave it out')
    if 'get_config' in self._source:
      if 'experiment' in values:
        raise ValueError('experiment: leave get_config out to vary it')
      c = self._source['get_config'](*sizes)
    else:
      experiment = values.pop('experiment', self._source.get('EXPERIMENT'))
      c = self._experiment(experiment, *sizes)
    own = self._experiment(c.experiment, c.size)
    varied = [f'--config.{key}={arms.text(value)}' for key, value in values.items()]
    c = _parsed(c, [*varied, *self._arguments])
    own.base_model = c.base_model
    for config in (c, own):
      sizing.settle(config)
    c.name = arms.name(c, own, door.stage_of(c).reads, values)
    return c

  def _experiment(self, name: str, *sizes: str):
    path = self._experiments / f'{name}.py'
    if not path.exists():
      raise FileNotFoundError(f'{self.path}: there is no experiment {path}')
    return door.load(path, *sizes)

  def plan(self, numbers: Sequence[int]) -> list[jobs.Job]:
    """Returns the arms of these numbers, after the runs that they need.

    Raises ValueError where arms need two different runs that have one folder.
    """
    found: dict[str, Any] = {}
    for arm in self.arms:
      if arm.number in numbers:
        for config in (*self._needs(arm.config), arm.config):
          name = setup.run_name(config)
          if name in found:
            reads = door.stage_of(config).reads
            identity = setup.identity(config, reads)
            differing = identity.differences(found[name].to_dict(), config.to_dict())
            for key, (before, now) in differing.items():
              raise ValueError(
                f'{name} is needed with {key}={before} and with {key}={now} (arm {arm.number}): '
                f'make a sweep of each, with a runs_dir of its own'
              )
          found.setdefault(name, config)
    return [self._door.job(one, self._needs(one), self.logs) for one in found.values()]

  def _needs(self, c) -> list:
    return [] if self._door.is_complete(c) else door.needs(c, self._experiments)

  @property
  def logs(self) -> pathlib.Path:
    """The folder of what the processes print: on a local disk."""
    return jobs.logs(self.folder.parent, self.folder.name) / 'logs'

  def write(self) -> None:
    """Writes sweep.json: the names of the arms, for the report, and their commands."""
    found = [
      {
        'name': setup.run_name(arm.config),
        'values': arm.values,
        'command': shlex.join(['python', '-m', 'lwz.launch', *self._door.flags(arm.config)]),
      }
      for arm in self.arms
    ]
    self.folder.mkdir(parents=True, exist_ok=True)
    record = {'sweep': os.fspath(self.path), 'claim': arms.claim(self._source['__doc__'])}
    text = json.dumps(record | {'arms': found}, indent=2)
    atomic.write_text(self.folder / 'sweep.json', text + '\n')


def _parsed(c, arguments: Sequence[str]):
  """Returns the config with the `--config.key=value` of a command line."""
  values, argv = flags.FlagValues(), ['lwz.sweep', *arguments]
  try:
    how: dict[str, Any] = {'lock_config': False, 'accept_new_attributes': True}  # as lwz.launch
    config_flags.DEFINE_config_dict('config', c, flag_values=values, sys_argv=argv, **how)
    values(argv)
  except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:
    raise ValueError(command_line.explained(error)) from None
  return values['config'].value


def _numbers(text: str, largest: int) -> list[int]:
  """Returns the numbers of '1,3-5'."""
  numbers: set[int] = set()
  for part in text.split(','):
    found = re.fullmatch(r'\s*(\d+)(?:-(\d+))?\s*', part)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= low <= high <= largest:
      raise ValueError(f'--only={text}: give numbers from 1 to {largest}, as in 1,3-5')
    numbers |= set(range(low, high + 1))
  return sorted(numbers)


def _options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the `--config.key=value`."""
  parser = argparse.ArgumentParser(
    'python -m lwz.sweep', description='Runs the arms of a sweep.', allow_abbrev=False
  )
  parser.add_argument('--sweep', required=True, metavar='experiments/sweeps/NAME.py[:SIZE]')
  parser.add_argument('--list', action='store_true', help='print the arms and how far they are')
  parser.add_argument('--only', metavar='1,3-5', help='run these arms alone; default: all')
  parser.add_argument('--parallel', type=int, default=1, help='runs at a time; default: 1')
  parser.add_argument('--runner', choices=('local', 'slurm', 'commands'), default='local')
  parser.add_argument('--slurm', default='', metavar='key=value,...', help='as submitit names them')
  parser.add_argument(
    '--prefix',
    default='python -m lwz.launch',
    help='of printed commands; for a TPU VM: "launch/tpu_pod.sh NAME ZONE"',
  )
  options, rest = parser.parse_known_args(argv)
  for argument in rest:
    if not argument.startswith('--config.') or '=' not in argument:
      raise ValueError(f'unexpected argument {argument!r}: keys are set by --config.key=value')
  if options.parallel < 1:
    raise ValueError(f'--parallel={options.parallel}: choose at least 1')
  return options, rest


def main(argv: Sequence[str]) -> int:
  """Does what the command line says; returns the exit status."""
  options, rest = _options(argv)
  name, _, size = options.sweep.partition(':')
  sweep = Sweep(pathlib.Path(name), size, rest)
  every = len(sweep.arms)
  numbers = _numbers(options.only, every) if options.only else list(range(1, every + 1))
  todo = sweep.plan(numbers)
  own = {setup.run_name(arm.config): str(arm.number) for arm in sweep.arms}
  rows = arms.Rows(own, (*sweep.arms[0].config.report.metrics, 'loss', 'accuracy'))
  if options.list:
    for job in todo:
      found = status.read(job.folder).state
      job.state = 'complete' if job.is_complete() else 'waiting' if found == 'empty' else found
    console = rich.console.Console()
    wide = console if console.is_terminal else rich.console.Console(width=400)
    wide.print(arms_table.table(rows(todo)))
    return 0
  if options.runner == 'commands':
    for job in todo:
      print(shlex.join([*shlex.split(options.prefix), *job.command[3:]]))
    return 0
  missing = [job.name for job in todo if job.name not in own and not job.is_complete()]
  if missing and sweep.arms[0].config.needs_policy == 'stop':
    raise ValueError(
      f'{", ".join(missing)}: needed, and not there; --runner=commands prints the commands; to run '
      'them as parts of the sweep set --config.needs_policy=run'
    )
  sweep.write()
  if options.runner == 'slurm':
    cluster.submit(todo, sweep.logs.parent, options.slurm)
    return 0
  with arms_table.Live() as live:
    jobs.run(todo, parallel=options.parallel, watch=lambda current: live.update(rows(current)))
  return _close(sweep, todo)


def _close(sweep: Sweep, done: Sequence[jobs.Job]) -> int:
  """Prints how the sweep ended and the next command; returns the exit status."""
  states = [job.state for job in done]
  counts = [f'{states.count(state)} {state}' for state in jobs.ENDED if state in states]
  print(f'{sweep.folder.name}: {len(done)} runs: {", ".join(counts)}')
  for job in done:
    if job.state in ('failed', 'blocked'):
      print(f'{job.name}: {job.state}: {job.said}')
      if job.state == 'failed':
        print(f'  {job.log}')
  if 'stopped' in states:
    print(f'stopped; to go on:\n  {shlex.join(["python", "-m", "lwz.sweep", *sys.argv[1:]])}')
    return interrupts.CODE
  if {'failed', 'blocked'} & set(states):
    return 1
  runs_dir = os.fspath(sweep.folder.parent)
  where = f' {shlex.quote(f"--config.runs_dir={runs_dir}")}' if runs_dir != 'runs' else ''
  print(
    f'to compare the arms:\n  python -m lwz.launch --config=experiments/report.py{where}'
    f' --config.name=report-{sweep.path.stem} --config.report.runs="(\'{sweep.folder.name}\',)"'
  )
  return 0


if __name__ == '__main__':
  sys.path.insert(0, os.getcwd())
  jax.config.update('jax_platforms', 'cpu')  # the devices are for the runs
  try:
    sys.exit(main(sys.argv[1:]))
  except Exception as error:
    if not refusal.is_refusal(error):
      raise
    refusal.show(error)
    sys.exit(refusal.STATUS)
