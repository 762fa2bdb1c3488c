"""The user's command, run as a user runs it: in a process of its own."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent


def begin(*command: str, **environment: str) -> subprocess.Popen:
  """Begins a command in the repository; what it prints and its complaints are one stream."""
  return subprocess.Popen(
    command,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {'PYTHONUNBUFFERED': '1'} | environment,
  )


def start(experiment: str, runs: pathlib.Path, *arguments: str, record='') -> subprocess.Popen:
  """Begins `python -m lwz.launch --config=experiments/EXPERIMENT ...` with its runs in `runs`.

  With `record`, a file, the keys that are read are written there, see `tests.recorder`.
  """
  name, _, size = experiment.partition(':')
  return begin(
    *(sys.executable, '-m'),
    *(('tests.recorder', str(record)) if record else ('lwz.launch',)),
    f'--config=experiments/{name}.py:{size}',
    f'--config.runs_dir={runs}',
    *arguments,
  )


def launch(
  experiment: str, runs: pathlib.Path, *arguments: str, fails: bool = False, record=''
) -> str:
  """Runs the command to its end and returns what it printed; its exit status is checked.

  What `fails` is refused: status 2, and no stack.
  """
  process = start(experiment, runs, *arguments, record=record)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == (2 if fails else 0), output
  assert not fails or 'Traceback' not in output, output
  return output


def wait_for(condition, seconds: float = 20) -> None:
  """Returns when the condition holds."""
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'nothing happened'
    time.sleep(0.005)
