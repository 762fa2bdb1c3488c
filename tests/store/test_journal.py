"""What was kept inside a step is found again by the policy that wrote it, and whole or not."""

import numpy as np
import pytest

from lwz.store import journal

ENTRY = {'ids': np.array([1, 2], np.int32), 'logp': np.array([-0.1, np.nan], np.float32)}


def test_entries_come_back_bit_for_bit_in_another_process(tmp_path):
  journal.TrajectoryJournal(tmp_path, 12, 7).add('trajectory-00001', **ENTRY)
  found = journal.TrajectoryJournal(tmp_path, 12, 7).read()
  assert list(found) == ['trajectory-00001']
  assert {k: (v.dtype, v.tobytes()) for k, v in found['trajectory-00001'].items()} == {
    k: (v.dtype, v.tobytes()) for k, v in ENTRY.items()
  }


def test_entries_of_another_policy_or_step_do_not_count(tmp_path):
  journal.TrajectoryJournal(tmp_path, 12, 7).add('a', **ENTRY)
  assert journal.TrajectoryJournal(tmp_path, 12, 8).read() == {}
  assert journal.TrajectoryJournal(tmp_path, 13, 7).read() == {}


@pytest.mark.parametrize('keep', [0, 10, 0.5, -1])
def test_a_torn_entry_is_none(keep, tmp_path):
  kept = journal.TrajectoryJournal(tmp_path, 1, 7)
  kept.add('a', **ENTRY)
  kept.add('b', **ENTRY)
  path = tmp_path / 'journal' / 'step-000001' / 'a.npz'
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
  assert list(kept.read()) == ['b']


def test_a_flipped_bit_makes_no_entry(tmp_path):
  kept = journal.TrajectoryJournal(tmp_path, 1, 7)
  kept.add('a', ids=np.arange(100))
  path = tmp_path / 'journal' / 'step-000001' / 'a.npz'
  data = bytearray(path.read_bytes())
  data[300] ^= 1
  path.write_bytes(data)
  assert kept.read() == {}


def test_it_is_cleared(tmp_path):
  kept = journal.TrajectoryJournal(tmp_path, 1, 7)
  kept.clear()
  kept.add('a', **ENTRY)
  journal.TrajectoryJournal(tmp_path, 2, 7).clear()
  assert kept.read() == {} and not (tmp_path / 'journal').exists()


def test_the_name_of_the_policy_is_taken(tmp_path):
  with pytest.raises(ValueError, match='cannot be named'):
    journal.TrajectoryJournal(tmp_path, 1, 7).add('a', policy=np.zeros(1))
