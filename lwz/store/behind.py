"""Writing behind: files are written by a thread, in order, while the devices and the loop go on."""

import atexit
import collections
import concurrent.futures
import queue
import threading
from collections.abc import Callable

PATIENCE = 600.0  # seconds that `close` gives each write; a bucket may take minutes


class Writer:
  """A thread that writes. What it was given is written before the interpreter ends, see `close`.

  An error of a write is raised by `flush` and `close`, and by nothing else.
  """

  def __init__(self) -> None:
    self._begun: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
    self._todo: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_write, args=[self._todo], name='writer', daemon=True).start()
    atexit.register(self.close)

  def submit(self, path: object, write: Callable[[], object]) -> None:
    """Has `write`, which writes to `path`, called after all that was submitted before."""
    while self._begun and self._begun[0][1].done() and not self._begun[0][1].exception():
      self._begun.popleft()
    future: concurrent.futures.Future = concurrent.futures.Future()
    self._begun.append((f'{path}', future))
    self._todo.put((future, write))

  def flush(self) -> None:
    """Returns when all is written."""
    while self._begun:
      self._begun.popleft()[1].result()

  def close(self) -> None:
    """`flush`, and the last call: raises TimeoutError if a write takes more than `PATIENCE`."""
    atexit.unregister(self.close)
    self._todo.put(None)
    for path, future in self._begun:
      if concurrent.futures.wait([future], PATIENCE).not_done:
        raise TimeoutError(f'{path}: not written within {PATIENCE:g} s; does its disk hang?')
    self.flush()


def _write(todo: queue.SimpleQueue) -> None:
  for future, write in iter(todo.get, None):
    try:
      future.set_result(write())
    except BaseException as error:
      future.set_exception(error)
    del future, write  # of what was written
