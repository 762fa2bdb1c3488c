"""Log-probabilities and entropies of given tokens, without the logits of a whole batch.

The one definition that training and scoring share; temperature is part of it, because the ratio of
two log-probabilities means something only if both are of the same distribution.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from lwz import types

AnyArray = types.AnyArray


def token_logprob(
  hidden_BTD: Float[AnyArray, 'B T D'],
  head_DV: Float[AnyArray, 'D V'],
  targets_BT: Integer[AnyArray, 'B T'],
  *,
  temperature: float | int,
  chunk: int,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[Array, 'B T'], Float[Array, 'B T']]:
  """log softmax(h W / temperature)[target] and the entropy of that softmax, both in float32.

  Tokens are worked off in chunks of `chunk`, recomputed in the backward pass, so memory grows with
  chunk * V and never with B * T * V.

  Args:
    hidden_BTD: hidden states after the final norm; row t predicts `targets_BT[:, t]`.
    head_DV: the language-model head.
    targets_BT: token ids.
    temperature: > 0; what the sampler divided its logits by.
    chunk: tokens per block.
    mesh: unused on one device; the vocabulary is sharded over its `tensor` axis otherwise.

  Returns:
    (logp_BT, entropy_BT), in nats.
  """
  del mesh  # XLA partitions the einsum by the sharding of `head_DV`
  if not temperature > 0:
    raise ValueError(f'temperature={temperature}: log-probabilities need it above 0')
  if chunk < 1:
    raise ValueError(f'chunk={chunk}: a block holds at least one token')
  B, T, D = hidden_BTD.shape
  num_tokens = B * T
  chunk = min(chunk, num_tokens)
  num_chunks = -(-num_tokens // chunk)
  padding = num_chunks * chunk - num_tokens
  hidden_nCD = jnp.pad(hidden_BTD.reshape(num_tokens, D), ((0, padding), (0, 0)))
  targets_nC = jnp.pad(targets_BT.reshape(num_tokens), (0, padding))

  @jax.checkpoint
  def block(hidden_CD, targets_C):
    logits_CV = jnp.einsum('cd,dv->cv', hidden_CD, head_DV, preferred_element_type=jnp.float32)
    logits_CV = logits_CV / temperature
    log_z_C = jax.nn.logsumexp(logits_CV, axis=-1)
    target_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)[:, 0]
    probs_CV = jnp.exp(logits_CV - log_z_C[:, None])
    entropy_C = log_z_C - jnp.sum(probs_CV * logits_CV, axis=-1)
    return target_C - log_z_C, entropy_C

  logp, entropy = jax.lax.map(
    lambda args: block(*args),
    (hidden_nCD.reshape(num_chunks, chunk, D), targets_nC.reshape(num_chunks, chunk)),
  )
  return (
    logp.reshape(-1)[:num_tokens].reshape(B, T),
    entropy.reshape(-1)[:num_tokens].reshape(B, T),
  )
