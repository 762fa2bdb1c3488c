"""JSON of another shape than ours: every reader names its file within seconds, or starts anew."""

import json
import os
import time

import pytest

from lwz import jsonl
from lwz.store import faulty_step, lock, run

DEEP = '[' * 100_000
DEEP_OBJECT = '{"a":' * 100_000
LONG = '9' * 400
# What stands in the place of an object.
WRONG = {
  'empty': '',
  'blank': '  \n',
  'list': '[]',
  'text': '"text"',
  'number': '7',
  'null': 'null',
  'true': 'true',
  'half': '{"config": ',
  'two objects': '{} {}',
  'deep list': DEEP,
  'deep object': DEEP_OBJECT,
  'deep and closed': DEEP + ']' * 100_000,
  'digits': LONG,
  'more digits': '{"a": ' + '9' * 5_000 + '}',
  'nothing needed': '{}',
  'html': '<html>404</html>',
  'pickle': '\x80\x04\x95',
  'other keys': '{"a": 1}',
}
BYTES = {'not UTF-8': b'{"a": "\xff"}', 'UTF-16': '{"a": 1}'.encode('utf-16'), 'NUL': b'\0' * 4096}
FILES = {name: text.encode() for name, text in WRONG.items()} | BYTES
CONFIG = {'train': {'num_steps': 3}}
IDENTITY = run.Identity(lambda key: True)


def within(seconds, read, error=ValueError):
  begin = time.monotonic()
  with pytest.raises(error) as caught:
    read()
  assert time.monotonic() - begin < seconds
  return str(caught.value)


def open_run(folder):
  run.open_run(folder, CONFIG, identity=IDENTITY, command=['x']).close()


@pytest.mark.parametrize('data', FILES.values(), ids=FILES)
def test_a_run_folder_names_its_damaged_file(tmp_path, data):
  open_run(tmp_path)
  for name in ('config.json', 'DONE'):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f'^{path}: .*delete it, or the folder, to start anew$'):
      if name == 'DONE':
        run.is_complete(tmp_path, CONFIG, IDENTITY, goal='train.num_steps')
      else:
        open_run(tmp_path)
  assert not (tmp_path / 'LOCK').exists()


FIELDS = {
  'config': [None, [], 'x', 1, LONG],
  'versions': [[], 'x', True],
  'command': [{}, 'x', 1],
  'created': [1, [], None],
  'history': [{}, 'x', 0],
  'hash': [0, {}],
}


@pytest.mark.parametrize(
  'key, value', [(key, value) for key, values in FIELDS.items() for value in values]
)
def test_a_field_of_another_kind_is_named(tmp_path, key, value):
  open_run(tmp_path)
  path = tmp_path / 'config.json'
  good = json.loads(path.read_text())
  path.write_text(json.dumps(good | {key: value}))
  assert f'config.json: {key} = ' in within(2, lambda: open_run(tmp_path))
  del good[key]
  path.write_text(json.dumps(good))
  assert f'config.json: {key} is missing' in within(2, lambda: open_run(tmp_path))


OWNERS = [
  {'pid': 'x'},
  {'pid': -1},
  {'pid': 0},
  {'pid': 2.5},
  {'pid': True},
  {'pid': None},
  {'pid': int(LONG)},
  {'pid': []},
  {'host': 7},
  {'host': {}},
  {'token': 1},
  {'token': None},
  {'beat': 'x'},
]


@pytest.mark.parametrize('owner', OWNERS, ids=repr)
def test_a_lock_that_no_process_wrote_blocks_nobody(tmp_path, owner):
  known = {'host': os.uname().nodename, 'pid': 1, 'token': 't', 'beat': 0}
  (tmp_path / 'LOCK').write_text(json.dumps(known | owner))
  begin = time.monotonic()
  lock.acquire(tmp_path / 'LOCK', patience=5.0).release()
  assert time.monotonic() - begin < 2


@pytest.mark.parametrize('data', FILES.values(), ids=FILES)
def test_a_damaged_lock_blocks_nobody(tmp_path, data):
  (tmp_path / 'LOCK').write_bytes(data)
  lock.acquire(tmp_path / 'LOCK', patience=5.0).release()


@pytest.mark.parametrize('data', FILES.values(), ids=FILES)
def test_a_damaged_fault_is_named(tmp_path, data):
  (tmp_path / 'fault.json').write_bytes(data)
  assert 'fault.json: ' in within(2, lambda: faulty_step.read(tmp_path, ({},)))


def test_a_file_that_never_ends_is_not_read(tmp_path):
  fifo, device, loop = (tmp_path / name for name in ('fifo', 'device', 'loop'))
  os.mkfifo(fifo)
  device.symlink_to('/dev/zero')
  loop.symlink_to(loop)
  for path in (fifo, device):
    for read in (lambda p: jsonl.document(p, remedy='mend'), jsonl.read, jsonl.contents):
      assert f'{path}: a FIFO, device or socket' in within(2, lambda: read(path))  # noqa: B023
  within(2, lambda: jsonl.document(loop, remedy='mend'), OSError)
  sparse = tmp_path / 'sparse'
  with sparse.open('wb') as file:
    file.truncate(1 << 40)
  assert 'more than the' in within(2, lambda: jsonl.document(sparse, remedy='mend'))
