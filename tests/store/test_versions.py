"""What ran is known as far as it can be told, and no start waits for that."""

import time

from lwz.store import versions


def test_a_git_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
  (tmp_path / 'git').write_text('#!/bin/sh\nexec sleep 20\n')
  (tmp_path / 'git').chmod(0o700)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
  monkeypatch.setattr(versions, '_PATIENCE', 0.2)
  begin = time.monotonic()
  assert versions.commit() is None
  assert time.monotonic() - begin < 10
