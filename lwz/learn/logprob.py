"""Log-probabilities and entropies of given tokens, without the logits of a whole batch.

The one definition that training and scoring share; temperature is part of it, because the ratio of
two log-probabilities means something only if both are of the same distribution.

Tokens are worked off in chunks. The forward pass keeps two numbers per token, the logarithm of the
normaliser and the entropy; the backward pass computes the logits of a chunk once more and turns
them into gradients. On a mesh every device keeps its slice of the vocabulary: what travels is a few
numbers per token, the hidden states, and the head over fsdp.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jaxtyping import Array, Float, Integer

from lwz import types

AnyArray = types.AnyArray
DATA, FSDP, TENSOR, CONTEXT = types.AXES


def token_logprob(
  hidden_BTD: Float[AnyArray, 'B T D'],
  head_DV: Float[AnyArray, 'D V'],
  targets_BT: Integer[AnyArray, 'B T'],
  *,
  temperature: float | int,
  chunk: int,
  mesh: Mesh | AbstractMesh | None = None,
) -> tuple[Float[Array, 'B T'], Float[Array, 'B T']]:
  """log softmax(h W / temperature)[target] and the entropy of that softmax, both in float32.

  Memory grows with chunk * V, never with B * T * V. Products are of the dtype of the hidden states,
  accumulated in float32, as is the gradient of the head. With l = h W / temperature, p = softmax(l)
  and H the entropy of p,

    d logp / d l_j = [j = target] - p_j        d H / d l_j = - p_j (log p_j + H)

  Args:
    hidden_BTD: hidden states after the final norm; row t predicts `targets_BT[:, t]`.
    head_DV: the language-model head.
    targets_BT: token ids; what is returned for one outside of the vocabulary means nothing.
    temperature: > 0; what the sampler divided its logits by.
    chunk: tokens per block, at most, on each device.
    mesh: over `types.AXES`. Rows are then cut along data and fsdp, time along context (and, as
      hidden states come from between two blocks, tensor), the head along fsdp and tensor; no device
      ever holds more of the vocabulary than its slice.

  Returns:
    (logp_BT, entropy_BT), in nats.
  """
  if not temperature > 0:
    raise ValueError(f'temperature={temperature}: log-probabilities need it above 0')
  if chunk < 1:
    raise ValueError(f'chunk={chunk}: a block holds at least one token')
  D, V = head_DV.shape
  if mesh is not None and (D % mesh.shape[FSDP] or V % mesh.shape[TENSOR]):
    raise ValueError(
      f'a head of {D} x {V} is not divisible by a mesh of fsdp={mesh.shape[FSDP]} and '
      f'tensor={mesh.shape[TENSOR]}: choose a mesh that divides it'
    )
  hidden_BTD, head_DV, targets_BT = map(jnp.asarray, (hidden_BTD, head_DV, targets_BT))
  layout = _Layout(mesh, *targets_BT.shape)
  return _token_logprob(hidden_BTD, head_DV, targets_BT, float(1 / temperature), chunk, layout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _token_logprob(hidden_BTD, head_DV, targets_BT, scale, chunk, layout):
  return _save(hidden_BTD, head_DV, targets_BT, scale, chunk, layout)[0]


@jax.named_scope('head')
def _save(hidden_BTD, head_DV, targets_BT, scale, chunk, layout):
  """Returns results and residuals: two numbers per token beside the arguments."""
  forward = functools.partial(_forward, scale=scale, chunk=chunk, layout=layout)
  states, head, tokens = layout.states, layout.head, layout.tokens
  forward = layout.shard(forward, (states, head, tokens), (tokens, tokens, tokens))
  logp_BT, entropy_BT, log_z_BT = forward(hidden_BTD, head_DV, targets_BT)
  return (logp_BT, entropy_BT), (hidden_BTD, head_DV, targets_BT, log_z_BT, entropy_BT)


@jax.named_scope('head')
def _differentiate(scale, chunk, layout, saved, cotangents):
  backward = functools.partial(_backward, scale=scale, chunk=chunk, layout=layout)
  states, head, tokens = layout.states, layout.head, layout.tokens
  backward = layout.shard(backward, (states, head, *[tokens] * 5), (states, head))
  return *backward(*saved, *cotangents), None


_token_logprob.defvjp(_save, _differentiate)


def _forward(hidden_BTD, head_DV, targets_BT, *, scale, chunk, layout):
  hidden_BTD, head_DV = layout.gather(hidden_BTD, head_DV)
  own_BT = targets_BT - layout.first_token(head_DV)

  def block(args):
    hidden_CD, own_C = args
    logits_CV = scale * _product('cd,dv->cv', hidden_CD, head_DV)
    top_C = layout.over_vocabulary(jax.lax.pmax, jnp.max(logits_CV, axis=-1))
    below_CV = logits_CV - top_C[:, None]
    weight_CV = jnp.exp(below_CV)
    inside_C = (own_C >= 0) & (own_C < logits_CV.shape[1])
    at_C1 = jnp.where(inside_C, own_C, 0)[:, None]
    target_C = jnp.take_along_axis(logits_CV, at_C1, axis=-1)[:, 0] - top_C
    sums = (
      jnp.sum(weight_CV, axis=-1),
      jnp.sum(weight_CV * below_CV, axis=-1),
      jnp.where(inside_C, target_C, 0.0),
    )
    total_C, mean_C, target_C = layout.over_vocabulary(jax.lax.psum, jnp.stack(sums))
    log_total_C = jnp.log(total_C)
    return target_C - log_total_C, log_total_C - mean_C / total_C, top_C + log_total_C

  results = jax.lax.map(block, (_chunks(hidden_BTD, chunk), _chunks(own_BT, chunk)))
  return tuple(_join(x, targets_BT.shape) for x in results)


def _backward(hidden_BTD, head_DV, targets_BT, *per_token, scale, chunk, layout):
  dtypes = hidden_BTD.dtype, head_DV.dtype
  hidden_BTD, head_DV = layout.gather(hidden_BTD, head_DV)
  own_BT = targets_BT - layout.first_token(head_DV)

  def block(dhead_DV, args):
    hidden_CD, own_C, *numbers = args
    log_z_C1, entropy_C1, dlogp_C1, dentropy_C1 = (x[:, None] for x in numbers)
    log_p_CV = scale * _product('cd,dv->cv', hidden_CD, head_DV) - log_z_C1
    is_target_CV = jnp.arange(log_p_CV.shape[1])[None, :] == own_C[:, None]
    pull_CV = dlogp_C1 + dentropy_C1 * (log_p_CV + entropy_C1)
    dlogits_CV = jnp.where(is_target_CV, dlogp_C1, 0.0) - jnp.exp(log_p_CV) * pull_CV
    dlogits_CV = (scale * dlogits_CV).astype(hidden_CD.dtype)
    # With a dimension more XLA:CPU reads the states in place, and transposes none: a third of it.
    dhead_DV += _product('bcd,bcv->dv', hidden_CD[None], dlogits_CV[None])
    return dhead_DV, _product('cv,dv->cd', dlogits_CV, head_DV)

  dhead_DV, dhidden = jax.lax.scan(
    block,
    jnp.zeros(head_DV.shape, jnp.float32),
    tuple(_chunks(x, chunk) for x in (hidden_BTD, own_BT, *per_token)),
  )
  dhidden_BTD, dhead_DV = layout.scatter(_join(dhidden, hidden_BTD.shape), dhead_DV)
  return dhidden_BTD.astype(dtypes[0]), dhead_DV.astype(dtypes[1])


def _product(equation, x, y):
  return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def _chunks(x, chunk):
  """[B, T, ...] -> [n, C, ...] with the fewest blocks of at most `chunk` tokens, then zeros."""
  num_tokens = x.shape[0] * x.shape[1]
  num_chunks = -(-num_tokens // chunk)
  chunk = -(-num_tokens // num_chunks)
  x = x.reshape(num_tokens, *x.shape[2:])
  x = jnp.pad(x, [(0, num_chunks * chunk - num_tokens), *[(0, 0)] * (x.ndim - 1)])
  return x.reshape(num_chunks, chunk, *x.shape[1:])


def _join(x, shape):
  """The inverse of `_chunks`."""
  return x.reshape(-1, *x.shape[2:])[: shape[0] * shape[1]].reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Layout of tokens and vocabulary on a mesh, and its collectives; without a mesh, none.

  A dimension that its axes do not divide stays whole, and every device there does the same work.
  Both passes write their collectives out, so that nothing is left to be inferred.
  """

  mesh: Mesh | AbstractMesh | None
  num_rows: int
  num_tokens: int

  def _divides(self, size: int, *axes: str) -> bool:
    return self.mesh is None or size % math.prod(self.mesh.shape[a] for a in axes) == 0

  @property
  def _cut(self) -> tuple[bool, bool]:
    """Returns whether rows, and whether time, are sharded."""
    return (
      self._divides(self.num_rows, DATA, FSDP),
      self._divides(self.num_tokens, CONTEXT, TENSOR),
    )

  @property
  def states(self) -> PartitionSpec:
    """Spec of hidden states, as they are between two blocks."""
    rows, time = self._cut
    return PartitionSpec((DATA, FSDP) if rows else None, (CONTEXT, TENSOR) if time else None, None)

  @property
  def tokens(self) -> PartitionSpec:
    """Spec of numbers per token."""
    rows, time = self._cut
    return PartitionSpec((DATA, FSDP) if rows else None, CONTEXT if time else None)

  @property
  def head(self) -> PartitionSpec:
    return PartitionSpec(FSDP, TENSOR)

  def shard(self, function, in_specs, out_specs):
    if self.mesh is None:
      return function
    return jax.shard_map(
      function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )

  def first_token(self, head_DV):
    """The id of the first token of this device's slice of the vocabulary."""
    return 0 if self.mesh is None else jax.lax.axis_index(TENSOR) * head_DV.shape[1]

  def over_vocabulary(self, collective, x):
    return x if self.mesh is None else collective(x, TENSOR)

  def gather(self, hidden_BTD, head_DV):
    """The states of all tokens of this device, and its slice of the head in their dtype."""
    head_DV = head_DV.astype(hidden_BTD.dtype)
    if self.mesh is not None:
      head_DV = jax.lax.all_gather(head_DV, FSDP, axis=0, tiled=True)
      if self._cut[1]:
        hidden_BTD = jax.lax.all_gather(hidden_BTD, TENSOR, axis=1, tiled=True)
    return hidden_BTD, head_DV

  def scatter(self, dhidden_BTD, dhead_DV):
    """Sums of the gradients over devices, each left where its array lies: `gather` transposed."""
    if self.mesh is None:
      return dhidden_BTD, dhead_DV
    rows, time = self._cut
    if time:
      dhidden_BTD = jax.lax.psum_scatter(dhidden_BTD, TENSOR, scatter_dimension=1, tiled=True)
    else:
      dhidden_BTD = jax.lax.psum(dhidden_BTD, TENSOR)
    dhead_DV = jax.lax.psum_scatter(dhead_DV, FSDP, scatter_dimension=0, tiled=True)
    dhead_DV = jax.lax.psum(dhead_DV, (DATA, CONTEXT))
    whole = (*(() if rows else (DATA, FSDP)), *(() if time else (CONTEXT,)))
    copies = math.prod(self.mesh.shape[axis] for axis in whole)  # of every token, all summed above
    return dhidden_BTD, dhead_DV / copies if copies > 1 else dhead_DV
