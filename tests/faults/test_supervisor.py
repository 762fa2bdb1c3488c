"""All processes start again when one is lost, and only then, and not for ever."""

import importlib.util
import signal
import subprocess
import sys

import pytest

from tests import jobs

KILLED = 128 + signal.SIGKILL
# What each start of each process does, by its index: an exit status, negative for a signal.
ACT = """
import os, pathlib, sys, time
index = int(os.environ.get('JAX_PROCESS_ID', 0))
starts = pathlib.Path(sys.argv[1]) / str(index)
n = len(starts.read_text()) if starts.exists() else 0
starts.write_text('x' * (n + 1))
code = eval(sys.argv[2])[n][index]
time.sleep(0 if code == 76 else 0.3)  # the loss may be noticed before it is seen
os.kill(os.getpid(), -code) if code < 0 else os._exit(code)
"""


@pytest.fixture
def supervise(monkeypatch, tmp_path):
  spec = importlib.util.spec_from_file_location('supervisor', jobs.ROOT / 'launch/supervisor.py')
  supervisor = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(supervisor)
  started = subprocess.Popen

  def act(command, **options):
    return started([sys.executable, '-S', '-c', ACT, str(tmp_path), command[-1]], **options)

  handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
  monkeypatch.setattr(supervisor.subprocess, 'Popen', act)

  def run(codes, *options):
    arguments = ['--processes', str(len(codes[0])), *options, '--', repr(codes)]
    monkeypatch.setattr(sys, 'argv', ['supervisor.py', *arguments])
    status = supervisor.main()
    return status, len((tmp_path / '0').read_text())

  yield run
  for number, handler in handlers.items():
    signal.signal(number, handler)


@pytest.mark.parametrize(
  ('codes', 'wanted'),
  [
    ([(0,)], (0, 1)),
    ([(0, 0)], (0, 1)),
    ([(1, 1)], (1, 1)),
    ([(75, 75)], (75, 1)),
    ([(76, -signal.SIGKILL), (0, 0)], (0, 2)),
    ([(-signal.SIGKILL, 134), (76, 134), (0, 0)], (0, 3)),
    ([(76, -signal.SIGKILL)] * 3, (KILLED, 3)),
    ([(76, 1)], (1, 1)),
  ],
)
def test_a_loss_starts_all_again_and_an_error_does_not(codes, wanted, supervise):
  assert supervise(codes, '--attempts', '3') == wanted


def test_who_failed_is_named(supervise, capfd):
  supervise([(0, -signal.SIGKILL), (0, 0)])
  said = capfd.readouterr().err
  assert f'process 1 of 2 ended with status {KILLED}' in said
  assert f'attempt 1 of 5 ended with status {KILLED}' in said
