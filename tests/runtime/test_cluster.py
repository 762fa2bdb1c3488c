"""Jobs of SLURM, with a submitit that queues nothing."""

import signal
import sys
import types

import pytest
from etils import epath

from lwz.runtime import cluster, jobs


@pytest.fixture
def submitit(monkeypatch):
  """A fake of what is used of submitit: `queued` holds (parameters, command)."""
  fake = types.SimpleNamespace(queued=[], states={})

  class AutoExecutor:
    def __init__(self, folder):
      self.parameters = {}

    def update_parameters(self, **parameters):
      self.parameters = parameters

    def submit(self, function):
      fake.queued.append((self.parameters, function.command))
      return types.SimpleNamespace(job_id=str(100 + len(fake.queued)))

  fake.AutoExecutor = AutoExecutor
  fake.SlurmJob = lambda folder, job_id: types.SimpleNamespace(state=fake.states[job_id])
  fake.helpers = types.SimpleNamespace(
    DelayedSubmission=lambda function: ('again', function.command)
  )
  monkeypatch.setitem(sys.modules, 'submitit', fake)
  monkeypatch.setattr(cluster.shutil, 'which', lambda name: name)
  return fake


def job(tmp_path, name, needs=(), complete=False):
  folder = epath.Path(tmp_path) / name
  command = [sys.executable, '-m', 'lwz.launch', f'--config.name={name}']
  return jobs.Job(name, command, folder, tmp_path / 'log', needs, lambda: complete)


def test_each_job_waits_for_those_that_it_needs_and_complete_ones_are_left_out(submitit, tmp_path):
  todo = [
    job(tmp_path, 'done', complete=True),
    job(tmp_path, 'base', ('done',)),
    job(tmp_path, 'arm', ('done', 'base')),
  ]
  cluster.submit(todo, tmp_path, 'slurm_partition=gpu,gpus_per_node=8')
  (first, command), (second, _) = submitit.queued
  assert first['name'] == 'base' and first['slurm_additional_parameters'] == {}
  assert (first['slurm_partition'], first['gpus_per_node']) == ('gpu', 8)
  assert second['slurm_additional_parameters']['dependency'] == 'afterok:101'
  assert command[1:] == ['-m', 'lwz.launch', '--config.name=base']


def test_what_is_queued_is_not_submitted_again_until_it_has_ended(submitit, tmp_path, capsys):
  todo = [job(tmp_path, 'a'), job(tmp_path, 'b', ('a',))]
  cluster.submit(todo, tmp_path, '')
  submitit.states = {'101': 'RUNNING', '102': 'PENDING'}
  cluster.submit(todo, tmp_path, '')
  assert len(submitit.queued) == 2 and 'a: job 101, RUNNING' in capsys.readouterr().out
  submitit.states = {'101': 'RUNNING', '102': 'CANCELLED by 7'}
  cluster.submit(todo, tmp_path, '')
  assert submitit.queued[2][0]['slurm_additional_parameters']['dependency'] == 'afterok:101'


@pytest.fixture
def signals():
  """Signals have their handlers again afterwards."""
  before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGALRM)}
  yield
  signal.alarm(0)
  for number, handler in before.items():
    signal.signal(number, handler)


def test_at_the_end_of_its_time_a_job_saves_and_queues_again(submitit, tmp_path, signals):
  """As submitit asks: in the handler of a signal, of the thread that waits for the process."""
  code = (
    'import os, signal, sys, time\n'
    'def save(number, frame):\n'
    f'  open({str(tmp_path / "saved")!r}, "w")\n'
    '  sys.exit(75)\n'
    'signal.signal(signal.SIGTERM, save)\n'
    'os.kill(os.getppid(), signal.SIGUSR2)\n'
    'time.sleep(60)'
  )
  command, queued = cluster.Command([sys.executable, '-c', code]), []

  def hangs(number, frame):
    raise TimeoutError

  signal.signal(signal.SIGUSR2, lambda number, frame: queued.append(command.checkpoint()))
  signal.signal(signal.SIGALRM, hangs)
  signal.alarm(30)
  with pytest.raises(RuntimeError, match='ended with status 75'):
    command()
  assert queued == [('again', command.command)] and (tmp_path / 'saved').exists()


def test_what_is_missing_is_said(submitit, tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="'gpu' has no value"):
    cluster.submit([job(tmp_path, 'a')], tmp_path, 'gpu')
  monkeypatch.setattr(cluster.shutil, 'which', lambda name: None)
  with pytest.raises(ValueError, match='there is no srun here'):
    cluster.submit([job(tmp_path, 'a')], tmp_path, '')
  monkeypatch.setitem(sys.modules, 'submitit', None)
  with pytest.raises(ValueError, match='needs submitit: pip install'):
    cluster.submit([job(tmp_path, 'a')], tmp_path, '')
