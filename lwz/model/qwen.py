"""Qwen2.5 (arXiv 2412.15115) as a description of its parameters and pure functions over them.

`describe` names every parameter once; abstract trees, initial values, sharding and names of
checkpoints derive from it. Training and decoding run the same `_layer`; they differ in the
`attend` they hand it.

    x = embed(ids)
    for each layer:   x = x + attention(norm(x)),   x = x + swiglu(norm(x))
    hidden = norm(x)
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lwz.model import attention
from lwz.model import cache as cache_lib
from lwz.model import config as config_lib

QwenConfig = config_lib.QwenConfig
Params = Any  # a nested dict with the structure of `describe(config)`

# What a layer keeps for its backward pass: everything; the results of its weight matrices, so that
# attention is computed again; nothing but its input.
REMAT: dict[str, Callable[[Callable], Callable]] = {
  'none': lambda layer: layer,
  'dots': functools.partial(
    jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  ),
  'full': jax.checkpoint,
}


@dataclasses.dataclass(frozen=True)
class Param:
  """One parameter: its shape, the logical axis of each dimension, how it begins."""

  shape: tuple[int, ...]
  axes: tuple[str, ...]
  init: str  # 'normal' (std initializer_range), 'zeros' or 'ones'
  dtype: Any = jnp.float32


def describe(config: QwenConfig) -> dict:
  """Every parameter of the model, once. Leaves of `layers` are stacked over L.

  >>> describe(preset('32b'))['layers']['wq'].shape
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
    'wq': Param((L, D, H, C), ('layers', 'embed', 'heads', 'head_dim'), 'normal'),
    'bq': Param((L, H, C), ('layers', 'heads', 'head_dim'), 'zeros'),
    'wk': Param((L, D, K, C), ('layers', 'embed', 'kv_heads', 'head_dim'), 'normal'),
    'bk': Param((L, K, C), ('layers', 'kv_heads', 'head_dim'), 'zeros'),
    'wv': Param((L, D, K, C), ('layers', 'embed', 'kv_heads', 'head_dim'), 'normal'),
    'bv': Param((L, K, C), ('layers', 'kv_heads', 'head_dim'), 'zeros'),
    'wo': Param((L, H, C, D), ('layers', 'heads', 'head_dim', 'embed'), 'normal'),
    'mlp_norm': Param((L, D), ('layers', 'embed'), 'ones'),
    'w_gate': Param((L, D, F), ('layers', 'embed', 'mlp'), 'normal'),
    'w_up': Param((L, D, F), ('layers', 'embed', 'mlp'), 'normal'),
    'w_down': Param((L, F, D), ('layers', 'mlp', 'embed'), 'normal'),
  }
  params = {
    'embed': Param((V, D), ('vocab', 'embed'), 'normal'),
    'layers': layers,
    'norm': Param((D,), ('embed',), 'ones'),
  }
  if config.scalar_head:
    params['score'] = Param((D,), ('embed',), 'normal')
  elif not config.tie_word_embeddings:
    params['head'] = Param((D, V), ('embed', 'vocab'), 'normal')
  return params


def is_param(x) -> bool:
  return isinstance(x, Param)


def abstract(config: QwenConfig) -> Params:
  """The parameters as shapes and dtypes, without memory."""
  return jax.tree.map(
    lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), describe(config), is_leaf=is_param
  )


def init(key: jax.Array, config: QwenConfig) -> Params:
  """Random parameters. A leaf's draw depends on its name alone, not on the other leaves."""

  def draw(path, param):
    if param.init == 'normal':
      name_key = jax.random.fold_in(key, _crc(jax.tree_util.keystr(path)))
      return config.initializer_range * jax.random.normal(name_key, param.shape, param.dtype)
    return jnp.full(param.shape, {'zeros': 0, 'ones': 1}[param.init], param.dtype)

  return jax.tree_util.tree_map_with_path(draw, describe(config), is_leaf=is_param)


def _crc(text: str) -> int:
  return zlib.crc32(text.encode()) & 0x7FFFFFFF


def num_params(config: QwenConfig) -> int:
  """Number of parameters, tied embeddings counted once: 32,763,876,352 for `32b`."""
  total = 0
  for param in jax.tree.leaves(describe(config), is_leaf=is_param):
    size = 1
    for dim in param.shape:
      size *= dim
    total += size
  return total


def rms_norm(
  x_BTD: Float[Array, 'B T D'], weight_D: Float[Array, 'D'], eps: float
) -> Float[Array, 'B T D']:
  """x / sqrt(mean(x^2) + eps) in float32, cast down, then times the weight (arXiv 1910.07467)."""
  x32 = x_BTD.astype(jnp.float32)
  normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
  return normed.astype(x_BTD.dtype) * weight_D.astype(x_BTD.dtype)[None, None, :]


