"""Held-out losses of next-token training."""

import math

from lwz.runtime import next_token


def test_a_perplexity_beyond_all_numbers_is_infinite_and_ends_no_run():
  found = next_token._evaluate(lambda params, batch: (batch, 2.0), None, {'heldout': [2e4, 2e4]})
  assert found == {'heldout/loss': 1e4, 'heldout/perplexity': math.inf}
  found = next_token._evaluate(lambda params, batch: (batch, 2.0), None, {'heldout': [2.0]})
  assert found == {'heldout/loss': 1.0, 'heldout/perplexity': math.e}
  assert math.isnan(
    next_token._evaluate(lambda *_: (math.nan, 1.0), None, {'a': [0]})['a/perplexity']
  )
