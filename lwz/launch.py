"""The only door.

    python -m lwz.launch --config=experiments/grpo_think.py[:SIZE] [--config.key=value ...]

Parses the config, starts the devices, and runs what the experiment needs and then its stage. How it
ends is its exit status: see `lwz.runtime.distributed`.
"""

import functools
import importlib
import os
import pathlib
import re
import runpy
import select
import shlex
import signal
import sys
import time
import types
from collections.abc import Callable
from typing import NamedTuple

if __name__ == '__main__':  # nothing is to be saved before `interrupts` listens
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: os._exit(75))
os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')  # else: 'PyTorch was not found ...'
import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lwz.runtime import distributed, interrupts, keys, refusal, setup

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
flags.mark_flag_as_required('config')


class Stage(NamedTuple):
  """A stage as the door uses it: the keys that it reads, and its two functions of the config."""

  reads: tuple[str, ...]
  check: Callable
  run: Callable


def stage_of(c) -> Stage:
  """Returns the stage of a config. Preflight looks at another stage, which is handed to it here."""
  module = _stage('stage', c.stage)
  if c.stage != 'preflight':
    return Stage(module.READS, module.check, module.run)
  other = _stage('preflight.stage', c.preflight.stage)
  functions = (functools.partial(fn, stage=other) for fn in (module.check, module.run))
  return Stage(module.READS, *functions)


def _stage(key: str, name: str) -> types.ModuleType:
  try:
    return importlib.import_module(f'lwz.stages.{name}')
  except ModuleNotFoundError as error:
    if error.name != f'lwz.stages.{name}':
      raise
    raise ValueError(f'{key}: there is no {name!r}; start from a file of experiments/') from None


def needs(c, experiments: pathlib.Path) -> list:
  """Returns the configs of the runs that `c` needs, each after those that it needs itself."""
  found = []
  for key, value in references(c):
    if not setup.is_experiment(value):
      continue  # a folder or a model: there is nothing to run
    experiment, _, size = value.partition(':')
    path = experiments / f'{experiment}.py'
    if not path.exists():
      raise FileNotFoundError(f'{key}={value}: there is no experiment {path}')
    need = runpy.run_path(str(path))['get_config'](size)
    inherit(need, c)
    found += [*needs(need, experiments), need]
  return list({setup.run_name(need): need for need in found}.values())


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
  values = [(k, keys.get(c, k)) for k in c.needs if keys.is_under(k, stage_of(c).reads)]
  every = [(k, v) for k, held in values for v in (held if isinstance(held, tuple) else (held,))]
  return [(k, keys.alias(v)[1] if k == 'eval.systems' else v) for k, v in every]


def _named(c, need) -> list[str]:
  """Returns the arguments that a needed run of another seed takes."""
  if not c.needs_seed:
    return []
  return [f'--config.seed={need.seed}', f'--config.name={setup.run_name(need)}']


class Door:
  """Runs experiments, and what they need, as the files in one folder define them."""

  def __init__(self, experiments: pathlib.Path):
    self._experiments = experiments
    self._defaults = functools.cache(self._defaults_of)

  def launch(self, c) -> None:
    """Runs what `c` needs and then `c` itself."""
    print(
      f'lwz: {c.experiment} at size {c.size} on {jax.device_count()} '
      f'{jax.devices()[0].device_kind} device(s); another size: --config=...py:0.5b'
    )
    if c.debug.replay:
      return stage_of(c).run(c)
    if self.is_complete(c):
      if not setup.is_unchanged(c, stage_of(c).reads, self._defaults(c.size)):
        self._check(c)  # what may change must have a right value all the same
      folder = setup.run_folder(c)
      left = [name for name in ('report.html', 'DONE') if (folder / name).exists()]
      print(f'{setup.run_name(c)}: complete, nothing to do; see {folder / left[0]}')
      return
    missing = [need for need in needs(c, self._experiments) if not self.is_complete(need)]
    for config in (*missing, c):
      self._check_identity(config)  # else a run of another config counts as missing
    if missing and c.needs_policy == 'stop':
      kept = [a for key, a in overrides(sys.argv).items() if keys.of(key).inherited]
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
    todo = [*missing, c]
    for config in todo:
      self._check(config)
    for config in todo:
      name, began = setup.run_name(config), time.monotonic()
      print(f'{name}: {config.stage}, size {config.size}')
      stage_of(config).run(config)
      print(f'{name}: done in {time.monotonic() - began:.0f} s')

  def _check(self, c) -> None:
    distributed.check(c.stage)
    keys.check(c)
    stage_of(c).check(c)

  def _check_identity(self, c) -> None:
    if c.stage in keys.RESUMABLE:
      setup.check_identity(c, stage_of(c).reads, self._defaults(c.size))

  def is_complete(self, c) -> bool:
    """Whether there is nothing left to run of `c`."""
    return setup.is_complete(c, stage_of(c).reads, self._defaults(c.size))

  def _defaults_of(self, size: str):
    """Returns the config of base.py, where there is one: what an older run counts new keys as."""
    path = self._experiments / 'base.py'
    return runpy.run_path(str(path))['get_config'](size) if path.exists() else None


