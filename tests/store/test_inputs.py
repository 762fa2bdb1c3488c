"""What a run reads is known by its content, and read again only where it may have changed."""

import dataclasses
import hashlib
import os
import shutil

import fsspec
import pytest
from etils import epath

from lwz.store import inputs, run

OLD = 10**18  # ns: a time of modification long ago


def put(path, text, time=OLD):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  os.utime(path, ns=(time, time))


@pytest.fixture
def corpus(tmp_path):
  put(tmp_path / 'corpus' / 'a.txt', 'one')
  put(tmp_path / 'corpus' / 'b' / 'c.jsonl.gz', 'two')
  return tmp_path / 'corpus'


@pytest.fixture
def read(monkeypatch):
  """The files that are read, in order."""
  found, digest = [], inputs._digest

  def noted(path, size, modified):
    found.append(path.name)
    return digest(path, size, modified)

  monkeypatch.setattr(inputs, '_digest', noted)
  return found


def identity(corpus, key='data.folder'):
  return run.Identity(lambda key: True, files=lambda: {key: inputs.files(corpus)})


def open_run(folder, corpus, key='data.folder'):
  config = {'data': {'folder': str(corpus)}}
  run.open_run(folder, config, identity=identity(corpus, key), command=[]).close()


def is_complete(folder, corpus):
  config = {'data': {'folder': str(corpus)}}
  return run.is_complete(folder, config, identity(corpus), goal='train.num_steps')


def test_a_digest_is_sha256_of_names_and_contents(corpus):
  stamps = inputs.measure({'data.folder': inputs.files(corpus)}, {})
  one, two = (hashlib.sha256(text).hexdigest() for text in (b'one', b'two'))
  assert stamps['data.folder']['a.txt'] == (3, OLD, one)
  whole = hashlib.sha256(f'a.txt\0{one}\nb/c.jsonl.gz\0{two}\n'.encode()).hexdigest()
  assert inputs.digests(stamps) == {'data.folder': whole}


def test_hidden_files_other_formats_and_links_that_lead_back_are_no_input(corpus):
  put(corpus / '._a.txt', 'x')
  put(corpus / 'weights.safetensors', 'x')
  os.mkfifo(corpus / 'pipe')
  (corpus / 'b' / 'back').symlink_to(corpus)
  (corpus / 'gone.txt').symlink_to(corpus / 'nowhere')
  assert set(inputs.files(corpus)) == {'a.txt', 'b/c.jsonl.gz'}
  assert set(inputs.files(corpus / 'a.txt')) == {'a.txt'}
  assert inputs.files(corpus / 'nowhere') == {}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda corpus: put(corpus / 'a.txt', 'ONE', OLD + 1), 'a.txt has changed'),
    (lambda corpus: put(corpus / 'a.txt', 'three'), 'a.txt has changed'),
    (lambda corpus: put(corpus / 'd.md', 'x'), 'd.md is new'),
    (lambda corpus: (corpus / 'b' / 'c.jsonl.gz').unlink(), 'b/c.jsonl.gz is gone'),
    (lambda corpus: (corpus / 'a.txt').rename(corpus / 'z.txt'), 'a.txt is gone, z.txt is new'),
  ],
)
def test_changed_files_are_another_run(change, message, corpus, tmp_path):
  open_run(tmp_path / 'run', corpus)
  run.Run(epath.Path(tmp_path / 'run')).mark_done({})
  assert is_complete(tmp_path / 'run', corpus)
  before = (tmp_path / 'run' / 'config.json').read_text()
  change(corpus)
  assert not is_complete(tmp_path / 'run', corpus)
  with pytest.raises(ValueError) as error:
    open_run(tmp_path / 'run', corpus)
  assert f'data.folder="{corpus}": {message}' in str(error.value)
  assert 'put the files back' in str(error.value) and '`name`' in str(error.value)
  assert (tmp_path / 'run' / 'config.json').read_text() == before


def test_a_file_is_read_again_only_when_its_size_or_time_has_changed(corpus, tmp_path, read):
  open_run(tmp_path / 'run', corpus)
  assert sorted(read) == ['a.txt', 'c.jsonl.gz']
  read.clear()
  open_run(tmp_path / 'run', corpus)
  assert read == []
  put(corpus / 'a.txt', 'one', OLD + 1)  # touched: the same contents
  open_run(tmp_path / 'run', corpus)
  assert set(read) == {'a.txt'}
  read.clear()
  open_run(tmp_path / 'run', corpus)
  assert read == []


