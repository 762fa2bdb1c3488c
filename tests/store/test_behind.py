"""Writes are done in order by a thread, and one that hangs holds up no end for ever."""

import subprocess
import sys
import threading
import time

import pytest

from lwz.store import behind
from tests import tree


def test_all_is_written_in_order_and_an_error_is_raised_once():
  done, writer = [], behind.Writer()
  for number in range(100):
    writer.submit('f', lambda number=number: done.append(number))
  writer.flush()
  assert done == [*range(100)]
  writer.submit('f', lambda: 1 // 0)
  writer.submit('f', lambda: done.append(100))
  with pytest.raises(ZeroDivisionError):
    writer.close()
  assert done == [*range(101)]  # what came behind it, too


def test_an_end_waits_for_a_slow_write_and_names_one_that_hangs(monkeypatch):
  done, hangs, writer = [], threading.Event(), behind.Writer()
  writer.submit('runs/a', lambda: (time.sleep(0.3), done.append('a')))
  writer.close()
  assert done == ['a']
  monkeypatch.setattr(behind, 'PATIENCE', 0.1)
  writer = behind.Writer()
  writer.submit('runs/b', hangs.wait)
  writer.submit('runs/c', lambda: None)
  with pytest.raises(TimeoutError, match=r'runs/b: not written within 0\.1 s'):
    writer.close()
  hangs.set()


def test_the_interpreter_ends_though_a_write_hangs():
  program = """
import threading
from lwz.store import behind
behind.PATIENCE = 0.2
behind.Writer().submit('runs/b', threading.Event().wait)
"""
  command = [sys.executable, '-c', program]
  ended = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, timeout=30)
  assert 'TimeoutError: runs/b: not written' in ended.stderr
