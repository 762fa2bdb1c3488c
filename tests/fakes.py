"""Small stand-ins that several tests share: a pocket model, random texts, plain log-probabilities."""

import jax
import jax.numpy as jnp
import numpy as np

from lwz.model import config as config_lib
from lwz.model import qwen


def config(**changes):
  """A model in which no two dimensions are equal by accident: H * C is not D, V is odd."""
  numbers = {
    'vocab_size': 13,
    'hidden_size': 16,
    'intermediate_size': 20,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'head_dim': 6,
    'max_position_embeddings': 64,
    'rope_theta': 100.0,
    'initializer_range': 0.2,
    'dtype': jnp.float32,
  }
  return config_lib.QwenConfig(**(numbers | changes))


def params(config, seed=0):
  """Random parameters in which nothing is neutral: no bias is 0, no norm's weight is 1."""
  leaves, tree = jax.tree.flatten(qwen.init(jax.random.key(seed), config))
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  return tree.unflatten(
    [x + 0.2 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
  )


def texts(lengths, config, seed=0):
  """Random ids, one array per length."""
  rng = np.random.default_rng(seed)
  return [rng.integers(0, config.vocab_size, n).astype(np.int32) for n in lengths]


def logprob(params, ids, config, temperature=1.0):
  """log p(ids[t + 1] | ids[: t + 1]), [T - 1], of one sequence alone: no rows, no chunks, no cache."""
  ids = jnp.asarray(ids)
  logits = qwen.lm_head(params, qwen.forward(params, ids[None], config), config)[0, :-1]
  table = jax.nn.log_softmax(logits / temperature, axis=-1)
  return table[jnp.arange(len(ids) - 1), ids[1:]], -jnp.sum(jnp.exp(table) * table, axis=-1)


def shapes(tree):
  """Every leaf as (shape, dtype), in the structure of the tree."""
  return jax.tree.map(lambda x: (tuple(np.shape(x)), jnp.result_type(x).name), tree)


def fits(program, args, result):
  """Whether a call had the shapes that the program announces, in and out."""
  announced = jax.eval_shape(program.fn, *program.abstract_args)
  return shapes(args) == shapes(program.abstract_args) and shapes(result) == shapes(announced)
