"""Lock file of a run: names its only writer, which updates it as a heartbeat while it lives."""

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

from lwz import jsonl
from lwz.store import atomic

BUSY = 'is writing this run'  # stands in the error of `acquire`
PATIENCE = 60.0  # seconds without a beat after which an owner counts as dead
_HELD: dict[str, 'Lock'] = {}  # by path: those of this process


class Lock:
  """A lock that is held until `release()`, the end of the process, or a takeover by another.

  After a takeover this process writes nothing into the folder: `atomic.check` raises.
  """

  def __init__(self, path: epath.Path, owner: dict[str, Any], beat: float):
    self._path, self._owner, self._beat = path, owner, beat
    self._stop, self._lost = threading.Event(), False
    self._thread = threading.Thread(target=self._keep, name=f'lock of {path}', daemon=True)
    self._thread.start()
    atomic.guard(path.parent, self.check)
    _HELD[os.fspath(path)] = self
    atexit.register(self.release)

  def check(self) -> None:
    """Raises RuntimeError if another process has taken the lock over.

    The file is read, as a process that was stopped (SIGSTOP, a suspended machine) may be asked
    before its heartbeat has noticed.
    """
    now = self._owner
    if self._stop.is_set() and not self._lost:  # released
      return
    with contextlib.suppress(OSError):  # storage may fail for a moment
      now = _read(self._path)
    if self._lost or now.get('token') != self._owner['token']:
      self._lost = True  # no beat writes the file any more
      raise RuntimeError(
        f'{self._path}: another start has taken this run over while this one stood still; this '
        'one leaves it alone'
      )

  def release(self) -> None:
    """Deletes the file if it still belongs to this lock. A second call does nothing."""
    atexit.unregister(self.release)
    if _HELD.get(os.fspath(self._path)) is self:
      del _HELD[os.fspath(self._path)]
    if self._stop.is_set() or os.getpid() != self._owner['pid']:  # a fork inherits no lock
      return
    self._stop.set()
    self._thread.join()
    atomic.unguard(self._path.parent, self.check)
    with _exclusive(self._path.parent):
      if _read(self._path).get('token') == self._owner['token']:
        self._path.unlink(missing_ok=True)

  def _keep(self) -> None:
    while not self._stop.wait(self._beat):
      with (
        contextlib.suppress(OSError),
        _exclusive(self._path.parent),
      ):  # storage may fail for a moment
        if self._lost or _read(self._path).get('token') != self._owner['token']:
          self._lost = True
          return
        self._owner['beat'] += 1
        atomic.write_text(self._path, json.dumps(self._owner))


def acquire(path: epath.PathLike, *, beat: float = 10.0, patience: float = PATIENCE) -> Lock:
  """Acquires the lock file `path`; never waits for a living owner to release it.

  A lock whose process is dead on this host is taken over at once. Any other (another host, a reused
  process id, a zombie) is observed: its owner writes it every `beat` seconds, so one that does not
  change for `patience` seconds is dead and taken over too, without comparing the clocks of two
  machines. A process that acquires its own lock again holds the new one.

  On a local disk no two processes succeed together. A bucket cannot guarantee that: there the loser
  of a race finds out within a beat, and `Lock.check` raises.

  Raises RuntimeError, naming process and host, if the owner lives.
  """
  path = epath.Path(path)
  owner = {'host': socket.gethostname(), 'pid': os.getpid(), 'token': uuid.uuid4().hex, 'beat': 0}
  seen = _read(path)
  while True:
    if seen and not _is_stale(path, seen, patience):
      raise RuntimeError(
        f'{path}: process {seen.get("pid")} on {seen.get("host")} {BUSY}; wait for '
        'it, stop it, or give this one another `name`'
      )
    with _exclusive(path.parent):
      now = _read(path)
      if now == seen:
        atomic.write_text(path, json.dumps(owner))
        return Lock(path, owner, beat)
    seen = now


def holder(path: epath.PathLike) -> str:
  """Returns 'process PID on HOST' of a lock whose owner seems to live, '' for none; never waits.

  An owner on another host lives if it wrote the file within `PATIENCE` of our clock.
  """
  path = epath.Path(path)
  seen = _read(path)
  if not seen:
    return ''
  if seen['host'] == socket.gethostname() and not _is_alive(seen['pid']):
    return ''
  try:
    beating = time.time() - path.stat().mtime < PATIENCE
  except FileNotFoundError:
    return ''
  return f'process {seen["pid"]} on {seen["host"]}' if beating else ''


def release(path: epath.PathLike) -> None:
  """Releases the lock that this process holds on the file, if it holds one."""
  if held := _HELD.get(os.fspath(path)):
    held.release()


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
  """The owner that the file names; {} without a file, or for one that no lock of ours wrote."""
  fields: jsonl.Fields = {
    'host': str,
    'pid': jsonl.Span(int, 1, 2**31 - 1),
    'token': str,
    'beat': int,
  }
  try:
    return jsonl.document(path, fields, remedy='delete it')
  except (FileNotFoundError, ValueError):
    return {}


@contextlib.contextmanager
def _exclusive(folder: epath.Path) -> Iterator[None]:
  """Excludes other processes on this disk between reading the lock file and writing it."""
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
