"""Runs as processes of this machine: each after those that it needs, a few at a time.

A job ends as `complete`, `failed`, `stopped` (as asked, it goes on at the next start) or `blocked`
(one that it needs did not become complete). None of them ends the others.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from etils import epath

from lwz.runtime import interrupts, refusal
from lwz.store import atomic, lock

_ANYWHERE: dict = {'cores': [], 'environment': {}}  # a place on all cores, and all GPUs
ENDED = ('complete', 'failed', 'stopped', 'blocked')


@dataclasses.dataclass
class Job:
  """A run and its command.

  `state` is waiting, running, elsewhere (another process writes the run: it is waited for), or one
  of `ENDED`; `said` is the reason of the latter.
  """

  name: str  # of the run
  command: Sequence[str]
  folder: epath.Path
  log: pathlib.Path
  needs: tuple[str, ...]  # names of jobs
  is_complete: Callable[[], bool]
  state: str = 'waiting'
  said: str = ''
  status: int = 0  # of the process, once it has ended; -n if signal n ended it

  def end(self, state: str, said: str = '') -> None:
    self.state, self.said = state, said


def run(
  jobs: Sequence[Job],
  *,
  parallel: int,
  pinned: bool = True,
  all_needed: bool = False,
  watch: Callable[[Sequence[Job]], None],
  pause: float = 0.5,
) -> bool:
  """Runs the jobs, `parallel` at a time; returns when each has ended, and whether it was stopped.

  Those that are `pinned` divide the cores among them; others share all, where there is no GPU. If
  they are `all_needed`, one that fails stops the others. `watch` is called every `pause` seconds.
  SIGINT or SIGTERM stops the running jobs, which save; a second one is passed on, and they leave
  without; then all that is left is `stopped`. An error here stops them, too.

  Raises ValueError if there are fewer accelerators than jobs at a time.
  """
  places = list(_places(parallel)) if pinned else [_ANYWHERE] * parallel
  by_name = {job.name: job for job in jobs}
  started: dict[str, tuple[subprocess.Popen, dict]] = {}
  with _ended(started), _heard() as signals:
    passed = 0
    while not all(job.state in ENDED for job in jobs):
      for job in jobs:
        if job.name in started:
          process, place = started[job.name]
          if process.poll() is not None:
            del started[job.name]
            places.append(place)
            _conclude(job, process.returncode, signals)
            if job.state == 'failed' and all_needed:
              signals.append(signal.SIGTERM)
        elif job.state in ('waiting', 'elsewhere'):
          if signals:
            job.end('stopped', 'not started')
          elif _is_ready(job, [by_name[name] for name in job.needs]) and places:
            place = places.pop(0)
            started[job.name] = _start(job, place), place
            job.state = 'running'
      for number in signals[passed:]:
        _pass_on(number, [process for process, _ in started.values()])
      passed = len(signals)
      watch(jobs)
      if started or any(job.state == 'elsewhere' for job in jobs):
        time.sleep(pause)
  return bool(signals)


@contextlib.contextmanager
def _ended(started: Mapping) -> Iterator[None]:
  """Stops and waits for the processes that are left at the end, if there was an error.

  Outside of `_heard`: a signal ends this wait.
  """
  try:
    yield
  finally:
    left = [process for process, _ in started.values()]
    _pass_on(signal.SIGTERM, left)
    for process in left:
      process.wait()


def logs(runs_dir: epath.PathLike, name: str) -> pathlib.Path:
  """Returns a folder for what processes print, in `runs_dir` or, if that is a bucket, in runs."""
  return pathlib.Path('runs' if atomic.is_remote(runs_dir) else os.fspath(runs_dir), name)


def last_words(log: pathlib.Path) -> str:
  """Returns the last line of a log; of a refusal of several lines, all of them."""
  try:
    lines = [line.rstrip() for line in log.read_text(errors='replace').splitlines() if line.strip()]
  except OSError as error:
    return f'no log: {error.strerror}'
  began = [i for i, line in enumerate(lines[-12:]) if line.startswith('lwz: ')]
  return '\n'.join(lines[-12:][began[-1] :] if began else lines[-1:]) or 'an empty log'


def _is_ready(job: Job, needs: Sequence[Job]) -> bool:
  """Whether a job can start now; one that need not, or cannot, has ended."""
  if lost := [need.name for need in needs if need.state in ENDED and need.state != 'complete']:
    job.end('blocked', f'needs {", ".join(lost)}')
    return False
  if any(need.state != 'complete' for need in needs):
    return False
  if held := lock.holder(job.folder / 'LOCK'):
    job.state, job.said = 'elsewhere', held
    return False
  job.state, job.said = 'waiting', ''
  try:
    if job.is_complete():
      job.end('complete')
  except (OSError, ValueError) as error:
    job.end('failed', str(error))
  return job.state == 'waiting'


def _start(job: Job, place: Mapping) -> subprocess.Popen:
  job.log.parent.mkdir(parents=True, exist_ok=True)
  with open(job.log, 'ab') as log:
    process = subprocess.Popen(
      job.command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=os.environ | place['environment'],
      process_group=0,  # of its own: Ctrl-C reaches only us, and we pass it on
    )
  if place['cores']:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
      os.sched_setaffinity(process.pid, place['cores'])  # before it has threads, which inherit it
  return process


def _conclude(job: Job, status: int, signals: Collection[int]) -> None:
  said, job.status = last_words(job.log), status
  if status == 0 and job.is_complete():
    job.end('complete')
  elif status == interrupts.CODE or -status in signals:
    job.end('stopped', said)
  elif status == refusal.STATUS and lock.BUSY in said:  # another one was faster
    job.state, job.said = 'elsewhere', ''
  else:
    job.end('failed', said if status else f'ended without DONE: {said}')


def _places(parallel: int) -> Iterator[dict]:
  """Yields what each of `parallel` jobs at a time gets of this machine: GPUs, or else cores."""
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
  gpus = _gpus()
  if gpus and len(gpus) < parallel:
    raise ValueError(f'--parallel={parallel}: there are {len(gpus)} GPUs; choose at most as many')
  for i in range(parallel):
    if parallel == 1:
      yield _ANYWHERE
    elif gpus:
      visible = ','.join(_share(gpus, i, parallel))
      yield {'cores': [], 'environment': {'CUDA_VISIBLE_DEVICES': visible}}
    else:
      yield {'cores': _share(cores, i, parallel), 'environment': {}}


def _share(all_of_them: Sequence, i: int, parts: int) -> Sequence:
  return all_of_them[i * len(all_of_them) // parts : (i + 1) * len(all_of_them) // parts]


def _gpus() -> list[str]:
  if os.environ.get('JAX_PLATFORMS', '') == 'cpu':
    return []
  if (visible := os.environ.get('CUDA_VISIBLE_DEVICES')) is not None:
    return [name for name in visible.split(',') if name not in ('', '-1')]  # these hide all
  found = pathlib.Path('/dev').glob('nvidia*')
  return sorted((m[1] for path in found if (m := re.fullmatch(r'nvidia(\d+)', path.name))), key=int)


@contextlib.contextmanager
def _heard() -> Iterator[list[int]]:
  """Notes SIGINT and SIGTERM in the list that it gives."""
  signals: list[int] = []
  before = {
    number: signal.signal(number, lambda number, frame: signals.append(number))
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    yield signals
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _pass_on(number: int, processes: Sequence[subprocess.Popen]) -> None:
  for process in processes:
    process.send_signal(number)
