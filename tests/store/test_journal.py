"""What was kept inside a step is found again by the policy that wrote it, and whole or not."""

import threading

import numpy as np
import pytest

from lwz.store import atomic, behind, journal

ENTRY = {'ids': np.array([1, 2], np.int32), 'logp': np.array([-0.1, np.nan], np.float32)}


class Journal(journal.TrajectoryJournal):
  """One that waits for each entry, so that each has a file."""

  def __init__(self, *args):
    self.written = behind.Writer()
    super().__init__(*args, self.written)

  def add(self, name, **arrays):
    super().add(name, **arrays)
    self.written.flush()


def test_entries_come_back_bit_for_bit_in_another_process(tmp_path):
  Journal(tmp_path, 12, 7).add('trajectory-00001', **ENTRY)
  found = Journal(tmp_path, 12, 7).read()
  assert list(found) == ['trajectory-00001']
  assert {k: (v.dtype, v.tobytes()) for k, v in found['trajectory-00001'].items()} == {
    k: (v.dtype, v.tobytes()) for k, v in ENTRY.items()
  }


def test_entries_of_another_policy_or_step_do_not_count(tmp_path):
  Journal(tmp_path, 12, 7).add('a', **ENTRY)
  assert Journal(tmp_path, 12, 8).read() == {}
  assert Journal(tmp_path, 13, 7).read() == {}


@pytest.mark.parametrize('keep', [0, 10, 0.5, -1])
def test_a_torn_entry_is_none(keep, tmp_path):
  kept = Journal(tmp_path, 1, 7)
  kept.add('a', **ENTRY)
  kept.add('b', **ENTRY)
  path = min((tmp_path / 'journal' / 'step-000001').iterdir())
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
  assert list(kept.read()) == ['b']


def test_a_flipped_bit_makes_no_entry(tmp_path):
  kept = Journal(tmp_path, 1, 7)
  kept.add('a', ids=np.arange(100))
  (path,) = (tmp_path / 'journal' / 'step-000001').iterdir()
  data = bytearray(path.read_bytes())
  data[300] ^= 1
  path.write_bytes(data)
  assert kept.read() == {}


def test_it_is_cleared(tmp_path):
  kept = Journal(tmp_path, 1, 7)
  kept.clear()
  kept.add('a', **ENTRY)
  Journal(tmp_path, 2, 7).clear()
  assert kept.read() == {} and not (tmp_path / 'journal').exists()


def test_the_name_of_the_policy_is_taken(tmp_path):
  with pytest.raises(ValueError, match='cannot be named'):
    Journal(tmp_path, 1, 7).add('a', policy=np.zeros(1))


def test_the_loop_waits_for_no_write_and_what_waits_becomes_one(tmp_path, monkeypatch):
  began, go, files = threading.Event(), threading.Event(), []

  def slow(path, data, write=atomic.write_bytes):
    began.set()
    assert go.wait(20)
    files.append(path.name)
    write(path, data)

  monkeypatch.setattr(atomic, 'write_bytes', slow)
  writer = behind.Writer()
  kept = journal.TrajectoryJournal(tmp_path, 1, 7, writer)
  kept.add('a', **ENTRY)
  assert began.wait(20)
  for name in 'bcd':  # at once: the first write is stuck
    kept.add(name, **ENTRY)
  assert kept.read() == {}
  go.set()
  writer.flush()
  assert sorted(kept.read()) == ['a', 'b', 'c', 'd'] and len(files) == 2
  kept.add('e', **ENTRY)
  kept.clear()  # as the archive does: an entry that waits is not written any more
  writer.flush()
  assert kept.read() == {}


def test_an_error_of_a_write_is_raised_where_all_wait(tmp_path, monkeypatch):
  def full(path, data):
    raise OSError(28, 'No space left on device', str(path))

  monkeypatch.setattr(atomic, 'write_bytes', full)
  writer = behind.Writer()
  kept = journal.TrajectoryJournal(tmp_path, 1, 7, writer)
  for name in 'ab':  # also after an error
    kept.add(name, **ENTRY)
    assert writer._begun[-1][1].exception()
  for wait in (writer.flush, writer.close):
    with pytest.raises(OSError, match='No space left'):
      wait()


def test_an_entry_that_comes_again_replaces_no_other_of_its_file(tmp_path):
  writer = behind.Writer()
  kept = journal.TrajectoryJournal(tmp_path, 1, 7, writer)
  kept._waiting |= {'a': ENTRY, 'b': ENTRY}
  kept._write()
  for name in 'ba':
    kept.add(name, ids=np.array([3]))
    writer.flush()
    assert sorted(kept.read()) == ['a', 'b'] and kept.read()[name]['ids'].tolist() == [3]


def test_an_older_file_holds_one_entry_of_its_own_name(tmp_path):
  kept = Journal(tmp_path, 1, 7)
  kept.add('b', **ENTRY)
  np.savez(tmp_path / 'journal' / 'step-000001' / 'a.npz', **ENTRY, policy=np.uint32(7))
  assert sorted(kept.read()) == ['a', 'b']
  assert kept.read()['a']['ids'].tolist() == [1, 2]
