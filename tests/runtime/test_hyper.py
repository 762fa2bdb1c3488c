"""Arithmetic of sweeps."""

import numpy as np
import pytest

from lwz.runtime import hyper as h


def test_a_product_has_every_combination_the_last_varying_fastest():
  arms = h.product([h.sweep('a', [1, 2]), h.sweep('b.c', 'xy')])
  assert arms == [{'a': a, 'b.c': b} for a in (1, 2) for b in 'xy']
  assert len(h.product([arms, h.sweep('seed', range(3))])) == 12


def test_zipped_parts_go_together_and_a_single_arm_with_all():
  arms = h.zipit(
    [h.sweep('seed', [1, 2]), h.sweep('needs_seed', [1, 2]), h.fixed('rl.loss', 'gspo')]
  )
  assert arms == [{'seed': s, 'needs_seed': s, 'rl.loss': 'gspo'} for s in (1, 2)]
  assert h.zipit([h.sweep('a', [1, 2]), h.fixed('b', 0, 2)]) == [{'a': 1, 'b': 0}, {'a': 2, 'b': 0}]


def test_chained_parts_follow_each_other():
  assert h.chainit([h.sweep('a', [1]), h.product([h.sweep('b', [2, 3])])]) == [
    {'a': 1},
    {'b': 2},
    {'b': 3},
  ]


def test_the_prefix_of_a_key_may_be_there():
  assert h.sweep('config.rl.loss', ['grpo']) == h.sweep('rl.loss', ['grpo'])


def test_values_of_numpy_are_numbers_that_a_command_line_can_hold():
  rates = h.sweep('train.learning_rate', np.array([1e-3, 1e-4]))
  assert [repr(arm['train.learning_rate']) for arm in rates] == ['0.001', '0.0001']
  assert repr(h.sweep('seed', np.arange(2))) == "[{'seed': 0}, {'seed': 1}]"


def test_arms_are_not_shared():
  part = h.sweep('a', [1])
  h.chainit([part])[0]['a'] = 2
  h.product([part])[0]['a'] = 2
  assert part == [{'a': 1}]


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (lambda: h.product([h.sweep('a', [1]), h.sweep('a', [2])]), 'a: two parts'),
    (lambda: h.zipit([h.sweep('a', [1, 2]), h.sweep('b', [1, 2, 3])]), r'\[2, 3\] arms'),
    (lambda: h.sweep('a', []), 'at least one value'),
  ],
)
def test_what_is_no_sweep_is_refused(wrong, message):
  with pytest.raises(ValueError, match=message):
    wrong()
