"""Runs as jobs of SLURM, by submitit: all at once, each after those that it needs."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from lwz.runtime import jobs as jobs_lib
from lwz.store import atomic

_ALIVE = ('PENDING', 'RUNNING', 'REQUEUED', 'SUSPENDED', 'CONFIGURING', 'COMPLETING', 'UNKNOWN')


class Command:
  """A command as submitit runs it; at the end of its time it saves, and queues again."""

  def __init__(self, command: Sequence[str]):
    self.command = list(command)
    self._process: subprocess.Popen | None = None

  def __call__(self) -> None:
    self._process = subprocess.Popen(self.command)
    if status := self._process.wait():
      raise RuntimeError(f'ended with status {status}')

  def checkpoint(self) -> Any:
    """Called by submitit when the time is up; returns what is put in the queue.

    In the handler of a signal, which interrupts `Popen.wait`: that holds a lock, on which a second
    one would wait for ever.
    """
    import submitit

    if self._process:
      self._process.send_signal(signal.SIGTERM)
      with contextlib.suppress(ChildProcessError):  # it has ended, and is no more
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
    return submitit.helpers.DelayedSubmission(Command(self.command))


def submit(jobs: Sequence[jobs_lib.Job], folder: epath.PathLike, parameters: str) -> None:
  """Puts the jobs into the queue that are neither complete nor in it, and prints their numbers.

  `parameters` are those of `submitit.AutoExecutor.update_parameters`, as in
  'slurm_partition=gpu,gpus_per_node=8,timeout_min=600'. A job whose need fails is removed.

  Raises ValueError where submitit or SLURM is not installed, or for a parameter without a value.
  """
  try:
    import submitit
  except ModuleNotFoundError:
    raise ValueError("--runner=slurm needs submitit: pip install -e '.[cluster]'") from None
  if not shutil.which('srun'):  # submitit would start all jobs here, whatever they wait for
    raise ValueError('--runner=slurm: there is no srun here; start it on a machine of the cluster')
  path = epath.Path(folder) / 'slurm.json'  # {name of the run: number of the job}
  numbers: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
  given = _parameters(parameters)
  for job in jobs:
    if job.is_complete():
      numbers.pop(job.name, None)
      print(f'{job.name}: complete')
      continue
    if job.name in numbers:
      state = submitit.SlurmJob(folder=epath.Path(folder) / 'slurm', job_id=numbers[job.name]).state
      if state.split()[0] in _ALIVE:
        print(f'{job.name}: job {numbers[job.name]}, {state}')
        continue
    after = [numbers[need] for need in job.needs if need in numbers]
    waits = {'dependency': f'afterok:{":".join(after)}', 'kill-on-invalid-dep': 'yes'}
    executor = submitit.AutoExecutor(folder=epath.Path(folder) / 'slurm')
    executor.update_parameters(
      name=job.name, **given, slurm_additional_parameters=waits if after else {}
    )
    numbers[job.name] = executor.submit(Command([sys.executable, *job.command[1:]])).job_id
    atomic.write_text(path, json.dumps(numbers, indent=2) + '\n')
    print(f'{job.name}: job {numbers[job.name]}' + (f', after {", ".join(after)}' if after else ''))


def _parameters(text: str) -> Mapping[str, Any]:
  """Returns the parameters of 'key=value,...'; whole numbers are numbers."""
  found: dict[str, Any] = {}
  for part in filter(None, text.split(',')):
    key, equal, value = part.partition('=')
    if not equal:
      raise ValueError(f'--slurm: {part!r} has no value; as in slurm_partition=gpu,timeout_min=600')
    found[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
  return found
