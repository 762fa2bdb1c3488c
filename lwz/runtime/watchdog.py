"""A thread that says where a run stands when it stands still."""

import faulthandler
import sys
import threading
import time
from typing import IO


class Watchdog:
  """Writes the last phase and the stack of every thread when nothing has moved for `seconds`.

      with watchdog.Watchdog(600) as dog:
        dog.moved('step 3, write')

  It only tells, and tells again after as long. With 0 seconds it never does.
  """

  def __init__(self, seconds: float, file: IO[str] | None = None):
    self._seconds, self._file = seconds, file
    self._stop, self._since, self._phase = threading.Event(), time.monotonic(), 'the start'
    self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

  def moved(self, phase: str) -> None:
    """Notes that `phase` is done."""
    self._since, self._phase = time.monotonic(), phase

  def __enter__(self) -> 'Watchdog':
    self._since = time.monotonic()
    if self._seconds:
      self._thread.start()
    return self

  def __exit__(self, *error) -> None:
    self._stop.set()
    if self._thread.is_alive():
      self._thread.join()

  def _watch(self) -> None:
    told = 0
    while not self._stop.wait(self._seconds / 10):
      still = time.monotonic() - self._since
      if still < self._seconds:
        told = 0
      elif still >= self._seconds * (told + 1):
        told += 1
        self._tell(still)

  def _tell(self, still: float) -> None:
    file = self._file or sys.stderr
    print(f'lwz: nothing has moved for {still:.0f} s, since {self._phase}; the stacks:', file=file)
    file.flush()
    faulthandler.dump_traceback(file, all_threads=True)
