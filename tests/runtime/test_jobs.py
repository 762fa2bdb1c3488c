"""Processes of a sweep: after those that they need, none ends the others, all go on."""

import os
import signal
import sys
import threading
import time

import pytest
from etils import epath

from lwz.runtime import jobs
from lwz.store import lock


def job(tmp_path, name, code='', needs=()):
  """A job whose process runs `code` and then writes DONE."""
  folder = epath.Path(tmp_path) / name
  folder.mkdir(exist_ok=True)
  script = f'import os, sys, time\nos.chdir({str(folder)!r})\n{code}\nopen("DONE", "a").write("x")'
  return jobs.Job(
    name=name,
    command=[sys.executable, '-c', script],
    folder=folder,
    log=tmp_path / 'logs' / f'{name}.log',
    needs=tuple(needs),
    is_complete=lambda: (folder / 'DONE').exists(),
  )


def run(todo, parallel=2, watch=lambda current: None):
  jobs.run(todo, parallel=parallel, watch=watch, pause=0.02)
  return {job.name: job.state for job in todo}


def test_a_job_starts_when_all_that_it_needs_is_complete(tmp_path):
  seen = f'assert os.path.exists({str(tmp_path / "base" / "DONE")!r})'
  todo = [job(tmp_path, 'a', seen, ['base']), job(tmp_path, 'base', 'time.sleep(0.2)')]
  assert run(todo) == {'a': 'complete', 'base': 'complete'}


def test_a_failed_job_stops_none_but_those_that_need_it(tmp_path):
  todo = [
    job(tmp_path, 'bad', 'print("lwz: no such folder"); sys.exit(2)'),
    job(tmp_path, 'lost', needs=['bad']),
    job(tmp_path, 'good'),
    job(tmp_path, 'later', needs=['lost']),
  ]
  states = run(todo, parallel=1)
  assert states == {'bad': 'failed', 'lost': 'blocked', 'good': 'complete', 'later': 'blocked'}
  assert todo[0].said == 'lwz: no such folder' and todo[1].said == 'needs bad'


def test_where_all_are_needed_one_that_fails_stops_the_others(tmp_path):
  todo = [
    job(tmp_path, 'bad', 'sys.exit(3)'),
    job(tmp_path, 'long', 'time.sleep(60)'),
    job(tmp_path, 'later'),
  ]
  assert jobs.run(todo, parallel=2, all_needed=True, watch=lambda current: None, pause=0.02)
  assert [job.state for job in todo] == ['failed', 'stopped', 'stopped']
  assert (todo[0].status, todo[1].status) == (3, -signal.SIGTERM)


def test_a_signal_is_told_even_if_all_are_complete(tmp_path):
  def watch(current):
    if all(job.state == 'complete' for job in current):
      os.kill(os.getpid(), signal.SIGTERM)

  todo = [job(tmp_path, 'a')]
  assert jobs.run(todo, parallel=1, watch=watch, pause=0.02)
  assert todo[0].state == 'complete'
  assert not jobs.run([job(tmp_path, 'a')], parallel=1, watch=lambda current: None)


def test_an_error_of_ours_leaves_no_process(tmp_path):
  pid = tmp_path / 'a' / 'pid'

  def watch(current):
    if pid.exists() and pid.read_text():
      raise OSError('the terminal is gone')

  with pytest.raises(OSError, match='the terminal is gone'):
    run([job(tmp_path, 'a', 'open("pid", "w").write(str(os.getpid()))\ntime.sleep(60)')], 1, watch)
  with pytest.raises(ProcessLookupError):
    os.kill(int(pid.read_text()), 0)


def test_the_wait_after_an_error_can_be_interrupted(tmp_path, monkeypatch):
  start, started = jobs._start, []
  monkeypatch.setattr(jobs, '_start', lambda *a: started.append(start(*a)) or started[-1])
  code = (
    'import signal\n'
    'signal.signal(signal.SIGTERM, lambda *_: open("told", "w"))\n'
    'open("began", "w")\n'
    'for _ in range(50): time.sleep(0.1)'
  )

  def watch(current):
    if (tmp_path / 'a' / 'began').exists():
      raise OSError('the terminal is gone')

  def interrupt():
    while not (tmp_path / 'a' / 'told').exists():
      time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)

  # A shell has what it starts in the background ignore SIGINT.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  threading.Thread(target=interrupt).start()
  try:
    with pytest.raises(KeyboardInterrupt):
      run([job(tmp_path, 'a', code)], 1, watch)
  finally:
    signal.signal(signal.SIGINT, before)
    started[0].kill()
    started[0].wait()