def main(argv) -> None:
  c = _CONFIG.value
  cache = os.path.join(os.path.expanduser(c.runs_dir), '.compilation-cache')
  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  if c.rollout.exact:
    same_bits()
  distributed.start(c.debug.heartbeat)
  interrupts.listen()
  with distributed.guarded(c.debug.heartbeat):
    try:
      keys.check(c)
      keys.expand_paths(c)
      Door(config_file().parent).launch(c)
    except interrupts.Stopped as stopped:
      print(f'lwz: {stopped.message}; to go on:\n  {command()}', file=sys.stderr)
      raise
    except BrokenPipeError:
      if not _is_closed(sys.stdout):
        raise
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit('lwz: nobody reads what is printed any more')
    except Exception as error:
      if jax.process_count() > 1 or not refusal.is_refusal(error):
        raise  # several processes leave together, by `guarded`
      refusal.show(error)
      sys.exit(refusal.STATUS)


def config_file() -> pathlib.Path:
  """Returns the file that --config names."""
  return pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config']).split(':')[0])


def _is_closed(pipe) -> bool:
  """Whether nobody reads from the other end, as after `| head`."""
  poll = select.poll()
  poll.register(pipe, 0)
  return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def same_bits() -> None:
  """Asks XLA for the same bits at every start, before it reads its flags.

  On a GPU: no atomic additions, and no autotuning, which may choose otherwise next time; slower.
  Elsewhere nothing changes.
  """
  given = os.environ.get('XLA_FLAGS', '')
  if '--xla_gpu_deterministic_ops' not in given:  # else the user has decided
    os.environ['XLA_FLAGS'] = f'{given} --xla_gpu_deterministic_ops=true'.strip()


def command() -> str:
  """The command line that this process was started with."""
  return shlex.join([os.path.basename(sys.executable), '-m', 'lwz.launch', *sys.argv[1:]])


def parse(argv):
  """Parses flags; a key or value that does not fit ends the process with a sentence."""
  try:
    for key in overrides(argv):
      if key in keys.RENAMED:
        raise ValueError(f'--config.{key} is called --config.{keys.RENAMED[key]} now')
    for argument in argv[1:]:
      name, _, value = argument.lstrip('-').partition('=')
      if name == 'config' and not os.path.exists(value.split(':')[0]):
        raise ValueError(f'{value}: no such config file; experiments/ has one per experiment')
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise ValueError(f'unexpected argument {rest[1]!r}: keys are set by --config.key=value')
    return rest
  except (AttributeError, KeyError, OSError, TypeError, ValueError, flags.Error) as error:
    refusal.show(ValueError(explained(error)))
  sys.exit(refusal.STATUS)


def explained(error: Exception) -> str:
  """Returns a sentence about a flag, or a config file, that ml_collections could not take."""
  if not isinstance(error, AttributeError | KeyError):
    # What the config file itself raises comes with its stack, as text.
    return re.split(r'\n(?:ValueError|TypeError): ', str(error))[-1].strip()
  message = re.sub(r'Other fields present: ".*?}"', '', str(error), flags=re.DOTALL)
  quoted = re.findall(r"""['"](\w+)['"]""", message.replace("\\'", "'"))
  name, *near = quoted or [message]
  near += [new for old, new in keys.RENAMED.items() if old.endswith(f'.{name}')]
  hint = f'Did you mean "{near[0]}"?' if near else 'experiments/base.py has every key.'
  return f'there is no key {name!r}. {hint}'


def overrides(argv) -> dict[str, str]:
  """Returns {dotted key: argument} of the `--config.key=value` of a command line."""
  given = [argument for argument in argv[1:] if argument.lstrip('-').startswith('config.')]
  return {a.lstrip('-').removeprefix('config.').partition('=')[0]: a for a in given}


if __name__ == '__main__':
  logging.set_verbosity(logging.WARNING)
  sys.path.insert(0, os.getcwd())
  app.run(main, flags_parser=parse)
