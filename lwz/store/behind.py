"""Writing behind: files are written by a thread, in order, while the devices and the loop go on."""

import collections
import concurrent.futures
from collections.abc import Callable


class Writer:
  """A thread that writes. What it was given is written before the interpreter ends.

  An error of a write is raised by `flush`, and by nothing else.
  """

  def __init__(self) -> None:
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'writer')
    self._begun: collections.deque[concurrent.futures.Future] = collections.deque()

  def submit(self, write: Callable[[], object]) -> None:
    """Has `write` called after all that was submitted before."""
    while self._begun and self._begun[0].done() and not self._begun[0].exception():
      self._begun.popleft()
    self._begun.append(self._pool.submit(write))

  def flush(self) -> None:
    """Returns when all is written."""
    while self._begun:
      self._begun.popleft().result()
