"""A safetensors file of ours is what safetensors itself reads, and holds what was described."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors import numpy as reference

from lwz.store.hf import safetensors as ours

ARRAYS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b.weight': np.array([1.5, -2.0, 0.25], jnp.bfloat16),
  'c': np.full((1, 1, 5), 0.5, np.float16),
}
DESCRIBED = {name: (array.dtype, array.shape) for name, array in ARRAYS.items()}


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'x.safetensors'


def write(path, described, arrays):
  ours.write(epath.Path(path), described, arrays)


def test_it_is_read_by_safetensors(path):
  write(path, DESCRIBED, ARRAYS.values())
  loaded = reference.load_file(path)
  assert loaded.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    assert loaded[name].dtype == array.dtype
    np.testing.assert_array_equal(loaded[name], array)


def test_the_header_says_what_is_there_and_what_is_cut_off(path):
  write(path, DESCRIBED, ARRAYS.values())
  whole = {
    'a': ('F32', (2, 3), True),
    'b.weight': ('BF16', (3,), True),
    'c': ('F16', (1, 1, 5), True),
  }
  assert ours.header(path) == whole
  path.write_bytes(path.read_bytes()[:-11])
  lost = {name for name, entry in ours.header(path).items() if not entry.whole}
  assert lost == {'b.weight', 'c'}
  with pytest.raises(ValueError, match=r'x\.safetensors: .*download the file again'):
    ours.read(path, 'a', (slice(None), slice(None)))


def test_an_array_that_is_not_as_described_stops_the_writing(path):
  with pytest.raises(ValueError, match=r'b\.weight is bfloat16'):
    write(path, DESCRIBED | {'b.weight': (np.dtype('float32'), (3,))}, ARRAYS.values())
  with pytest.raises(ValueError):
    write(path, DESCRIBED, list(ARRAYS.values())[:2])


def test_arrays_are_taken_one_by_one(path):
  taken = []

  def arrays():
    for name, array in ARRAYS.items():
      taken.append(name)
      yield array.T if name == 'a' else array

  with pytest.raises(ValueError, match=r'a is float32 \(3, 2\)'):
    write(path, DESCRIBED, arrays())
  assert taken == ['a']


GOOD_ENTRY = {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}
HEADERS = [
  '[]',
  'null',
  '7',
  '{"a": 1}',
  '{"a": []}',
  '{"a": null}',
  '[' * 100_000,
  '{"a":' * 100_000,
  *(
    json.dumps({'a': GOOD_ENTRY | change})
    for change in (
      {'shape': 'x'},
      {'shape': 2},
      {'shape': [-1]},
      {'shape': [2.5]},
      {'shape': ['2']},
      {'shape': [10**400]},
      {'shape': None},
      {'data_offsets': [0]},
      {'data_offsets': []},
      {'data_offsets': [0, 4, 8]},
      {'data_offsets': 8},
      {'data_offsets': ['0', '8']},
      {'data_offsets': [0, 10**400]},
      {'data_offsets': [-8, 8]},
      {'data_offsets': None},
    )
  ),
]


@pytest.mark.parametrize('text', HEADERS, ids=lambda text: text[:60])
def test_a_header_of_another_shape_is_refused(path, text):
  path.write_bytes(len(text).to_bytes(8, 'little') + text.encode() + bytes(8))
  with pytest.raises(ValueError, match=r'x\.safetensors: no whole safetensors header'):
    ours.header(path)


@pytest.mark.parametrize('claimed', [6 << 30, 2**63, 2**64 - 1, 100_000_001])
def test_a_header_that_claims_gigabytes_is_not_read(path, claimed):
  with path.open('wb') as file:
    file.write(claimed.to_bytes(8, 'little') + b'{')
    file.truncate(7 << 30)  # sparse: nothing on the disk, gigabytes once it is read
  with pytest.raises(ValueError, match='no whole safetensors header'):
    ours.header(path)


@pytest.mark.parametrize('size', range(9))
def test_a_file_without_room_for_a_header_is_refused(path, size):
  path.write_bytes(bytes(size))
  with pytest.raises(ValueError, match='no whole safetensors header'):
    ours.header(path)
