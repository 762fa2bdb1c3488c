"""The key-value cache: one slot per written token, the same slot in every row.

A row's prompt fills slots [0, prompt length) of the first `prompt_slots`; the t-th new token of
every row goes to slot `prompt_slots + t`. Rows therefore append at one common place, an in-place
update of a slice, while their true positions differ; the mask is made from the lengths.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lwz.model import config as config_lib


@flax.struct.dataclass
class Cache:
  """Keys (rotated) and values of all layers."""

  k: Float[Array, 'L B K S C']
  v: Float[Array, 'L B K S C']


def init(config: config_lib.QwenConfig, batch: int, num_slots: int) -> Cache:
  """A zeroed cache (never `jnp.empty`: masked slots still enter 0 * value products)."""
  shape = (
    config.num_hidden_layers,
    batch,
    config.num_key_value_heads,
    num_slots,
    config.head_dim,
  )
  return Cache(k=jnp.zeros(shape, config.dtype), v=jnp.zeros(shape, config.dtype))


def append(
  cache: Cache,
  layer: Int[Array, ''],
  slot: Int[Array, ''] | int,
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
) -> Cache:
  """Writes T tokens of one layer at slots [slot, slot + T)."""
  at = (layer, 0, 0, slot, 0)
  return Cache(
    k=jax.lax.dynamic_update_slice(cache.k, k_BKTC[None], at),
    v=jax.lax.dynamic_update_slice(cache.v, v_BKTC[None], at),
  )


def fork(cache: Cache, num_samples: int) -> Cache:
  """Repeats every row G times: a group shares one prefill of its prompt."""
  return jax.tree.map(lambda x: jnp.repeat(x, num_samples, axis=1), cache)


def visible(
  prompt_lengths_B: Int[Array, 'B'], prompt_slots: int, num_new: Int[Array, ''], num_slots: int
) -> Bool[Array, 'B 1 S']:
  """Slots a new token sees: its own prompt, and the `num_new` tokens written so far."""
  slot_S = jnp.arange(num_slots)
  prompt_BS = slot_S[None, :] < prompt_lengths_B[:, None]
  new_S = (slot_S >= prompt_slots) & (slot_S < prompt_slots + num_new)
  return (prompt_BS | new_S[None, :])[:, None, :]
