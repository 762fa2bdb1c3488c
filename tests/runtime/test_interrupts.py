"""Asked to stop, a process leaves at once, or when what it does is saved."""

import gc
import signal
import sys
import time

import pytest

from lwz.runtime import interrupts


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
  before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
  monkeypatch.setattr(interrupts, '_HEARD', [])
  monkeypatch.setattr(sys, 'unraisablehook', sys.unraisablehook)
  interrupts.listen()
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_outside_of_a_loop_it_leaves_at_once_with_75(number):
  with pytest.raises(interrupts.Stopped, match='75') as stopped:
    signal.raise_signal(number)
  assert stopped.value.code == 75 and number.name in stopped.value.message


def test_a_signal_that_falls_where_errors_are_dropped_is_heard_all_the_same():
  """Such as JAX's callback of the garbage collector, in which Python ignores what is raised."""
  fallen = []

  def collect(phase, info):
    if not fallen:
      fallen.append(phase)
      signal.raise_signal(signal.SIGINT)

  gc.callbacks.append(collect)
  try:
    with pytest.raises(interrupts.Stopped) as stopped:
      gc.collect()
      assert fallen
      time.sleep(5)
  finally:
    gc.callbacks.remove(collect)
  assert 'SIGINT' in stopped.value.message


def test_inside_a_loop_the_signal_is_kept_and_a_second_one_is_not(capfd):
  with interrupts.kept():
    assert not interrupts.heard()
    signal.raise_signal(signal.SIGTERM)
    assert interrupts.heard()
  assert 'SIGTERM: saving as soon as the step allows' in capfd.readouterr().err
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_is_kept_though_nobody_reads_what_is_said_of_it(monkeypatch):
  def broken(*given):
    raise BrokenPipeError

  monkeypatch.setattr(interrupts.os, 'write', broken)
  with interrupts.kept():
    signal.raise_signal(signal.SIGINT)
    assert interrupts.heard()


def test_a_signal_that_no_loop_asks_for_any_more_is_raised_at_the_end():
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt), interrupts.noted(), interrupts.kept():
    signal.raise_signal(signal.SIGINT)
  assert not interrupts.heard() and signal.getsignal(signal.SIGINT) == before


def test_a_signal_asks_nothing_of_jax_whose_devices_may_be_starting(monkeypatch):
  monkeypatch.setattr(interrupts.jax, 'process_count', lambda: pytest.fail('its lock is held'))
  with pytest.raises(interrupts.Stopped):
    signal.raise_signal(signal.SIGTERM)
