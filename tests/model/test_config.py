"""The sizes are those of the published models, to the last parameter."""

import math

import jax
import jax.numpy as jnp
import pytest

from lwz.model import config as config_lib
from lwz.model import qwen
from tests import fakes

# arXiv 2412.15115, 2505.09388 and the config.json of each base model: hidden, layers, heads,
# key-value heads, intermediate, vocabulary, tied, eps, positions. Then what follows from them by
# arithmetic: parameters (tied counted once), those outside the embeddings, bytes of bf16 cache per
# token.
PUBLISHED = {
  '0.5b': (896, 24, 14, 2, 4_864, 151_936, True, 1e-6, 32_768),
  '1.5b': (1_536, 28, 12, 2, 8_960, 151_936, True, 1e-6, 131_072),
  '3b': (2_048, 36, 16, 2, 11_008, 151_936, True, 1e-6, 32_768),
  '7b': (3_584, 28, 28, 4, 18_944, 152_064, False, 1e-6, 131_072),
  '14b': (5_120, 48, 40, 8, 13_824, 152_064, False, 1e-5, 131_072),
  '32b': (5_120, 64, 40, 8, 27_648, 152_064, False, 1e-5, 131_072),
  '72b': (8_192, 80, 64, 8, 29_568, 152_064, False, 1e-5, 131_072),
  'qwen3-0.6b': (1_024, 28, 16, 8, 3_072, 151_936, True, 1e-6, 32_768),
  'qwen3-1.7b': (2_048, 28, 16, 8, 6_144, 151_936, True, 1e-6, 32_768),
  'qwen3-4b': (2_560, 36, 32, 8, 9_728, 151_936, True, 1e-6, 32_768),
  'qwen3-8b': (4_096, 36, 32, 8, 12_288, 151_936, False, 1e-6, 32_768),
  'qwen3-14b': (5_120, 40, 40, 8, 17_408, 151_936, False, 1e-6, 32_768),
  'qwen3-32b': (5_120, 64, 64, 8, 25_600, 151_936, False, 1e-6, 40_960),
}
COUNTS = {
  '0.5b': (494_032_768, 357_898_112, 12_288),
  '1.5b': (1_543_714_304, 1_310_340_608, 28_672),
  '3b': (3_085_938_688, 2_774_773_760, 36_864),
  '7b': (7_615_616_512, 6_525_621_760, 57_344),
  '14b': (14_770_033_664, 13_212_898_304, 196_608),
  '32b': (32_763_876_352, 31_206_740_992, 262_144),
  '72b': (72_706_203_648, 70_214_787_072, 327_680),
  'qwen3-0.6b': (596_049_920, 440_467_456, 114_688),
  'qwen3-1.7b': (1_720_574_976, 1_409_410_048, 114_688),
  'qwen3-4b': (4_022_468_096, 3_633_511_936, 147_456),
  'qwen3-8b': (8_190_735_360, 6_946_075_648, 147_456),
  'qwen3-14b': (14_768_307_200, 13_212_482_560, 163_840),
  'qwen3-32b': (32_762_123_264, 31_206_298_624, 262_144),
}


def size_of(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('size', PUBLISHED)
def test_a_real_size_is_the_published_one(size):
  c = config_lib.preset(size)
  assert PUBLISHED[size] == (
    c.hidden_size,
    c.num_hidden_layers,
    c.num_attention_heads,
    c.num_key_value_heads,
    c.intermediate_size,
    c.vocab_size,
    c.tie_word_embeddings,
    c.rms_norm_eps,
    c.max_position_embeddings,
  )
  assert c.head_dim == (64 if size == '0.5b' else 128)
  assert (c.rope_theta, c.initializer_range, c.dtype) == (1e6, 0.02, jnp.bfloat16)
  assert not c.scalar_head


@pytest.mark.parametrize('size', PUBLISHED)
def test_counts_are_the_published_ones(size):
  c = config_lib.preset(size)
  total, inside, cache_bytes = COUNTS[size]
  drawn = jax.eval_shape(lambda key: qwen.init(key, c), jax.random.key(0))
  assert qwen.num_params(c) == size_of(drawn) == total
  tables = {name: drawn[name] for name in ('embed', 'head') if name in drawn}
  assert total - size_of(tables) == inside
  per_token = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * c.dtype.itemsize
  assert per_token == cache_bytes


def test_all_sizes_of_the_plan_are_there():
  assert tuple(config_lib.SIZES) == ('micro', 'tiny', *PUBLISHED)


@pytest.mark.parametrize('size', ['micro', 'tiny'])
def test_pocket_sizes_compute_in_float32(size):
  assert config_lib.preset(size).dtype == jnp.float32


def test_a_wrong_size_is_told_the_right_ones():
  with pytest.raises(ValueError, match=r"no size '33b': choose one of micro, tiny, 0\.5b"):
    config_lib.preset('33b')


@pytest.mark.parametrize(
  'changes, complaint',
  [
    ({'num_key_value_heads': 3}, 'num_attention_heads=4 is not a multiple'),
    ({'qk_norm': True}, 'qkv_bias and qk_norm: no family has both'),
    ({'head_dim': 5}, 'head_dim=5 must be even'),
    ({'head_dim': 0}, 'head_dim=0 must be even, 2 or more'),
  ],
)
def test_an_impossible_shape_is_refused(changes, complaint):
  with pytest.raises(ValueError, match=complaint):
    fakes.config(**changes)


def test_a_config_is_a_key_however_its_dtype_was_written():
  a, b, c = (fakes.config(dtype=d) for d in ('bfloat16', jnp.bfloat16, jnp.float32))
  assert a == b and hash(a) == hash(b) and a != c
