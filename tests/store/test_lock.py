"""One writer to a run, and no dead one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from lwz.store import atomic, lock
from tests import tree

OWN = """
import sys, time
from lwz.store import lock
held = lock.acquire(sys.argv[1], beat=0.05)
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
  """A process that holds the lock."""
  command = [sys.executable, '-c', OWN, str(tmp_path / 'LOCK')]
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == 'held\n'
  yield process
  process.kill()
  process.wait()
  process.stdout.close()


def write(path, **owner):
  path.write_text(json.dumps({'host': 'elsewhere', 'pid': 1, 'token': 't', 'beat': 0, **owner}))


def test_a_living_owner_is_named(tmp_path, other):
  with pytest.raises(RuntimeError, match=f'process {other.pid} on {socket.gethostname()}'):
    lock.acquire(tmp_path / 'LOCK', patience=5.0)


def test_a_killed_owner_blocks_nobody(tmp_path, other):
  other.send_signal(signal.SIGKILL)
  other.wait()
  begin = time.monotonic()
  held = lock.acquire(tmp_path / 'LOCK', patience=3.0)
  assert time.monotonic() - begin < 2.0
  assert json.loads((tmp_path / 'LOCK').read_text())['pid'] == os.getpid()
  held.release()


def test_a_process_id_that_was_given_out_again_blocks_nobody(tmp_path):
  write(tmp_path / 'LOCK', host=socket.gethostname(), pid=os.getppid())  # alive, but beats not
  lock.acquire(tmp_path / 'LOCK', patience=0.2).release()


def test_a_still_owner_on_another_host_is_taken_over_after_patience(tmp_path):
  write(tmp_path / 'LOCK')
  begin = time.monotonic()
  held = lock.acquire(tmp_path / 'LOCK', patience=0.3)
  assert time.monotonic() - begin >= 0.3
  held.release()


def test_a_beating_owner_on_another_host_is_not(tmp_path, monkeypatch):
  path = tmp_path / 'LOCK'
  write(path)
  sleep = time.sleep
  monkeypatch.setattr(lock.time, 'sleep', lambda s: (sleep(s), write(path, beat=1)))
  with pytest.raises(RuntimeError, match='process 1 on elsewhere'):
    lock.acquire(path, patience=0.3)


def test_an_owner_that_lets_go_meanwhile_is_followed(tmp_path, monkeypatch):
  path = tmp_path / 'LOCK'
  write(path)
  monkeypatch.setattr(lock.time, 'sleep', lambda s: path.unlink())
  lock.acquire(path, patience=5.0).release()


def test_of_two_who_find_a_dead_owner_one_succeeds(tmp_path, monkeypatch):
  path = tmp_path / 'LOCK'
  write(path)
  looks = []

  def is_stale(path, seen, patience):  # it was, but another process was faster
    looks.append(seen['token'])
    write(path, pid=2, token='u')
    return looks == ['t']

  monkeypatch.setattr(lock, '_is_stale', is_stale)
  with pytest.raises(RuntimeError, match='process 2 on elsewhere'):
    lock.acquire(path)
  assert looks == ['t', 'u']


def test_release_deletes_the_file_and_beating_changes_it(tmp_path):
  path = tmp_path / 'LOCK'
  held = lock.acquire(path, beat=0.01)
  begin = time.monotonic()
  while json.loads(path.read_text())['beat'] < 2 and time.monotonic() - begin < 5.0:
    time.sleep(0.01)
  assert json.loads(path.read_text())['beat'] >= 2
  held.release()
  held.release()
  assert not path.exists()


def test_a_lost_lock_says_so_and_leaves_the_new_owner_alone(tmp_path):
  path = tmp_path / 'LOCK'
  held = lock.acquire(path, beat=0.01)
  held.check()
  with lock._exclusive(tmp_path):
    write(path)
  held._thread.join(5.0)
  with pytest.raises(RuntimeError, match='taken this run over'):
    held.check()
  held.release()
  assert json.loads(path.read_text())['host'] == 'elsewhere'


def test_a_bucket_is_locked_too(bucket, monkeypatch):
  bucket.mkdir(parents=True)
  monkeypatch.setattr(lock.fcntl, 'flock', lambda *_: pytest.fail('a bucket has no flock'))
  held = lock.acquire(bucket / 'LOCK')
  assert (bucket / 'LOCK').exists()
  held.release()
  assert not (bucket / 'LOCK').exists()


STEPS = """
import sys, time
from lwz.store import lock, metrics
from etils import epath
folder = epath.Path(sys.argv[1])
held = lock.acquire(folder / 'LOCK', beat=float(sys.argv[2]))
with metrics.Writer(folder, start_step=0) as writer:
  for step in range(1000):
    writer.write(step, {'loss': 1.0})
    print(step, flush=True)
    time.sleep(0.05)
"""


@pytest.mark.parametrize('beat', [0.05, 60.0])  # 60: nothing is noticed by the heartbeat
def test_a_process_that_stood_still_while_it_lost_the_lock_writes_nothing_more(beat, tmp_path):
  command = [sys.executable, '-c', STEPS, str(tmp_path), str(beat)]
  process = subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tree.ROOT
  )
  assert process.stdout.readline() == '0\n'
  process.send_signal(signal.SIGSTOP)
  held = lock.acquire(tmp_path / 'LOCK', patience=0.3)
  (tmp_path / 'metrics.jsonl').write_text('of the new one')
  before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
  process.send_signal(signal.SIGCONT)
  _, complaint = process.communicate(timeout=30)
  assert process.returncode == 1 and 'has taken this run over while this one stood' in complaint
  assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
  held.release()


def test_what_is_written_elsewhere_needs_no_lock(tmp_path):
  (tmp_path / 'run').mkdir()
  held = lock.acquire(tmp_path / 'run' / 'LOCK', beat=60.0)
  write(tmp_path / 'run' / 'LOCK')
  atomic.write_text(tmp_path / 'run.txt', 'x')
  with pytest.raises(RuntimeError, match='taken this run over'):
    atomic.write_text(tmp_path / 'run' / 'a' / 'b.txt', 'x')
  held.release()
  (tmp_path / 'run' / 'a').mkdir()
  atomic.write_text(tmp_path / 'run' / 'a' / 'b.txt', 'x')
