"""What the tests of faults have in common: runs that are hurt, and what is left of them."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import tensorstore as ts

from tests import jobs

# Figures of the machine, not of the run: how fast, how full. No two starts agree on them.
CLOCKS = re.compile(r'time$|.*second|memory/|.*/mfu$|rollout/|judge/')
PARTS = ('ids', 'logp', 'lengths', 'finished', 'scores', 'valid', 'policy')


def borrow(runs: pathlib.Path, source: pathlib.Path, *but: str) -> None:
  """Links all runs of `source` into `runs`, its compilation cache too, except those named."""
  for folder in source.iterdir():
    if folder.name not in but:
      (runs / folder.name).symlink_to(folder)


def cut_short(checkpoint: pathlib.Path) -> None:
  """Leaves half of every file that holds its arrays."""
  for file in checkpoint.rglob('*'):
    if file.is_file() and file.parent.name == 'd':
      os.truncate(file, file.stat().st_size // 2)


def num_lines(path: pathlib.Path) -> int:
  return path.read_text().count('\n') if path.exists() else 0


def wait_for(condition, process: subprocess.Popen, seconds: float = 300) -> None:
  """Returns when the condition holds, or the process has ended."""
  end = time.monotonic() + seconds
  while process.poll() is None and not condition():
    assert time.monotonic() < end, 'nothing happened'
    time.sleep(0.02)


def hurt(process: subprocess.Popen, number: int) -> str:
  """Sends a signal and returns what the process had printed when it was gone."""
  process.send_signal(number)
  return process.communicate(timeout=120)[0]


def kill_somewhere(
  experiment: str, runs: pathlib.Path, draw: random.Random, *arguments: str
) -> bool:
  """Starts a run and kills it at a drawn instant, or asks it to stop; whether it had not ended yet.

  The instant is a number of steps beyond where the run stands, and up to half a second on top: a
  write, a judgement, an update, a save. One in four is at the start, before a step is done.
  """
  written = runs / experiment.replace(':', '-') / 'metrics.jsonl'
  process = jobs.start(experiment, runs, *arguments)
  if draw.random() < 0.25:
    delay = draw.uniform(0, 10)
  else:
    before = num_lines(written)
    wait_for(lambda: num_lines(written) > before, process)
    delay = draw.uniform(0, 0.5)
  time.sleep(delay)
  alive = process.poll() is None
  hurt(process, draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
  return alive


def remains(folder: pathlib.Path) -> dict:
  """All that a finished run leaves but for the clocks, comparable bit for bit.

  Figures of every step, fingerprints of parameters and optimiser, samples, trajectories.
  """
  lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  last = max((folder / 'checkpoints').iterdir(), key=lambda path: int(path.name))
  found = {
    'figures': [{k: v for k, v in r.items() if not CLOCKS.match(k)} for r in lines],
    'state': json.loads((last / 'sums' / 'metadata').read_text()),
    'data': json.loads((last / 'extra' / 'metadata').read_text()),
    'samples': {p.name: p.read_text() for p in (folder / 'samples').glob('*')},
  }
  if (folder / 'rollouts').exists():
    parts = {name: archived(folder, name) for name in PARTS}
    written = np.arange(parts['ids'].shape[2]) < parts['lengths'][..., None]
    for name in ('ids', 'logp'):  # what lies beyond an end is padding of any value
      parts[name] = np.where(written, parts[name], 0)
    found['rollouts'] = {name: value.tobytes() for name, value in parts.items()}
  return found


def archived(folder: pathlib.Path, name: str) -> np.ndarray:
  spec = {'driver': 'zarr3', 'kvstore': f'file://{folder}/rollouts/{name}/'}
  return np.asarray(ts.open(spec).result().read().result())


def start_together(
  experiment: str, runs: pathlib.Path, *arguments: str, processes: int = 2, attempts: int = 1
) -> subprocess.Popen:
  """`launch/local.sh --processes N`, in a session of its own."""
  name, _, size = experiment.partition(':')
  return jobs.begin(
    *('launch/local.sh', '--processes', str(processes), '--attempts', str(attempts), '--'),
    f'--config=experiments/{name}.py:{size}',
    f'--config.runs_dir={runs}',
    *('--config.mesh.fsdp=-1', '--config.debug.heartbeat=10'),
    *arguments,
    PYTHON=sys.executable,
  )


def member(supervisor: subprocess.Popen, index: int) -> int:
  """The process id of one of the processes of `start_together`."""
  for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
    try:
      status = (path.parent / 'stat').read_text().rsplit(')', 1)[1].split()
      environ = path.read_bytes().split(b'\0')
    except (FileNotFoundError, ProcessLookupError, PermissionError):
      continue
    if int(status[1]) == supervisor.pid and f'JAX_PROCESS_ID={index}'.encode() in environ:
      return int(path.parent.name)
  raise AssertionError(f'no process {index}')
