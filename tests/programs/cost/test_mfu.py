"""The formula of a step's FLOPs against the products that a program of the model holds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.learn import logprob
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs.cost import flops, mfu
from tests import fakes


def test_it_is_what_the_jaxpr_of_a_plain_step_counts():
  # With neither remat nor chunks; its attention is not causal: the upper half is computed, too.
  config, B, T = fakes.config(), 3, 8
  ids = jnp.zeros((B, T), jnp.int32)

  def loss(params):
    logits = qwen.lm_head(params, qwen.forward(params, ids, config), config)
    return jnp.sum(logits)

  counted = flops.count(jax.make_jaxpr(jax.grad(loss))(fakes.params(config)))
  layers, queries = config.num_hidden_layers, config.num_attention_heads * config.head_dim
  upper_half = 6 * layers * queries * B * T**2
  np.testing.assert_allclose(mfu.train_flops(config, [T] * B) + upper_half, counted)


def test_by_hand():
  config = config_lib.preset('7b')
  weights = 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944) + 3584 * 152064
  attention = 6 * 28 * 28 * 128 * (1000**2 + 10**2)
  assert mfu.train_flops(config, [1000, 10]) == 6 * weights * 1010 + attention
  scalar = dataclasses.replace(config, scalar_head=True)
  assert mfu.train_flops(config, [1000, 10], frozen=True) == 4 * weights * 1010 + attention
  saved = mfu.train_flops(config, [7]) - mfu.train_flops(scalar, [7])
  assert saved == 6 * 7 * 3584 * (152064 - 1)


def test_the_formula_counts_nothing_that_the_log_probabilities_recompute():
  config, tokens = fakes.config(), 6
  args = jnp.ones((1, tokens, 16)), jnp.ones((16, 13)), jnp.zeros((1, tokens), jnp.int32)

  def loss(hidden, head):
    return jnp.sum(logprob.token_logprob(hidden, head, args[2], temperature=1.0, chunk=6)[0])

  counted = flops.count(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*args[:2]))
  assert counted == 4 * 2 * tokens * config.hidden_size * config.vocab_size  # of which 3 count


def test_a_device_without_a_published_peak_has_no_utilisation():
  assert mfu.mfu(1e12, 1.0) is None


def test_utilisation_is_a_share_of_the_peak(monkeypatch):
  peak = mfu.hardware.Chip('x', 1e12, 1.0, 1.0, 1.0)
  monkeypatch.setattr(mfu.hardware, 'local', lambda device: peak)
  assert mfu.mfu(4e12, 1.0) == pytest.approx(0.5)  # of 8 devices
