"""One writer to a run: a file that names the owner, and beats for as long as the owner lives."""

import atexit
import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from lwz.store import atomic


class Lock:
  """A held lock. It ends with `release()`, with the process, or when another takes it over."""

  def __init__(self, path: epath.Path, owner: dict[str, Any], beat: float):
    self._path, self._owner, self._beat = path, owner, beat
    self._stop, self._lost = threading.Event(), False
    self._thread = threading.Thread(target=self._keep, name=f'lock of {path}', daemon=True)
    self._thread.start()
    atexit.register(self.release)

  def check(self) -> None:
    """Raises RuntimeError where the lock was lost: another process writes the run now."""
    if self._lost:
      raise RuntimeError(f'{self._path}: another process has taken over this run; stop one of them')

  def release(self) -> None:
    """Deletes the file, if it is still this lock's. A second call does nothing."""
    atexit.unregister(self.release)
    if self._stop.is_set() or os.getpid() != self._owner['pid']:  # a fork inherits no lock
      return
    self._stop.set()
    self._thread.join()
    with _alone(self._path.parent):
      if _read(self._path).get('token') == self._owner['token']:
        self._path.unlink(missing_ok=True)

  def _keep(self) -> None:
    while not self._stop.wait(self._beat):
      with contextlib.suppress(OSError), _alone(self._path.parent):  # a store may be away a moment
        if _read(self._path).get('token') != self._owner['token']:
          self._lost = True
          return
        self._owner['beat'] += 1
        atomic.write_text(self._path, json.dumps(self._owner))


def acquire(path: epath.PathLike, *, beat: float = 10.0, patience: float = 60.0) -> Lock:
  """Takes the lock file `path`, at once or never.

  A lock whose process is dead on this host is taken over at once. Any other (another host, a
  process id that was given out again, a zombie) is watched: its owner writes it every `beat`
  seconds, so one that stands still for `patience` seconds is dead and taken over too, without
  comparing the clocks of two machines. A process that opens its own lock again keeps the new one.

  On a local disk no two processes succeed together. A bucket has no such promise: there the loser
  of a tie finds out within a beat, and `Lock.check` raises.

  Raises RuntimeError, naming process and host, where the owner lives.
  """
  path = epath.Path(path)
  owner = {'host': socket.gethostname(), 'pid': os.getpid(), 'token': uuid.uuid4().hex, 'beat': 0}
  seen = _read(path)
  while True:
    if seen and not _is_stale(path, seen, patience):
      raise RuntimeError(
        f'{path}: process {seen.get("pid")} on {seen.get("host")} is writing this run; wait for '
        'it, stop it, or give this one another `name`'
      )
    with _alone(path.parent):
      now = _read(path)
      if now == seen:
        atomic.write_text(path, json.dumps(owner))
        return Lock(path, owner, beat)
    seen = now


def _is_stale(path: epath.Path, seen: dict[str, Any], patience: float) -> bool:
  here, pid = seen.get('host') == socket.gethostname(), seen.get('pid', 0)
  if here and (pid == os.getpid() or not _is_alive(pid)):
    return True
  end = time.monotonic() + patience
  while time.monotonic() < end:
    time.sleep(min(0.5, patience / 10))
    now = _read(path)
    if now != seen:
      return not now  # released, or beating
  return True


def _is_alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


def _read(path: epath.Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, json.JSONDecodeError):
    return {}


@contextlib.contextmanager
def _alone(folder: epath.Path) -> Iterator[None]:
  """Nobody else on this disk is between its look at the lock file and its write to it."""
  if atomic.is_remote(folder):
    yield
    return
  handle = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # some network disks have no flock
      fcntl.flock(handle, fcntl.LOCK_EX)
    yield
  finally:
    os.close(handle)
