"""SIGTERM and SIGINT: a run saves at its next step and leaves, so that it can go on later.

Preemption comes as SIGTERM (SLURM's --signal, Kubernetes, TPU maintenance), Ctrl-C as SIGINT. In a
training loop the signal is kept until the step is done; elsewhere there is nothing to save, and the
process leaves at once. A second signal ends it without saving.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator

import jax

CODE = 75  # exit status (EX_TEMPFAIL): stopped as asked; the same command goes on

_HEARD: list[int] = []
_LOOPS: list[None] = []  # as many as training loops are running: at most one


class Stopped(SystemExit):
  """Leaves the process with status 75; the message says how far the run is."""

  def __init__(self, message: str):
    super().__init__(CODE)
    self.message = message


def listen() -> None:
  """Takes over both signals; call once, from the main thread, after `distributed.start`."""
  # Asked now: a signal may fall into the start of JAX's devices, whose lock it would wait for.
  several = jax.distributed.is_initialized() and jax.process_count() > 1
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, functools.partial(_hear, several))
  others = sys.unraisablehook

  def hook(lost) -> None:
    if not isinstance(lost.exc_value, Stopped):
      return others(lost)
    # Raised inside a finalizer or a callback of the collector, where Python drops it: once more.
    stopped = Stopped(lost.exc_value.message)
    signal.signal(signal.SIGALRM, lambda number, frame: _leave(stopped))
    signal.setitimer(signal.ITIMER_REAL, 0.01)

  sys.unraisablehook = hook


@contextlib.contextmanager
def noted() -> Iterator[None]:
  """Inside, the first SIGINT in a training loop has the run saved; others are KeyboardInterrupts.

  For a program whose signals are its own, such as a notebook's: they are given back at the end. One
  that came too late for the loop to ask, as beside the save of a step, is raised there.
  """
  if threading.current_thread() is not threading.main_thread():  # which alone hears signals
    yield
    return
  before = signal.getsignal(signal.SIGINT)

  def note(number, frame) -> None:
    signal.signal(number, signal.default_int_handler)
    if not _LOOPS:
      signal.default_int_handler(number, frame)
    _HEARD.append(number)

  signal.signal(signal.SIGINT, note)
  try:
    yield
    if _HEARD:
      raise KeyboardInterrupt
  finally:
    signal.signal(signal.SIGINT, before or signal.default_int_handler)
    _HEARD.clear()


def heard() -> bool:
  """Whether this process was asked to stop."""
  return bool(_HEARD)


@contextlib.contextmanager
def kept() -> Iterator[None]:
  """Inside, a signal is only noted: ask `heard`."""
  _LOOPS.append(None)
  try:
    yield
  finally:
    _LOOPS.pop()


def _leave(stopped: Stopped) -> None:
  if not _LOOPS:  # one that has begun meanwhile asks `heard`
    raise stopped


def _hear(several: bool, number: int, frame) -> None:
  _HEARD.append(number)
  signal.signal(number, signal.SIG_DFL)
  name = signal.Signals(number).name
  # Processes leave together, at a step: one that left by itself would look like one that died.
  if not _LOOPS and not several:
    raise Stopped(f'stopped by {name}')
  text = f'lwz: {name}: saving as soon as the step allows; once more to leave without\n'
  with contextlib.suppress(OSError):  # who reads it, as `tee`, may have heard the signal first
    os.write(2, text.encode())  # print is not safe inside a handler
