"""A file is the old one or the new one."""

import errno

import pytest
from etils import epath

from lwz.store import atomic


def test_text_comes_back_and_nothing_else_is_left(tmp_path):
  path = tmp_path / 'a.json'
  atomic.write_text(path, 'old')
  atomic.write_text(path, 'new, 新')
  assert path.read_bytes() == 'new, 新'.encode()
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  atomic.write_text(path, 'old')

  def die(handle):
    raise OSError(errno.ENOSPC, 'the disk is full')

  monkeypatch.setattr(atomic.os, 'fsync', die)
  with pytest.raises(OSError, match=f'^{path}: .*: the disk is full; make room'):
    atomic.write_text(path, 'new')
  assert path.read_text() == 'old'


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
  path = tmp_path / 'a.json'
  atomic.write_text(path, 'old')
  with path.open() as reader:
    atomic.write_text(path, 'new')
    assert reader.read() == 'old'


def test_a_bucket_is_written_without_rename(bucket):
  bucket.mkdir(parents=True)
  atomic.write_text(bucket / 'a', 'new')
  assert (bucket / 'a').read_text() == 'new'


def test_remote_is_what_has_a_scheme(tmp_path):
  assert atomic.is_remote(epath.Path('gs://bucket/run'))
  assert not atomic.is_remote(tmp_path)
