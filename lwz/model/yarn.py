"""YaRN (arXiv 2309.00071): rotary frequencies stretched so that a model reads further than it was
trained to. Llama 3's own way of it, which scales nothing else, stands beside it.

Pairs that turn often within the length of training keep their frequency, pairs that never turn once
are slowed by the factor, and those between are mixed. Scores are sharpened a little, by a factor
on both cos and sin.
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Yarn:
  """`rope_scaling` of a config.json, in its names.

  Qwen2.5's model cards, for 131,072 tokens: `Yarn(4.0, original_max_position_embeddings=32_768)`.
  """

  factor: float
  original_max_position_embeddings: int
  attention_factor: float | None = None  # of cos and sin; None: 0.1 ln(factor) + 1
  beta_fast: float = 32.0  # turns within the length of training from which a pair is kept
  beta_slow: float = 1.0  # turns up to which it is slowed by the factor
  truncate: bool = True  # whether the ramp between them begins and ends at whole pairs

  def __post_init__(self):
    if self.factor < 1:
      raise ValueError(f'rope_scaling.factor={self.factor} is less than 1')
    if self.original_max_position_embeddings < 1:
      length = self.original_max_position_embeddings
      raise ValueError(f'rope_scaling.original_max_position_embeddings={length} is less than 1')
    if not self.beta_fast > self.beta_slow > 0:
      raise ValueError(
        f'rope_scaling: beta_fast={self.beta_fast} must exceed beta_slow={self.beta_slow} > 0'
      )


@dataclasses.dataclass(frozen=True)
class Llama3:
  """`rope_scaling` of kind llama3 in a config.json, in its names (arXiv 2407.21783)."""

  factor: float
  low_freq_factor: float  # turns within the length of training up to which a pair is slowed
  high_freq_factor: float  # turns from which it is kept
  original_max_position_embeddings: int

  def __post_init__(self):
    if not self.high_freq_factor > self.low_freq_factor > 0:
      raise ValueError(
        f'rope_scaling: high_freq_factor={self.high_freq_factor} must exceed '
        f'low_freq_factor={self.low_freq_factor} > 0'
      )


def attention_factor(yarn: Yarn | Llama3) -> float:
  """The factor of cos and sin: the square root of Eq. 22's 1/t, unless the file gives one."""
  if isinstance(yarn, Llama3):
    return 1.0
  if yarn.attention_factor is not None:
    return yarn.attention_factor
  return 0.1 * math.log(yarn.factor) + 1


def stretch(inv_freq_c: Float[Array, 'c'], theta: float, yarn: Yarn | Llama3) -> Float[Array, 'c']:
  """Inverse frequencies by parts (section 3.2, "NTK-by-parts"): (1 - r) f / factor + r f.

  r falls from 1 to 0 between the pairs that turn `beta_fast` and `beta_slow` times; Llama 3's is
  linear in the number of turns, not in the index of the pair.
  """
  if isinstance(yarn, Llama3):
    turns_c = inv_freq_c * yarn.original_max_position_embeddings / (2 * math.pi)
    width = yarn.high_freq_factor - yarn.low_freq_factor
    kept_c = jnp.clip((turns_c - yarn.low_freq_factor) / width, 0, 1)
    return (1 - kept_c) * inv_freq_c / yarn.factor + kept_c * inv_freq_c
  num_pairs = inv_freq_c.shape[0]

  def pair_that_turns(times: float) -> float:
    wavelength = yarn.original_max_position_embeddings / times
    return num_pairs * math.log(wavelength / (2 * math.pi)) / math.log(theta)

  low, high = pair_that_turns(yarn.beta_fast), pair_that_turns(yarn.beta_slow)
  if yarn.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, 2 * num_pairs - 1)
  width = high - low or 0.001
  slowed_c = jnp.clip((jnp.arange(num_pairs, dtype=jnp.float32) - low) / width, 0, 1)
  return inv_freq_c / yarn.factor * slowed_c + inv_freq_c * (1 - slowed_c)


def slowdown(head_dim: int, theta: float, yarn: Yarn | Llama3) -> Float[Array, 'c']:
  """Returns by how much each frequency of a head is divided, as a GGUF file keeps it."""
  inv_freq_c = 1.0 / theta ** (jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
  return inv_freq_c / stretch(inv_freq_c, theta, yarn)
