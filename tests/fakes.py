"""Small stand-ins that several tests share: a pocket model, random texts, plain answers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import parameters, qwen, sharding


def keep_config(folder, config):
  """Leaves the config.json of a run that nobody began."""
  record = {'config': config, 'hash': '', 'versions': {}, 'command': [], 'created': ''}
  (folder / 'config.json').write_text(json.dumps(record | {'history': []}))


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
    'dtype': jnp.float32,
  }
  return config_lib.QwenConfig(**(numbers | changes))


# What the families other than Qwen2.5 change.
FAMILIES = {'qwen3': {'qkv_bias': False, 'qk_norm': True}, 'llama': {'qkv_bias': False}}


def abstract(config):
  """The shapes and dtypes of the parameters of a model, as they are described."""
  return sharding.abstract(config, None, sharding.TRAIN, None)


def params(config, seed=0):
  """Random parameters in which nothing is neutral: no bias is 0, no norm's weight is 1."""
  rng = np.random.default_rng(seed)

  def draw(param):
    noise = 0.3 * rng.standard_normal(param.shape, np.float32)
    return jnp.asarray(noise + (param.init == 'ones'))

  return jax.tree.map(draw, qwen.describe(config), is_leaf=parameters.is_param)


forward = jax.jit(qwen.forward, static_argnames=('config', 'remat'))


def texts(lengths, config, seed=0):
  """Random ids, one array per length."""
  rng = np.random.default_rng(seed)
  return [rng.integers(0, config.vocab_size, n).astype(np.int32) for n in lengths]


def padded(sequences, num_tokens=None):
  """One row per sequence, zeros on the right: what packing is compared with."""
  ids_BT = np.zeros((len(sequences), num_tokens or max(map(len, sequences))), np.int32)
  for row, ids in zip(ids_BT, sequences, strict=True):
    row[: len(ids)] = ids
  return jnp.asarray(ids_BT)


@functools.partial(jax.jit, static_argnames=('config', 'temperature'))
def logprob(params, ids_BT, config, temperature=1.0):
  """log p(ids[t + 1] | ids[: t + 1]) and entropy, [B, T - 1]: no packing, no chunks, no cache."""
  logits = qwen.lm_head(params, qwen.forward(params, ids_BT, config), config)[:, :-1]
  table = jax.nn.log_softmax(logits / temperature, axis=-1)
  chosen = jnp.take_along_axis(table, ids_BT[:, 1:, None], axis=-1)[:, :, 0]
  return chosen, -jnp.sum(jnp.exp(table) * table, axis=-1)


def adapters(config, lora, seed=1):
  """Random adapters, neither of whose factors is 0."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda p: jnp.asarray(0.3 * rng.standard_normal(p.shape, np.float32)),
    lora_lib.describe(config, lora),
    is_leaf=parameters.is_param,
  )


def shapes(tree):
  """Every leaf as (shape, dtype), in the structure of the tree."""
  return jax.tree.map(lambda x: (tuple(np.shape(x)), jnp.result_type(x).name), tree)


def fits(program, args, result):
  """Whether a call had the shapes that the program announces, in and out."""
  announced = jax.eval_shape(program.fn, *program.abstract_args)
  return shapes(args) == shapes(program.abstract_args) and shapes(result) == shapes(announced)


def h100():
  """A context in which programs are lowered for a GPU, which jax 0.11 asks of Triton's kernels."""
  device = jax.sharding.AbstractDevice(device_kind='NVIDIA H100', num_cores=132, platform='gpu')
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  return jax.sharding.use_abstract_mesh(mesh)
