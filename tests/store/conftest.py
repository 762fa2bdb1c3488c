"""A bucket for the tests of the store."""

import os

import pytest
from etils import epath


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """`gs://bucket`, kept on disk, that refuses what a bucket cannot do: append and rename."""

  def open_(original, path, mode):
    assert 'a' not in mode and '+' not in mode, f'{path} opened to append'
    return original(path, mode)

  def refuse(original, path, dst):
    if os.path.isabs(path):  # no part of the bucket: the lock of a run that another test began
      return original(path, dst)
    raise AssertionError(f'{path} renamed, which is a copy in a bucket')

  monkeypatch.chdir(tmp_path)  # the fake takes gs://bucket for a relative path
  with epath.testing.mock_epath(open=open_, rename=refuse, replace=refuse):
    yield epath.Path('gs://bucket')
