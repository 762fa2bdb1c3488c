"""A record survives its line."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.store import record


def test_round_trip():
  records = [{'b': 1, 'a': [1.5, None, True]}, {'text': 'line\nbreak 你好\u2028'}]
  data = ''.join(map(record.encode, records)).encode()
  assert record.decode(data, 'f') == records
  assert list(record.decode(data, 'f')[0]) == ['b', 'a']


@pytest.mark.parametrize('value', [np.float32(0.5), jnp.float32(0.5), jnp.bfloat16(0.5), 0.5])
def test_scalars_of_any_library_are_numbers(value):
  assert json.loads(record.encode({'x': value})) == {'x': 0.5}


def test_integers_stay_integers():
  assert record.encode({'x': np.int32(3), 'y': True}) == '{"x": 3, "y": true}\n'


@pytest.mark.parametrize('value', [float('nan'), float('inf'), np.float32('-inf'), jnp.nan])
def test_what_is_not_finite_is_null(value):
  assert record.encode({'x': value, 'y': [value]}) == '{"x": null, "y": [null]}\n'


def test_an_array_is_refused():
  with pytest.raises(ValueError, match='ndarray has no place'):
    record.encode({'x': np.zeros(2)})


@pytest.mark.parametrize('torn', [b'{"a": 1', b'{"a": "\xe4\xbd', b'\x00\x00\x00', b'{"a": 1\n'])
def test_a_torn_last_line_is_left_out(torn):
  assert record.decode(b'{"a": 0}\n' + torn, 'f') == [{'a': 0}]


def test_a_broken_line_before_the_last_is_named():
  with pytest.raises(ValueError, match=r'f\.jsonl:2: '):
    record.decode(b'{"a": 0}\n{"a"\n{"a": 2}\n', 'f.jsonl')


def test_an_empty_file_has_no_records():
  assert record.decode(b'', 'f') == []
