"""Qwen2.5 (arXiv 2412.15115) as a description of its parameters and pure functions over them.

Qwen3 (arXiv 2505.09388) and Llama differ from it in the biases and norms of q, k and v alone, which
a layer has or has not, see `config.QwenConfig`.

Training and decoding run the same `_layer`; they differ in the `attend` they hand it.

    x = embed(ids)
    for each layer:   x = x + attention(norm(x)),   x = x + swiglu(norm(x))
    hidden = norm(x)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import ad_checkpoint
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float, Int

from lwz.model import activations, embedding, kv_cache, parameters, product, sharding, transposed
from lwz.model import config as config_lib
from lwz.model.attention import chunked as chunked_attention
from lwz.model.attention import packed as packed_attention
from lwz.model.attention import reference as reference_lib

QwenConfig = config_lib.QwenConfig
Params = parameters.Params


# What a layer keeps for its backward pass: everything; the outputs of its weight matrices and of
# chunked attention, so that other attention is recomputed; only its input; only its input, in the
# memory of the host.
REMAT: dict[str, Callable[[Callable], Callable]] = {
  'none': lambda layer: layer,
  'dots': functools.partial(
    jax.checkpoint,
    policy=jax.checkpoint_policies.save_from_both_policies(
      jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
      jax.checkpoint_policies.save_only_these_names(chunked_attention.KEPT),
    ),
  ),
  'full': jax.checkpoint,
  'offload': functools.partial(
    jax.checkpoint,
    policy=jax.checkpoint_policies.save_and_offload_only_these_names(
      names_which_can_be_saved=[],
      names_which_can_be_offloaded=['residual'],
      offload_src='device',
      offload_dst='pinned_host',
    ),
  ),
}


describe = parameters.describe
init = parameters.init
num_params = parameters.num_params


def rms_norm(
  x_BTD: Float[Array, 'B T *H D'], weight_D: Float[Array, 'D'], eps: float
) -> Float[Array, 'B T *H D']:
  """x / sqrt(mean(x^2) + eps) in float32, cast down, then times the weight (arXiv 1910.07467)."""
  x32 = x_BTD.astype(jnp.float32)
  normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
  return normed.astype(x_BTD.dtype) * weight_D.astype(x_BTD.dtype)[(None,) * (x_BTD.ndim - 1)]


def _layer(x_BTD, weights, config: QwenConfig, phases_BTc, attend: Callable, mesh=None):
  """One decoder layer. `attend(q, k, v) -> (output, carry)` owns masks and cache."""
  w = sharding.gather_layer(weights, config, mesh)
  x_BTD = _residual(ad_checkpoint.checkpoint_name(x_BTD, 'residual'), mesh)
  x_BTD, carry = _attention(x_BTD, w, config, phases_BTc, attend, mesh)
  return _mlp(x_BTD, w, config, mesh), carry


@jax.named_scope('attention')
def _attention(x_BTD, w, config: QwenConfig, phases_BTc, attend: Callable, mesh):
  cos, sin = phases_BTc
  h_BTD = _gathered(rms_norm(x_BTD, w['attention_norm'], config.rms_norm_eps), mesh)
  q_BTHC, k_BTKC, v_BTKC = (_projection(h_BTD, w, one, mesh) for one in 'qkv')
  q_BTHC = activations.constrain(q_BTHC, mesh, 'rows', 'time', 'heads', None)
  k_BTKC = activations.constrain(k_BTKC, mesh, 'rows', 'time', 'kv_heads', None)
  v_BTKC = activations.constrain(v_BTKC, mesh, 'rows', 'time', 'kv_heads', None)
  if config.qk_norm:
    q_BTHC = rms_norm(q_BTHC, w['q_norm'], config.rms_norm_eps)
    k_BTKC = rms_norm(k_BTKC, w['k_norm'], config.rms_norm_eps)
  q_BTHC = reference_lib.rotate(q_BTHC, cos, sin)
  k_BTKC = reference_lib.rotate(k_BTKC, cos, sin)
  k_BKTC, v_BKTC = (x.transpose(0, 2, 1, 3) for x in (k_BTKC, v_BTKC))
  mixed_BTHC, carry = attend(q_BTHC, k_BKTC, v_BKTC)
  return _residual(x_BTD + product.product(mixed_BTHC, w['wo'], mesh), mesh), carry


def _projection(h_BTD, w, one: str, mesh):
  """q, k or v, with a bias where the layer has one."""
  x_BTHC = product.product(h_BTD, w[f'w{one}'], mesh)
  return x_BTHC + w[f'b{one}'][None, None] if f'b{one}' in w else x_BTHC


@jax.named_scope('mlp')
def _mlp(x_BTD, w, config: QwenConfig, mesh):
  h_BTD = _gathered(rms_norm(x_BTD, w['mlp_norm'], config.rms_norm_eps), mesh)
  gate_BTF = jax.nn.silu(product.product(h_BTD, w['w_gate'], mesh))
  up_BTF = product.product(h_BTD, w['w_up'], mesh)
  mixed_BTF = activations.constrain(gate_BTF * up_BTF, mesh, 'rows', 'time', 'mlp')
  return _residual(x_BTD + product.product(mixed_BTF, w['w_down'], mesh), mesh)


def _residual(x_BTD, mesh):
  return activations.constrain(x_BTD, mesh, 'rows', 'residual', None)


def _gathered(h_BTD, mesh):
  """Gathers h along `tensor` explicitly, once for all the products that read it."""
  return activations.constrain(h_BTD, mesh, 'rows', 'time', None)


def phases(
  positions_BT: Int[Array, 'B T'], config: QwenConfig
) -> tuple[Float[Array, 'B T c'], Float[Array, 'B T c']]:
  """cos and sin of RoPE at these positions, see `reference.rope_phases`."""
  return reference_lib.rope_phases(
    positions_BT, config.head_dim, config.rope_theta, config.rope_scaling
  )


def forward(
  params: Params,
  ids_BT: Int[Array, 'B T'],
  config: QwenConfig,
  *,
  positions_BT: Int[Array, 'B T'] | None = None,
  segments_BT: Int[Array, 'B T'] | None = None,
  remat: str = 'none',
  attention: str = 'auto',
  mesh: Mesh | AbstractMesh | None = None,
) -> Float[Array, 'B T D']:
  """Hidden states after the final norm.

  A row may hold several documents: `segments_BT` numbers them (equal numbers see each other,
  causally), `positions_BT` restarts in each. By default a row is one document from position 0.
  `remat` names what the backward pass recomputes, see `REMAT`; no result depends on it.
  `attention` names a backend of `packed_attention`, by default the one that suits the machine. On a
  `mesh`, parameters are sharded by `sharding.TRAIN`, activations by `activations.LAYOUT`.
  """
  if positions_BT is None:
    positions_BT = jnp.broadcast_to(jnp.arange(ids_BT.shape[1])[None], ids_BT.shape)
  x_BTD = embedding.embed(params['embed'], ids_BT, config.dtype, mesh)
  phases_BTc = phases(positions_BT, config)

  def attend(q, k, v):
    mixed = packed_attention.attend_packed(q, k, v, segments_BT, backend=attention, mesh=mesh)
    return mixed, None

  def body(x_BTD, weights):
    return _layer(x_BTD, weights, config, phases_BTc, attend, mesh)

  x_BTD, _ = jax.lax.scan(REMAT[remat](body), x_BTD, params['layers'])
  return rms_norm(x_BTD, params['norm'], config.rms_norm_eps)


def forward_cached(
  params: Params,
  ids_BT: Int[Array, 'B T'],
  config: QwenConfig,
  cache: Any,  # a `Cache`, or one for each layer
  *,
  position: Int[Array, ''] | int,
  phases_BTc: tuple[Float[Array, 'B T c'], Float[Array, 'B T c']],
  attend: Callable,
  unstacked: bool = False,
  mesh: Mesh | AbstractMesh | None = None,
) -> tuple[Float[Array, 'B T D'], Any]:
  """Appends T tokens from `position` on and returns their hidden states and the new cache.

  `phases_BTc` are RoPE's for these tokens, see `phases`: a loop computes them once for all of its
  steps, where XLA would compute them in every layer of every step.
  The cache is carried through the scan over layers, so XLA updates it in place. If `unstacked`,
  `layers` is of `parameters.unstack`, `cache` is a tuple of caches without L, and the loop over
  layers is unrolled, so that nothing is cut out of a stack. `attend(layer, q, k, v)` owns what a
  token sees of the layer's cache, whose keys and values it is given.
  """
  x_BTD = embedding.embed(params['embed'], ids_BT, config.dtype, mesh, width=None)

  def layer(x_BTD, weights, cache, index):
    def append_and_attend(q, k, v):
      new = kv_cache.append(cache, index, position, k, v)
      return attend(index, q, *kv_cache.layer_of(new, index)), new

    return _layer(x_BTD, weights, config, phases_BTc, append_and_attend, mesh)

  if unstacked:
    written = []
    for index, (weights, one) in enumerate(zip(params['layers'], cache, strict=True)):
      x_BTD, one = layer(x_BTD, weights, one, index)
      written.append(one)
    cache = tuple(written)
  else:

    def body(carry, weights_and_layer):
      weights, index = weights_and_layer
      return layer(carry[0], weights, carry[1], index), None

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
  if transposed.is_transposed(head := params.get('head')):
    head_VD = params['embed'] if head.weight_FD is None else head.weight_FD
    logits_NV = transposed.product(hidden_BTD.reshape(-1, head_VD.shape[1]), head_VD)
    return logits_NV.reshape(*hidden_BTD.shape[:2], -1)
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
