"""Every parameter of the model, once: shape, dtype, logical axes, initial value, weight decay.

Abstract trees, initial values, sharding, what decays, the optimiser's matrices and the names of
checkpoints derive from `describe`.
"""

import dataclasses
import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from lwz.model import config as config_lib

QwenConfig = config_lib.QwenConfig
Params = Any  # a nested dict with the structure of `describe(config)`


@dataclasses.dataclass(frozen=True)
class Param:
  """One parameter: its shape, the logical axis of each dimension, its initial value."""

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  init: str  # 'normal' (std initializer_range), 'zeros' or 'ones'
  decay: bool = False  # whether weight decay pulls it to 0: matrices, but no norm, bias or vector
  dtype: Any = jnp.float32
  of_groups: bool = False  # scales of a quantised matrix: what the mesh does not divide stays whole


def describe(config: QwenConfig) -> dict:
  """Every parameter of the model, once. Leaves of `layers` are stacked over L.

  >>> describe(config_lib.preset('32b'))['layers']['wq'].shape
  (64, 5120, 40, 128)
  """
  V, D, F = config.vocab_size, config.hidden_size, config.intermediate_size
  L, H, K, C = (
    config.num_hidden_layers,
    config.num_attention_heads,
    config.num_key_value_heads,
    config.head_dim,
  )
  layers = {
    'attention_norm': Param((L, D), ('layers', 'embed'), 'ones'),
    'wq': Param((L, D, H, C), ('layers', 'embed', 'heads', 'head_dim'), 'normal', decay=True),
    'wk': Param((L, D, K, C), ('layers', 'embed', 'kv_heads', 'head_dim'), 'normal', decay=True),
    'wv': Param((L, D, K, C), ('layers', 'embed', 'kv_heads', 'head_dim'), 'normal', decay=True),
    'wo': Param((L, H, C, D), ('layers', 'heads', 'head_dim', 'embed'), 'normal', decay=True),
    'mlp_norm': Param((L, D), ('layers', 'embed'), 'ones'),
    'w_gate': Param((L, D, F), ('layers', 'embed', 'mlp'), 'normal', decay=True),
    'w_up': Param((L, D, F), ('layers', 'embed', 'mlp'), 'normal', decay=True),
    'w_down': Param((L, F, D), ('layers', 'mlp', 'embed'), 'normal', decay=True),
  }
  if config.qkv_bias:
    layers |= {
      'bq': Param((L, H, C), ('layers', 'heads', 'head_dim'), 'zeros'),
      'bk': Param((L, K, C), ('layers', 'kv_heads', 'head_dim'), 'zeros'),
      'bv': Param((L, K, C), ('layers', 'kv_heads', 'head_dim'), 'zeros'),
    }
  if config.qk_norm:
    layers |= {name: Param((L, C), ('layers', 'head_dim'), 'ones') for name in ('q_norm', 'k_norm')}
  params = {
    'embed': Param((V, D), ('vocab', 'embed'), 'normal', decay=True),
    'layers': layers,
    'norm': Param((D,), ('embed',), 'ones'),
  }
  if config.scalar_head:
    params['score'] = Param((D,), ('embed',), 'normal')
  elif not config.tie_word_embeddings:
    params['head'] = Param((D, V), ('embed', 'vocab'), 'normal', decay=True)
  return params


def is_param(x) -> bool:
  return isinstance(x, Param)


def decay_mask(described: dict) -> Params:
  """Returns, for every parameter of `describe(config)`, whether weight decay applies to it."""
  return jax.tree.map(lambda p: p.decay, described, is_leaf=is_param)


def matrices(described: dict) -> Params:
  """Returns the `dimensions` of each matrix of the layers, and None for the rest.

  >>> matrices(describe(config_lib.preset('32b')))['layers']['wo']
  ((1, 2), (3,))
  """
  return jax.tree.map(
    lambda p: dimensions(p) if is_matrix(p) else None, described, is_leaf=is_param
  )


def is_matrix(param: Param) -> bool:
  """Returns whether it is a matrix of the layers."""
  return param.decay and param.axes[0] == 'layers'


def dimensions(param: Param) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Returns the (input, output) dimensions of a matrix of the layers."""
  split = 2 if param.axes[1] in ('embed', 'rank') else len(param.axes) - 1
  return tuple(range(1, split)), tuple(range(split, len(param.axes)))


def init(key: jax.Array, config: QwenConfig) -> Params:
  """Random parameters. The value of a leaf depends on its name alone, not on the other leaves."""
  return init_of(key, config, describe(config))


def init_of(key: jax.Array, config: QwenConfig, described: dict) -> Params:
  """Random parameters of these descriptions, as `init` gives them."""

  def initial(path, param):
    if param.init == 'normal':
      name = zlib.crc32(jax.tree_util.keystr(path).encode()) & 0x7FFFFFFF
      name_key = jax.random.fold_in(key, name)
      return config.initializer_range * jax.random.normal(name_key, param.shape, param.dtype)
    return jnp.full(param.shape, {'zeros': 0, 'ones': 1}[param.init], param.dtype)

  return jax.tree_util.tree_map_with_path(initial, described, is_leaf=is_param)


def unstack(params: Params) -> Params:
  """Returns the same parameters with `layers` as a tuple of trees, one per layer."""
  num_layers = jax.tree.leaves(params['layers'])[0].shape[0]
  layers = tuple(jax.tree.map(lambda x, i=i: x[i], params['layers']) for i in range(num_layers))
  return {**params, 'layers': layers}


def num_params(config: QwenConfig) -> int:
  """Number of parameters, tied embeddings counted once: 32,763,876,352 for `32b`."""
  return num_of(describe(config))


def num_of(described: dict) -> int:
  """Number of the parameters that are described."""
  leaves = jax.tree.leaves(described, is_leaf=is_param)
  return sum(math.prod(param.shape) for param in leaves)