def test_what_is_complete_is_not_run_again(tmp_path):
  for _ in range(2):
    assert run([job(tmp_path, 'a')]) == {'a': 'complete'}
  assert (tmp_path / 'a' / 'DONE').read_text() == 'x'


def test_one_that_ends_without_a_result_has_failed(tmp_path):
  todo = [job(tmp_path, 'a', 'print("bye"); os._exit(0)')]
  todo += [job(tmp_path, 'killed', 'os.kill(os.getpid(), 9)')]
  assert run(todo) == {'a': 'failed', 'killed': 'failed'}
  assert todo[0].said == 'ended without DONE: bye'


def test_a_run_that_another_process_writes_is_waited_for(tmp_path):
  held = lock.acquire((tmp_path / 'a').mkdir() or epath.Path(tmp_path) / 'a' / 'LOCK')
  todo, states = [job(tmp_path, 'a'), job(tmp_path, 'b', needs=['a'])], []

  def watch(current):
    states.append(current[0].state)
    if len(states) == 5:
      (tmp_path / 'a' / 'DONE').write_text('theirs')
      held.release()

  assert run(todo, watch=watch) == {'a': 'complete', 'b': 'complete'}
  assert set(states[:5]) == {'elsewhere'}
  assert (tmp_path / 'a' / 'DONE').read_text() == 'theirs'


def test_one_that_finds_the_lock_taken_tries_again(tmp_path):
  code = f'if not os.path.exists("met"): open("met", "w"); print("lwz: {lock.BUSY}"); sys.exit(2)'
  assert run([job(tmp_path, 'a', code)]) == {'a': 'complete'}


def test_interrupted_all_save_and_a_second_start_goes_on(tmp_path):
  code = (
    'import signal\n'
    'def save(number, frame): open("saved", "w"); sys.exit(75)\n'
    'signal.signal(signal.SIGINT, save)\n'
    'open("began", "w")\n'
    'while not os.path.exists("saved"): time.sleep(0.01)'
  )

  def todo():
    return [job(tmp_path, 'a', code), job(tmp_path, 'b', code), job(tmp_path, 'c')]

  def interrupt():
    while not all((tmp_path / name / 'began').exists() for name in 'ab'):
      time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)

  threading.Thread(target=interrupt).start()
  assert run(todo()) == {'a': 'stopped', 'b': 'stopped', 'c': 'stopped'}
  assert run(todo()) == {'a': 'complete', 'b': 'complete', 'c': 'complete'}


def test_ctrl_c_reaches_the_processes_through_us_alone(tmp_path):
  run([job(tmp_path, 'a', 'open("group", "w").write(str(os.getpgrp()))')])
  assert int((tmp_path / 'a' / 'group').read_text()) != os.getpgrp()


def test_the_last_words_of_a_log_are_its_last_line_or_a_whole_refusal(tmp_path):
  log = tmp_path / 'log'
  log.write_text('step 1\nlwz: config.json is of another run:\n  seed: 0, 1\n\n')
  assert jobs.last_words(log) == 'lwz: config.json is of another run:\n  seed: 0, 1'
  log.write_text('Traceback\n  x\nKeyError: 1\n')
  assert jobs.last_words(log) == 'KeyError: 1'
  assert jobs.last_words(tmp_path / 'none').startswith('no log')


def test_cores_are_divided(tmp_path):
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < 2:
    pytest.skip('one core')
  code = 'open("cores", "w").write(repr(sorted(os.sched_getaffinity(0)))); time.sleep(0.3)'
  run([job(tmp_path, name, f'time.sleep(0.2); {code}') for name in 'ab'])
  halves = [eval((tmp_path / name / 'cores').read_text()) for name in 'ab']
  assert sorted(halves[0] + halves[1]) == cores


def test_gpus_are_divided_or_there_are_too_few(monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,5')
  given = [place['environment'] for place in jobs._places(2)]
  assert [one['CUDA_VISIBLE_DEVICES'] for one in given] == ['0', '1,5']
  with pytest.raises(ValueError, match='there are 3 GPUs'):
    list(jobs._places(4))
  monkeypatch.setattr(jobs.pathlib.Path, 'glob', lambda *_: [jobs.pathlib.Path('/dev/nvidia0')])
  for hidden in ('', '-1'):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
    assert all(place['environment'] == {} for place in jobs._places(2))