def _layer(x_BTD, weights, config: QwenConfig, phases, attend: Callable):
  """One decoder layer. `attend(q, k, v) -> (output, carry)` owns masks and cache."""
  w = jax.tree.map(lambda leaf: leaf.astype(config.dtype), weights)
  cos, sin = phases
  h_BTD = rms_norm(x_BTD, weights['attention_norm'], config.rms_norm_eps)
  q_BTHC = jnp.einsum('btd,dhc->bthc', h_BTD, w['wq']) + w['bq'][None, None]
  k_BTKC = jnp.einsum('btd,dkc->btkc', h_BTD, w['wk']) + w['bk'][None, None]
  v_BTKC = jnp.einsum('btd,dkc->btkc', h_BTD, w['wv']) + w['bv'][None, None]
  q_BTHC = attention.rotate(q_BTHC, cos, sin)
  k_BTKC = attention.rotate(k_BTKC, cos, sin)
  k_BKTC, v_BKTC = (x.transpose(0, 2, 1, 3) for x in (k_BTKC, v_BTKC))
  mixed_BTHC, carry = attend(q_BTHC, k_BKTC, v_BKTC)
  x_BTD = x_BTD + jnp.einsum('bthc,hcd->btd', mixed_BTHC, w['wo'])
  h_BTD = rms_norm(x_BTD, weights['mlp_norm'], config.rms_norm_eps)
  gate_BTF = jax.nn.silu(jnp.einsum('btd,df->btf', h_BTD, w['w_gate']))
  up_BTF = jnp.einsum('btd,df->btf', h_BTD, w['w_up'])
  return x_BTD + jnp.einsum('btf,fd->btd', gate_BTF * up_BTF, w['w_down']), carry


def _embed(params, ids_BT, positions_BT, config):
  x_BTD = params['embed'][ids_BT].astype(config.dtype)
  return x_BTD, attention.rope_phases(positions_BT, config.head_dim, config.rope_theta)


def forward(
  params: Params,
  ids_BT: Int[Array, 'B T'],
  config: QwenConfig,
  *,
  positions_BT: Int[Array, 'B T'] | None = None,
  segments_BT: Int[Array, 'B T'] | None = None,
  remat: str = 'none',
) -> Float[Array, 'B T D']:
  """Hidden states after the final norm.

  A row may hold several documents: `segments_BT` numbers them (equal numbers see each other,
  causally), `positions_BT` restarts in each. By default a row is one document from position 0.
  `remat` names what the backward pass computes again, see `REMAT`; no number depends on it.
  """
  if positions_BT is None:
    positions_BT = jnp.broadcast_to(jnp.arange(ids_BT.shape[1])[None], ids_BT.shape)
  if segments_BT is None:
    segments_BT = jnp.zeros_like(ids_BT)
  mask_BTT = attention.causal_mask(segments_BT)
  x_BTD, phases = _embed(params, ids_BT, positions_BT, config)

  def attend(q, k, v):
    return attention.attend(q, k, v, mask_BTT), None

  def body(x_BTD, weights):
    return _layer(x_BTD, weights, config, phases, attend)

  x_BTD, _ = jax.lax.scan(REMAT[remat](body), x_BTD, params['layers'])
  return rms_norm(x_BTD, params['norm'], config.rms_norm_eps)


def forward_cached(
  params: Params,
  ids_BT: Int[Array, 'B T'],
  config: QwenConfig,
  cache: cache_lib.Cache,
  *,
  slot: Int[Array, ''] | int,
  positions_BT: Int[Array, 'B T'],
  mask_BTS,
) -> tuple[Float[Array, 'B T D'], cache_lib.Cache]:
  """Appends T tokens at `slot` and returns their hidden states and the new cache.

  The cache is carried through the scan over layers, so XLA updates it in place.
  """
  x_BTD, phases = _embed(params, ids_BT, positions_BT, config)

  def body(carry, weights_and_layer):
    x_BTD, cache = carry
    weights, layer = weights_and_layer

    def attend(q, k, v):
      new = cache_lib.append(cache, layer, slot, k, v)
      keys = jax.lax.dynamic_index_in_dim(new.k, layer, keepdims=False)
      values = jax.lax.dynamic_index_in_dim(new.v, layer, keepdims=False)
      return attention.attend(q, keys, values, mask_BTS), new

    x_BTD, cache = _layer(x_BTD, weights, config, phases, attend)
    return (x_BTD, cache), None

  layer_ids = jnp.arange(config.num_hidden_layers)
  (x_BTD, cache), _ = jax.lax.scan(body, (x_BTD, cache), (params['layers'], layer_ids))
  return rms_norm(x_BTD, params['norm'], config.rms_norm_eps), cache


def head_weights(params: Params, config: QwenConfig) -> Float[Array, 'D V']:
  """The matrix of the language-model head; the transposed embedding where they are tied."""
  if config.scalar_head:
    raise ValueError('a model with a scalar head has no language-model head')
  head_DV = params['embed'].T if config.tie_word_embeddings else params['head']
  return head_DV.astype(config.dtype)


def lm_head(
  params: Params, hidden_BTD: Float[Array, 'B T D'], config: QwenConfig
) -> Float[Array, 'B T V']:
  """Logits, in float32. Holds B x T x V: for sampling and tests; losses use `token_logprob`."""
  return jnp.einsum(
    'btd,dv->btv',
    hidden_BTD,
    head_weights(params, config),
    preferred_element_type=jnp.float32,
  )


def score_head(
  params: Params, hidden_BTD: Float[Array, 'B T D'], config: QwenConfig
) -> Float[Array, 'B T']:
  """One scalar per position, in float32: the reward is read at the last token of a text."""
  if not config.scalar_head:
    raise ValueError('this model has no scalar head: make its config with scalar_head=True')
  return jnp.einsum(
    'btd,d->bt',
    hidden_BTD,
    params['score'].astype(config.dtype),
    preferred_element_type=jnp.float32,
  )


@functools.partial(jax.jit, static_argnames='config')
def init_jit(key: jax.Array, config: QwenConfig) -> Params:
  """`init` compiled, so that a large tree is drawn on the device in one program."""
  return init(key, config)
