"""With one process all of it is free; what several say to each other is in tests/faults."""

import numpy as np
import pytest
from jax.experimental import multihost_utils

from lwz import hosts


@pytest.fixture
def two(monkeypatch):
  """Process 1 of two, whose other half holds what the returned function makes of its own bytes."""
  others = []

  def gather(own):
    other = others.pop(0)(own) if others else own
    return np.stack([other, own])

  monkeypatch.setattr(hosts.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(hosts.jax, 'process_index', lambda: 1)
  monkeypatch.setattr(multihost_utils, 'process_allgather', gather)
  return others


def test_one_process_has_what_it_has():
  assert hosts.first(lambda: 7) == 7
  assert hosts.all_gather(np.float64(0.1)).tolist() == [0.1]
  assert hosts.divide(np.square, np.arange(3.0)).tolist() == [0, 1, 4]
  hosts.check_same('this', {'a': 1})


def test_values_are_gathered_bit_for_bit(two):
  value = np.array([[0.1, np.nan]])
  found = hosts.all_gather(value)
  assert found.dtype == np.float64 and found.shape == (2, 1, 2)
  assert found[1].tobytes() == value.tobytes()


def test_only_the_first_works_and_its_error_reaches_all(two):
  assert hosts.first(lambda: pytest.fail('process 1 wrote')) is None
  two.append(lambda own: np.frombuffer(b'OSError: no room'.ljust(len(own), b'\0'), np.uint8))
  with pytest.raises(RuntimeError, match='process 0 stopped on OSError: no room'):
    hosts.first(lambda: None)


def test_arrays_that_differ_are_found(two):
  hosts.check_same('the batch', {'ids': np.arange(3)})
  two.append(lambda own: own + 1)
  with pytest.raises(RuntimeError, match='the batch is not the same in process 1 as in process 0'):
    hosts.check_same('the batch', {'ids': np.arange(3)})


@pytest.mark.parametrize('other', [np.arange(3.0), np.arange(3)[None], np.array([0, 1, 3])])
def test_a_checksum_tells_values_shapes_and_dtypes_apart(other):
  assert hosts.checksum({'a': np.arange(3)}) == hosts.checksum({'a': np.arange(3)})
  assert hosts.checksum({'a': np.arange(3)}) != hosts.checksum({'a': other})


def test_each_process_does_every_other_item(two):
  seen = []

  def work(items):
    seen.extend(items)
    return np.array(items) * 10.0

  two.append(lambda own: np.frombuffer(np.array([0.0, 20.0, 40.0]).tobytes(), np.uint8))
  assert hosts.divide(work, [0, 1, 2, 3, 4]).tolist() == [0, 10, 20, 30, 40]
  assert seen == [1, 3] == [i for i in range(5) if hosts.owns(i)]


def test_an_item_may_have_several_values_and_a_process_no_item(two):
  two.append(lambda own: np.frombuffer(np.array([[1.0, 2.0]]).tobytes(), np.uint8))
  assert hosts.divide(pytest.fail, ['group'], shape=(2,)).tolist() == [[1, 2]]
