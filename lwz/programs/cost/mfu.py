"""Model FLOPs utilisation: the share of the devices' peak that went into the model.

Counted are the operations that the mathematics of a step needs, and no others: what is computed
again to save memory, padding, and the upper half of causal attention do not count. What a compiled
program really does is counted by `flops`.
"""

from collections.abc import Sequence

import jax
import numpy as np

from lwz.model import config as config_lib
from lwz.programs.cost import hardware


def train_flops(
  config: config_lib.QwenConfig, lengths: Sequence[int] | np.ndarray, *, frozen: bool = False
) -> float:
  """FLOPs of one forward and backward pass over sequences of these lengths.

      6 N sum(t) + 6 L H C sum(t^2)

  N counts the weights of matrix products, L (2 D H C + 2 D K C + 3 D F) + D V: without embedding
  lookup, norms and biases, a tied head counted once. Every weight takes 2 FLOPs per token forward
  and 4 backward; attention's two products take 4 H C per pair of tokens and layer forward, twice
  that backward, and half of the pairs are causal (PaLM, arXiv 2204.02311, appendix B, there
  without the half). A `frozen` weight has no gradient of its own, and takes 2 backward; its adapter
  is not counted.
  """
  D, F, L = config.hidden_size, config.intermediate_size, config.num_hidden_layers
  queries = config.num_attention_heads * config.head_dim
  keys = config.num_key_value_heads * config.head_dim
  out = 1 if config.scalar_head else config.vocab_size
  weights = L * (2 * D * queries + 2 * D * keys + 3 * D * F) + D * out
  tokens = np.asarray(lengths, np.float64)
  return float(
    (4 if frozen else 6) * weights * tokens.sum() + 6 * L * queries * np.square(tokens).sum()
  )


def mfu(flops: float, seconds: float) -> float | None:
  """Model FLOPs utilisation: flops / (seconds x devices x peak); None where no peak is known.

  The peak is the published dense bf16 one of the attached devices; a CPU has none.
  """
  peak = hardware.local(jax.local_devices()[0]).flops
  return flops / (seconds * jax.device_count() * peak) if peak else None
