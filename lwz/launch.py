"""The only door.

    python -m lwz.launch --config=experiments/grpo_think.py[:SIZE] [--config.key=value ...]

Parses the config, starts the devices, and runs what the experiment needs and then its stage. How it
ends is its exit status: see `lwz.runtime.distributed`.
"""

import importlib
import os
import pathlib
import runpy
import select
import shlex
import sys
import time

os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')  # else: 'PyTorch was not found ...'
import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lwz.runtime import distributed, interrupts, setup

# What a needed run takes over from the run that needs it; everything else is its own experiment's.
INHERITED = (
  'runs_dir',
  'needs_policy',
  'data.folder',
  'data.tokenizer',
  'data.heldout',
  'data.lower',
  'data.upper',
  'data.template',
  'data.preferences',
  'data.skip_broken',
  'mesh.data',
  'mesh.fsdp',
  'mesh.tensor',
  'mesh.context',
  'log.tensorboard',
  'checkpoint.every',
  'checkpoint.minutes',
  'debug.heartbeat',
)

PATHS = (
  'runs_dir',
  'init',
  'reward.model',
  'data.folder',
  'data.tokenizer',
  'data.prompts',
  'data.preferences',
  'export.folder',
  'eval.file',
  'eval.annotations',
  'judge.cache',
  'debug.replay',
)

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
flags.mark_flag_as_required('config')


def needs(c, experiments: pathlib.Path) -> list:
  """Configs of the runs that `c` needs, in order, with those that these need before them."""
  found = []
  for key, value in _named(c):
    if not setup.is_experiment(value):
      continue  # a folder: there is nothing to run
    experiment, _, size = value.partition(':')
    path = experiments / f'{experiment}.py'
    if not path.exists():
      raise FileNotFoundError(f'{key}={value}: there is no experiment {path}')
    need = runpy.run_path(str(path))['get_config'](size)
    for name in INHERITED:
      _set(need, name, setup.get(c, name))
    found += [*needs(need, experiments), need]
  return list({setup.run_name(need): need for need in found}.values())


def _named(c) -> list[tuple[str, str]]:
  """(key, value) of all that `c.needs`; a key may hold one value or several."""
  values = [(key, setup.get(c, key)) for key in c.needs]
  return [(k, v) for k, held in values for v in (held if isinstance(held, tuple) else (held,))]


def _set(c, key: str, value) -> None:
  *parents, last = key.split('.')
  (setup.get(c, '.'.join(parents)) if parents else c)[last] = value


def _stage(c):
  return importlib.import_module(f'lwz.stages.{c.stage}')


def execute(c) -> None:
  """Runs one experiment's stage, unless it is complete."""
  name = setup.run_name(c)
  if setup.is_complete(c):
    print(f'{name}: complete, nothing to do; see {setup.run_folder(c) / "report.html"}')
    return
  began = time.monotonic()
  print(f'{name}: {c.stage}, size {c.size}')
  _stage(c).run(c)
  print(f'{name}: done in {time.monotonic() - began:.0f} s')


def launch(c, experiments: pathlib.Path) -> None:
  """Runs what `c` needs and then `c` itself."""
  print(
    f'lwz: {c.experiment} at size {c.size} on {jax.device_count()} '
    f'{jax.devices()[0].device_kind} device(s); another size: --config=...py:0.5b'
  )
  if c.debug.replay:
    return _stage(c).run(c)
  missing = [need for need in needs(c, experiments) if not setup.is_complete(need)]
  if missing and c.needs_policy == 'stop' and not setup.is_complete(c):
    commands = [
      f'  python -m lwz.launch --config={experiments}/{need.experiment}.py:{need.size}'
      for need in missing
    ]
    raise ValueError(
      f'{c.experiment}:{c.size} needs runs that are not there; run first\n'
      + '\n'.join(commands)
      + '\nor set --config.needs_policy=run, or point the key at a folder that exists'
    )
  todo = [] if setup.is_complete(c) else [*missing, c]
  for config in todo:
    distributed.check(config.stage)
    _stage(config).check(config)
    setup.check_identity(config)
  for config in todo or [c]:
    execute(config)


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}: keys are set by --config.key=value')
  c = _CONFIG.value
  for key in PATHS:
    _set(c, key, os.path.expanduser(setup.get(c, key)))  # --config.key=~/x: no shell expands it
  path = pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config']).split(':')[0])
  cache = os.path.join(c.runs_dir, '.compilation-cache')
  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  if c.rollout.exact:
    same_bits()
  distributed.start(c.debug.heartbeat)
  interrupts.listen()
  with distributed.guarded(c.debug.heartbeat):
    try:
      launch(c, path.parent)
    except interrupts.Stopped as stopped:
      print(f'lwz: {stopped.message}; to go on:\n  {command()}', file=sys.stderr)
      raise
    except BrokenPipeError:
      if not _is_closed(sys.stdout):
        raise
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit('lwz: nobody reads what is printed any more')


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
  """Parses flags; a config that does not fit is a message, not a stack of calls."""
  try:
    return app.parse_flags_with_usage(argv)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    message = str(error).strip('"').replace('\\n', '\n')
    sys.exit(f'lwz: {message}')


if __name__ == '__main__':
  logging.set_verbosity(logging.WARNING)
  sys.path.insert(0, os.getcwd())
  app.run(main, flags_parser=parse)
