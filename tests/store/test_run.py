"""A folder is of one run, and says whether it is done."""

import dataclasses
import errno
import hashlib
import json

import pytest

from lwz.store import atomic, run, versions

MAY_CHANGE = ('runs_dir', 'log', 'train.num_steps')
GOAL = 'train.num_steps'
IDENTITY = run.Identity(
  lambda key: not any(key == name or key.startswith(f'{name}.') for name in MAY_CHANGE)
)
CONFIG = {
  'model': {'size': 'tiny', 'shape': (4, 2), 'extra': {}},
  'train': {'rate': 1e-4, 'num_steps': 10, 'num_steps_warm': 2},
  'log': {'every': 1},
  'runs_dir': 'runs',
}


def changed(**changes):
  config = json.loads(json.dumps(CONFIG))
  for key, value in changes.items():
    *folders, name = key.split('__')
    node = config
    for folder in folders:
      node = node[folder]
    node[name] = value
  return config


def open_run(folder, config=CONFIG, **kwargs):
  opened = run.open_run(folder, config, identity=IDENTITY, command=['train'], **kwargs)
  opened.close()
  return opened


def stored(folder):
  return json.loads((folder / 'config.json').read_text())


def test_a_new_run_says_what_it_is(tmp_path):
  opened = open_run(tmp_path / 'a' / 'b')
  record = stored(opened.folder)
  assert record['config'] == json.loads(json.dumps(CONFIG))
  assert record['command'] == ['train'] and record['history'] == []
  assert set(versions.PACKAGES) < set(record['versions'])
  assert record['versions']['jax'].startswith('0.')
  assert [p.name for p in opened.folder.iterdir()] == ['config.json']


def test_the_hash_is_sha256_of_the_canonical_identity(tmp_path):
  identity = (
    '{"model.extra":"{}","model.shape":"[4, 2]","model.size":"\\"tiny\\"",'
    '"train.num_steps_warm":"2","train.rate":"0.0001"}'
  )
  open_run(tmp_path)
  assert stored(tmp_path)['hash'] == hashlib.sha256(identity.encode()).hexdigest()


def test_identity_ignores_order_and_keys_that_may_change():
  same = dict(reversed(changed(log__every=5, train__num_steps=20, runs_dir='x').items()))
  assert IDENTITY.digest(same) == IDENTITY.digest(CONFIG)
  other = changed(train__num_steps_warm=3)  # not below train.num_steps, only spelt alike
  assert IDENTITY.digest(other) != IDENTITY.digest(CONFIG)


def test_opening_again_changes_nothing(tmp_path):
  open_run(tmp_path)
  before = (tmp_path / 'config.json').read_bytes()
  open_run(tmp_path)
  assert (tmp_path / 'config.json').read_bytes() == before


def test_another_identity_is_refused_key_by_key(tmp_path):
  open_run(tmp_path)
  before = (tmp_path / 'config.json').read_bytes()
  config = changed(model__size='7b', train__rate=1e-5, train__num_steps=20)
  del config['model']['extra']
  with pytest.raises(ValueError) as error:
    open_run(tmp_path, config)
  message = str(error.value)
  assert 'model.size: "tiny" in the folder, "7b" now' in message
  assert 'train.rate: 0.0001 in the folder, 1e-05 now' in message
  assert 'model.extra: {} in the folder, absent now' in message
  assert 'num_steps' not in message
  assert '`name`' in message and f'delete {tmp_path}' in message
  assert (tmp_path / 'config.json').read_bytes() == before
  assert not (tmp_path / 'LOCK').exists()


def test_where_nobody_may_write_the_message_says_what_to_do(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match=r'file/run: cannot be written to: .*--config\.runs_dir'):
    open_run(tmp_path / 'file' / 'run')


def test_a_disk_that_is_full_at_the_start_is_named_as_such(tmp_path, monkeypatch):
  def die(handle):
    raise OSError(errno.ENOSPC, 'no space left')

  monkeypatch.setattr(atomic.os, 'fsync', die)
  with pytest.raises(OSError, match=f'^{tmp_path}: cannot be written to: .*: no space left; make'):
    open_run(tmp_path)


