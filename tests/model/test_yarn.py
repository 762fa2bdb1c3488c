"""YaRN: what is kept, what is slowed, and the published numbers of transformers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import yarn
from lwz.model.attention import reference as reference_attention

QWEN = yarn.Yarn(4.0, original_max_position_embeddings=32_768)


def inv_freq(theta, head_dim):
  return jnp.asarray(theta ** (-np.arange(0, head_dim, 2) / head_dim), jnp.float32)


def test_fast_pairs_are_kept_slow_ones_are_slowed_and_none_leaves_the_two():
  plain = inv_freq(1e6, 128)
  turns = QWEN.original_max_position_embeddings * np.asarray(plain) / (2 * np.pi)
  ratio = np.asarray(yarn.stretch(plain, 1e6, QWEN) / plain)
  np.testing.assert_array_equal(ratio[turns > 32 * 1.3], 1)  # whole pairs: one may lie between
  np.testing.assert_allclose(ratio[turns < 1 / 1.3], 1 / 4)
  assert (np.diff(ratio) <= 0).all()
  between = ratio[(turns < 32) & (turns > 1)]
  assert len(between) > 5 and ((between > 1 / 4) & (between < 1)).all()


@pytest.mark.parametrize('theta, head_dim', [(1e6, 128), (1e4, 64), (100.0, 8)])
@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'factor': 1.0},
    {'attention_factor': 1.3},
    {'beta_fast': 8.0, 'beta_slow': 0.5, 'truncate': False},
    {'original_max_position_embeddings': 5},  # no pair turns even once
  ],
)
def test_frequencies_are_those_of_transformers(theta, head_dim, changes):
  torch = pytest.importorskip('torch')
  import transformers
  from transformers import modeling_rope_utils

  said = {'factor': 4.0, 'original_max_position_embeddings': 4_096} | changes
  config = transformers.Qwen2Config(
    head_dim=head_dim,
    max_position_embeddings=4_096,
    rope_parameters={'rope_type': 'yarn', 'rope_theta': theta} | said,
  )
  expected, factor = modeling_rope_utils.ROPE_INIT_FUNCTIONS['yarn'](config, torch.device('cpu'))
  ours = yarn.Yarn(**said)
  np.testing.assert_allclose(
    yarn.stretch(inv_freq(theta, head_dim), theta, ours), expected.numpy(), rtol=1e-6
  )
  assert yarn.attention_factor(ours) == pytest.approx(factor)


def test_llama_3_slows_what_turns_seldom_and_scales_nothing_else():
  scaling = yarn.Llama3(8.0, 1.0, 4.0, 8_192)
  plain = inv_freq(5e5, 64)
  turns = 8_192 * np.asarray(plain) / (2 * np.pi)
  ratio = np.asarray(yarn.stretch(plain, 5e5, scaling) / plain)
  np.testing.assert_allclose(ratio, 1 / 8 + np.clip((turns - 1) / 3, 0, 1) * 7 / 8, rtol=1e-6)
  assert yarn.attention_factor(scaling) == 1 and {ratio.min(), ratio.max()} == {0.125, 1.0}


def test_phases_are_stretched_and_both_are_scaled():
  positions = jnp.array([[0, 3, 31_000]])
  cos, sin = reference_attention.rope_phases(positions, 64, 1e6, QWEN)
  scale = 0.1 * math.log(4) + 1
  np.testing.assert_allclose(cos**2 + sin**2, scale**2, rtol=1e-5)
  phase = np.arctan2(sin, cos)[0, 1]
  np.testing.assert_allclose(phase, 3 * yarn.stretch(inv_freq(1e6, 64), 1e6, QWEN), rtol=1e-4)


def test_a_config_with_yarn_is_a_key():
  assert hash(QWEN) == hash(yarn.Yarn(4.0, 32_768)) and yarn.Yarn(2.0, 32_768) != QWEN
