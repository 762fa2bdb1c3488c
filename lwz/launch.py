"""The door of the command line.

    python -m lwz.launch --config=experiments/grpo_think.py[:SIZE] [--config.key=value ...]

Parses the config, starts the devices, and runs what the experiment needs and then its stage. How it
ends is its exit status: see `lwz.runtime.distributed`.
"""

import contextlib
import os
import pathlib
import select
import shlex
import signal
import sys
from typing import NoReturn

if __name__ == '__main__':  # nothing is to be saved before `interrupts` listens
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: os._exit(75))
import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lwz import door
from lwz.runtime import command_line, compilation, distributed, interrupts, refusal, sizing


def main(argv) -> None:
  c = flags.FLAGS.config
  compilation.prepare(c)
  try:
    distributed.start(c.debug.heartbeat)
  except ValueError as error:
    refuse(error)
  with distributed.guarded(c.debug.heartbeat):
    try:
      interrupts.listen()
      sizing.settle(c)
      door.Door(config_file().parent, processes=True).launch(c)
    except interrupts.Stopped as stopped:
      with contextlib.suppress(OSError):  # nobody may read it any more
        print(f'lwz: {stopped.message}; to go on:\n  {command()}', file=sys.stderr, flush=True)
      raise
    except BrokenPipeError:
      if not _is_closed(sys.stdout):
        raise
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit('lwz: nobody reads what is printed any more')
    except Exception as error:
      if jax.process_count() > 1:
        raise  # several processes leave together, by `guarded`
      refuse(error)


def refuse(error: Exception) -> NoReturn:
  """Ends the process with the sentence of a refusal; raises any other error again."""
  if not refusal.is_refusal(error):
    raise error
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


def command() -> str:
  """The command line that this process was started with."""
  return shlex.join([os.path.basename(sys.executable), '-m', 'lwz.launch', *sys.argv[1:]])


if __name__ == '__main__':
  # The config has locked itself but for the weights of rewards, which may be new ones.
  config_flags.DEFINE_config_file('config', lock_config=False, accept_new_attributes=True)
  flags.mark_flag_as_required('config')
  logging.set_verbosity(logging.WARNING)
  sys.path.insert(0, os.getcwd())
  app.run(main, flags_parser=command_line.parse)