def test_keys_that_may_change_are_remembered(tmp_path, monkeypatch):
  times = iter('abcdefgh')
  monkeypatch.setattr(run, '_now', lambda: next(times))
  open_run(tmp_path)
  open_run(tmp_path, changed(train__num_steps=20))
  open_run(tmp_path, changed(train__num_steps=30))
  record = stored(tmp_path)
  assert record['config']['train']['num_steps'] == 30 and record['created'] == 'a'
  assert [h['changed'] for h in record['history']] == [
    {'train.num_steps': ['10', '20']},
    {'train.num_steps': ['20', '30']},
  ]


def test_other_versions_are_remembered(tmp_path, monkeypatch):
  open_run(tmp_path)
  monkeypatch.setattr(versions, 'now', lambda: {'lwz': 'next'})
  open_run(tmp_path)
  record = stored(tmp_path)
  assert record['versions'] == {'lwz': 'next'}
  assert record['history'][0]['before']['versions']['jax'].startswith('0.')


def test_what_json_cannot_hold_is_named(tmp_path):
  with pytest.raises(ValueError, match="config key 'fn'"):
    open_run(tmp_path / 'a', {'fn': print})
  assert not (tmp_path / 'a').exists()


def test_a_broken_config_is_named(tmp_path):
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match=r'config\.json: not JSON'):
    open_run(tmp_path)


def test_done_is_marked_and_read(tmp_path):
  opened = open_run(tmp_path)
  assert not opened.is_done()
  with pytest.raises(FileNotFoundError, match='not complete'):
    opened.read_done()
  opened.mark_done({'loss': 1.5})
  assert opened.is_done() and opened.read_done()['summary'] == {'loss': 1.5}


def is_complete(folder, config=CONFIG, identity=IDENTITY):
  return run.is_complete(folder, config, identity, goal=GOAL)


def test_complete_is_done_with_this_identity(tmp_path):
  opened = open_run(tmp_path)
  assert not is_complete(tmp_path)
  assert not is_complete(tmp_path / 'nowhere')
  opened.mark_done({})
  assert is_complete(tmp_path)
  assert is_complete(tmp_path, changed(log__every=5))
  assert not is_complete(tmp_path, changed(train__rate=1.0))


def test_a_key_that_an_older_folder_does_not_hold_counts_as_its_default(tmp_path):
  open_run(tmp_path).mark_done({})
  today = dataclasses.replace(IDENTITY, defaults={'train.new': '0', 'train.rate': '9.0'})
  assert is_complete(tmp_path, changed(train__new=0), today)
  assert not is_complete(tmp_path, changed(train__new=1), today)
  run.check_identity(tmp_path, changed(train__new=0), today)
  with pytest.raises(ValueError, match=r'train\.new: absent in the folder, 1 now'):
    run.check_identity(tmp_path, changed(train__new=1), today)


def test_a_key_that_has_another_name_today_is_the_same_key(tmp_path):
  open_run(tmp_path).mark_done({})
  config = changed(train__pace=1e-4)
  del config['train']['rate']
  renamed = {'train.rate': 'train.pace'}
  today = dataclasses.replace(
    IDENTITY, upgrade=lambda flat: {renamed.get(key, key): text for key, text in flat.items()}
  )
  assert not is_complete(tmp_path, config) and is_complete(tmp_path, config, today)
  opened = run.open_run(tmp_path, config, identity=today, command=['train'])
  opened.close()
  assert stored(tmp_path)['history'] == []


def test_a_run_with_a_further_goal_is_complete_only_when_it_got_there(tmp_path):
  further = changed(train__num_steps=20)
  open_run(tmp_path).mark_done({})
  assert is_complete(tmp_path)
  assert not is_complete(tmp_path, further)
  opened = open_run(tmp_path, further)  # killed here, it is still not complete
  assert not is_complete(tmp_path, further)
  opened.mark_done({})
  assert is_complete(tmp_path, further)


def test_a_run_in_a_bucket(bucket):
  opened = open_run(bucket / 'runs' / 'a')
  opened.mark_done({'loss': 1.0})
  assert is_complete(bucket / 'runs' / 'a')


def test_the_lock_is_held_until_close(tmp_path):
  opened = run.open_run(tmp_path, CONFIG, identity=IDENTITY, command=[])
  assert (tmp_path / 'LOCK').exists()
  opened.close()
  assert not (tmp_path / 'LOCK').exists()
