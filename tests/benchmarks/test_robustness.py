"""A part of the inputs of `benchmarks/robustness.py`: none fails."""

import pytest

from benchmarks import robustness


@pytest.mark.slow
def test_a_part_of_the_inputs_is_refused_or_survived():
  found = list(robustness.outcomes(seed=1, share=0.02))
  assert len(found) > 50
  assert not [one for one in found if one.result == 'failed']
  assert {'refused', 'survived'} == {one.result for one in found}