def test_a_file_that_was_just_written_is_read_again(corpus, tmp_path, read):
  (corpus / 'a.txt').write_text('new')
  open_run(tmp_path / 'run', corpus)
  read.clear()
  open_run(tmp_path / 'run', corpus)
  assert set(read) == {'a.txt'}


@pytest.mark.parametrize('damage', ['', 'not JSON\n', '{"key": 3}\n[]\n'])
def test_without_the_list_of_files_the_key_is_named(damage, corpus, tmp_path):
  open_run(tmp_path / 'run', corpus)
  (tmp_path / 'run' / 'inputs.jsonl').write_text(damage)
  open_run(tmp_path / 'run', corpus)  # the same contents
  (tmp_path / 'run' / 'inputs.jsonl').write_text(damage)
  put(corpus / 'a.txt', 'other')
  with pytest.raises(ValueError, match=r'data\.folder=.*: other contents than'):
    open_run(tmp_path / 'run', corpus)


def test_an_older_folder_takes_the_files_as_they_are(corpus, tmp_path):
  run.open_run(
    tmp_path / 'run',
    {'data': {'folder': str(corpus)}},
    identity=run.Identity(lambda key: True),
    command=[],
  ).close()
  open_run(tmp_path / 'run', corpus)
  put(corpus / 'a.txt', 'other')
  with pytest.raises(ValueError, match=r'a\.txt has changed'):
    open_run(tmp_path / 'run', corpus)


def test_a_finished_run_needs_no_files(corpus, tmp_path):
  open_run(tmp_path / 'run', corpus)
  run.Run(epath.Path(tmp_path / 'run')).mark_done({})
  corpus.rename(tmp_path / 'elsewhere')
  assert is_complete(tmp_path / 'run', corpus)


def test_a_run_that_renews_is_not_complete_until_it_has_read_what_changed(corpus, tmp_path):
  renewed = dataclasses.replace(identity(corpus), renews=True)
  config = {'data': {'folder': str(corpus)}}
  done = []
  for text in ('one', 'other'):
    put(corpus / 'a.txt', text)
    opened = run.open_run(tmp_path / 'run', config, identity=renewed, command=[])
    done.append(opened.is_done())
    opened.mark_done({})
    opened.close()
    done.append(run.is_complete(tmp_path / 'run', config, renewed, goal='train.num_steps'))
  assert done == [False, True, False, True]
  put(corpus / 'a.txt', 'a third')
  assert not run.is_complete(tmp_path / 'run', config, renewed, goal='train.num_steps')


def test_the_checksum_of_a_bucket_serves(bucket, read, monkeypatch):
  bucket.mkdir(parents=True)
  (bucket / 'a.txt').write_text('one')
  found = {'data.folder': inputs.files(bucket)}
  one = hashlib.sha256(b'one').hexdigest()
  assert inputs.measure(found, {})['data.folder']['a.txt'].digest == one
  read.clear()

  class Client:
    def info(self, path):
      return {'size': 3, 'etag': 'x', 'crc32c': 'abc='}

  monkeypatch.setattr(fsspec.core, 'url_to_fs', lambda path: (Client(), path))
  stamps = inputs.measure(found, {})
  assert stamps['data.folder']['a.txt'].digest == 'crc32c:abc=' and not read


def test_files_that_stand_elsewhere_are_the_same_input(corpus, tmp_path):
  folder, moved = tmp_path / 'run', tmp_path / 'checkout' / 'corpus'
  open_run(folder, corpus)
  run.Run(epath.Path(folder)).mark_done({})
  shutil.copytree(corpus, moved)
  assert is_complete(folder, moved)
  open_run(folder, moved)
  assert str(moved) in (folder / 'config.json').read_text()
  other = tmp_path / 'other' / 'corpus'
  shutil.copytree(corpus, other)
  put(other / 'a.txt', 'ONE')  # of the same size and time
  for folder_now in (other, tmp_path / 'nowhere'):
    assert not is_complete(folder, folder_now)
    with pytest.raises(ValueError, match=f'data.folder: "{moved}" in the folder, "{folder_now}"'):
      open_run(folder, folder_now)
