"""Starts the processes of a run on this machine, passes signals on, and starts all of them again.

Ends with 0 where the run is done, 75 where it was stopped by SIGTERM or SIGINT (saved: the same
command goes on), 1 or 2 where it failed in a way that a restart would not mend, and else, after as
many starts as `--attempts` allows, with the status of the process that failed first.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

STOPPED = 75
FINAL = (0, 1, 2, STOPPED)
LOST = 76  # of a process that leaves since another one was lost
_RUNNING: dict[int, subprocess.Popen] = {}
_ASKED: list[int] = []  # signals that came


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def attempt(num: int, arguments: list[str]) -> int:
  """Runs all processes to their ends, names those that fail, returns the status of the first."""
  together = {}
  if num > 1:
    together = {
      'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{free_port()}',
      'JAX_NUM_PROCESSES': str(num),
    }
  for index in range(num):
    own = {'JAX_PROCESS_ID': str(index)} if num > 1 else {}
    _RUNNING[index] = subprocess.Popen(
      [sys.executable, '-m', 'lwz.launch', *arguments],
      env=os.environ | together | own,
      start_new_session=True,  # what the terminal sends comes here alone, and is passed on once
    )
  status = 0
  while _RUNNING:
    for index, process in list(_RUNNING.items()):
      code = process.poll()
      if code is None:
        continue
      code = 128 - code if code < 0 else code  # as a shell says it
      del _RUNNING[index]
      if code not in (0, STOPPED):
        print(f'process {index} of {num} ended with status {code}', file=sys.stderr, flush=True)
      if code and status in (0, LOST):
        status = code
    time.sleep(0.05)
  return status


def forward(number: int, frame) -> None:
  _ASKED.append(number)
  for process in list(_RUNNING.values()):
    process.send_signal(number)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--processes', type=int, default=1, help='how many (%(default)s)')
  parser.add_argument('--attempts', type=int, default=5, help='starts at most (%(default)s)')
  parser.add_argument('arguments', nargs='*', help='of python -m lwz.launch, after --')
  options = parser.parse_args()
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, forward)
  for n in range(1, options.attempts + 1):
    status = attempt(options.processes, options.arguments)
    if status in FINAL:
      break
    if _ASKED:  # it came before a process could hear it: nothing was there to save
      return STOPPED
    print(
      f'attempt {n} of {options.attempts} ended with status {status}', file=sys.stderr, flush=True
    )
  return status


if __name__ == '__main__':
  sys.exit(main())
