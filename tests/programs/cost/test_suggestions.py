"""What to change follows from what is needed."""

import pytest

from lwz.programs.cost import fit, suggestions

GIB = 2**30


def estimate(*, arguments, needed, capacity=16, tensor=2, devices=16, residents=0, part='learn'):
  measured = fit.Fit(
    'grpo', {'tensor': tensor}, devices, True, 0, arguments * GIB, peak=needed * GIB
  )
  return fit.Estimate(part, measured, {'reward model': residents * GIB}, capacity * GIB)


def keys(found, **given):
  options = {'name': 'v5e:4x4', 'micro_rows': 1, 'heads': 40, 'remat': 'full'} | given
  return [one.keys for one in suggestions.suggest(found, **options)]


def test_fewer_rows_where_rows_are_many():
  # 20 GiB to work in, 11.2 free: half of the rows.
  found = keys(estimate(arguments=4, needed=24), micro_rows=4)
  assert found[0] == {'train.micro_rows': 2}
  assert {'mesh.tensor': 4} in found


def test_less_kept_where_more_is_kept_than_must_be():
  assert keys(estimate(arguments=4, needed=24), remat='none')[0] == {'train.remat': 'full'}


def test_only_ways_that_divide_the_heads():
  # 3 times as much as is free asks for 8-way tensor at least; 14 heads have no such divisor.
  one = estimate(arguments=4, needed=4 + 3 * 11.2)
  assert {'mesh.tensor': 8} in keys(one)
  assert not [k for k in keys(one, heads=14) if 'mesh.tensor' in k]


def test_more_devices_where_what_stays_is_too_much():
  # 40 GiB stay on each of 16: at least 16 x 40 / (0.95 x 16 - 2) = 48.5 devices.
  assert keys(estimate(arguments=30, residents=10, needed=32)) == [
    {'preflight.topology': 'v5e:8x8'}
  ]
  large = keys(estimate(arguments=30, residents=10, needed=32), name='gpu:h100:2x8')
  assert large == [{'preflight.topology': 'gpu:h100:8x8'}]


def test_nothing_larger_is_invented():
  assert keys(estimate(arguments=3_000, needed=3_001), name='v5e:16x16') == []
  assert keys(estimate(arguments=30, needed=31), name='local') == []


@pytest.mark.parametrize('part', ['write', 'judge'])
def test_each_suggestion_says_why(part):
  options = {'name': 'v5e:4x4', 'micro_rows': 8, 'heads': 40, 'remat': 'full'}
  for one in suggestions.suggest(estimate(arguments=4, needed=24, part=part), **options):
    assert 'GiB' in one.reason
