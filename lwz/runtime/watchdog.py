"""Stack traces of a run that stands still, by `faulthandler`."""

import faulthandler
from typing import IO


class Watchdog:
  """Writes the stack of every thread when `reset` was not called for `seconds`, and again after as
  long.

      with watchdog.Watchdog(600) as dog:
        dog.reset()

  It changes nothing in the run. With 0 seconds it never writes. Python has one such timer in a
  process, so one watchdog at a time is on guard. `pause` ends its guard until the next `reset`.
  """

  def __init__(self, seconds: float, file: IO[str] | None = None):
    self._seconds, self._file = seconds, file

  def reset(self) -> None:
    """Starts the time anew: the run has moved."""
    if self._seconds:
      faulthandler.dump_traceback_later(self._seconds, repeat=True, file=self._file or 2)

  def __enter__(self) -> 'Watchdog':
    self.reset()
    return self

  def __exit__(self, *error) -> None:
    self.pause()

  def pause(self) -> None:
    if self._seconds:
      faulthandler.cancel_dump_traceback_later()
