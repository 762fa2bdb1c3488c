"""Configuration of a Qwen2.5, Qwen3 or Llama model, and presets. Names are Hugging Face's."""

import dataclasses

import jax
import jax.numpy as jnp

from lwz.model import yarn


@dataclasses.dataclass(frozen=True)
class QwenConfig:
  """Configuration of a Qwen2.5 model, or of a family that differs in `qkv_bias` and `qk_norm`.

                            Qwen2.5   Qwen3 (dense)   Llama
    qkv_bias, of q, k, v       yes         no           no
    qk_norm, of each head      no          yes          no

  `dtype` is the compute dtype; parameters keep the dtype in which they were created or loaded.
  `attention` is the backend for packed rows, not part of the model. `scalar_head` replaces the
  language-model head by one output per position (reward models).
  """

  vocab_size: int  # V
  hidden_size: int  # D
  intermediate_size: int  # F
  num_hidden_layers: int  # L
  num_attention_heads: int  # H
  num_key_value_heads: int  # K
  head_dim: int  # C
  max_position_embeddings: int
  rms_norm_eps: float = 1e-6
  rope_theta: float = 1_000_000.0
  rope_scaling: yarn.Yarn | yarn.Llama3 | None = None
  qkv_bias: bool = True
  qk_norm: bool = False  # RMS norms of each head of q and k, one weight of C per layer
  tie_word_embeddings: bool = False
  initializer_range: float = 0.02
  scalar_head: bool = False
  dtype: jax.typing.DTypeLike = jnp.bfloat16  # stored as a `jnp.dtype`
  attention: str = 'auto'  # a backend of `packed_attention.BACKENDS`

  def __post_init__(self):
    object.__setattr__(self, 'dtype', jnp.dtype(self.dtype))
    if self.num_attention_heads % self.num_key_value_heads:
      raise ValueError(
        f'num_attention_heads={self.num_attention_heads} is not a multiple of '
        f'num_key_value_heads={self.num_key_value_heads}'
      )
    if self.qkv_bias and self.qk_norm:
      raise ValueError('qkv_bias and qk_norm: no family has both; choose one')
    if self.head_dim < 2 or self.head_dim % 2:
      raise ValueError(f'head_dim={self.head_dim} must be even, 2 or more: RoPE rotates two halves')

  @property
  def num_positions(self) -> int:
    """Maximum length of a sequence, extended by YaRN; Llama 3's scaling is within it."""
    scaled = self.rope_scaling
    if not isinstance(scaled, yarn.Yarn):
      return self.max_position_embeddings
    stretched = round(scaled.factor * scaled.original_max_position_embeddings)
    return max(self.max_position_embeddings, stretched)


def _real(hidden, layers, heads, kv_heads, intermediate, vocab, tied, eps, positions):
  return QwenConfig(
    vocab_size=vocab,
    hidden_size=hidden,
    intermediate_size=intermediate,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    head_dim=hidden // heads,
    max_position_embeddings=positions,
    rms_norm_eps=eps,
    tie_word_embeddings=tied,
  )


def _qwen3(hidden, layers, heads, intermediate, tied, positions=32_768):
  return dataclasses.replace(
    _real(hidden, layers, heads, 8, intermediate, 151_936, tied, 1e-6, positions),
    head_dim=128,
    qkv_bias=False,
    qk_norm=True,
  )


def _pocket(hidden, layers, heads, kv_heads, intermediate, vocab, positions):
  return dataclasses.replace(
    _real(hidden, layers, heads, kv_heads, intermediate, vocab, True, 1e-6, positions),
    rope_theta=10_000.0,  # a base of 1e6 wastes most of the phases on a context this short
    dtype=jnp.float32,
  )


# `micro` and `tiny` are ours; the rest are the published base models (config.json of each), Qwen2.5
# where no family is named. Qwen3 has no base model of 32B: that is the chat model.
SIZES = {
  'micro': _pocket(32, 2, 4, 2, 64, 384, 256),
  'tiny': _pocket(128, 4, 4, 2, 384, 2_048, 512),
  '0.5b': _real(896, 24, 14, 2, 4_864, 151_936, True, 1e-6, 32_768),
  '1.5b': _real(1_536, 28, 12, 2, 8_960, 151_936, True, 1e-6, 131_072),
  '3b': _real(2_048, 36, 16, 2, 11_008, 151_936, True, 1e-6, 32_768),
  '7b': _real(3_584, 28, 28, 4, 18_944, 152_064, False, 1e-6, 131_072),
  '14b': _real(5_120, 48, 40, 8, 13_824, 152_064, False, 1e-5, 131_072),
  '32b': _real(5_120, 64, 40, 8, 27_648, 152_064, False, 1e-5, 131_072),
  '72b': _real(8_192, 80, 64, 8, 29_568, 152_064, False, 1e-5, 131_072),
  'qwen3-0.6b': _qwen3(1_024, 28, 16, 3_072, True),
  'qwen3-1.7b': _qwen3(2_048, 28, 16, 6_144, True),
  'qwen3-4b': _qwen3(2_560, 36, 32, 9_728, True),
  'qwen3-8b': _qwen3(4_096, 36, 32, 12_288, False),
  'qwen3-14b': _qwen3(5_120, 40, 40, 17_408, False),
  'qwen3-32b': _qwen3(5_120, 64, 64, 25_600, False, 40_960),
}


def preset(size: str) -> QwenConfig:
  """The configuration of a named size; `preset('32b').num_hidden_layers == 64`."""
  if size not in SIZES:
    raise ValueError(f'no size {size!r}: choose one of {", ".join(SIZES)}')
  return SIZES[size]
