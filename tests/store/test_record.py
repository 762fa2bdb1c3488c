"""A record survives its line."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.store import record


def test_round_trip():
  records = [{'b': 1, 'a': [1.5, None, True]}, {'text': 'line\nbreak 你好\u2028'}]
  lines = list(map(record.encode, records))
  assert [line.count('\n') for line in lines] == [1, 1]
  assert [json.loads(line) for line in lines] == records
  assert list(json.loads(lines[0])) == ['b', 'a']


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
