"""Parameters of any source; those that are not finite are refused by the name of their tensor."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz import types
from lwz.model import sharding
from lwz.store import checkpoint, model_source
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import mapping
from tests import fakes

CONFIG = fakes.config(vocab_size=14)


@pytest.mark.parametrize(
  ('mesh', 'value'), [(None, float('nan')), (None, 1e5), ([1, 2, 2, 1], float('inf'))]
)
@pytest.mark.parametrize('tensor', mapping.tensors(CONFIG)[::17], ids=lambda tensor: tensor.name)
def test_a_tensor_that_is_not_finite_is_named(tmp_path, tensor, value, mesh):
  """1e5 is infinite in float16."""
  params = mapping.flatten(fakes.params(CONFIG))
  at = (-1,) * params[tensor.leaf].ndim if tensor.layer is None else (tensor.layer, 0)
  params[tensor.leaf] = params[tensor.leaf].at[at].set(value)
  nested = {key: leaf for key, leaf in params.items() if not key.startswith('layers.')}
  layers = {key[7:]: leaf for key, leaf in params.items() if key.startswith('layers.')}
  hf.save(tmp_path, CONFIG, nested | {'layers': layers})
  over = sharding.make_mesh(mesh, jax.devices()[:4]) if mesh else None

  def load(dtype):
    return model_source.params(tmp_path, CONFIG, jax.random.key(0), mesh=over, dtype=dtype)

  with pytest.raises(ValueError, match=f'{tensor.name} holds NaN or infinity in float16'):
    load(jnp.float16)
  if value == 1e5:
    load(jnp.float32)


def test_a_reward_model_begins_from_a_run_and_leaves_its_head_behind(tmp_path):
  model_source.keep(tmp_path, CONFIG)
  saved, params = checkpoint.Checkpoints(tmp_path), fakes.params(CONFIG)
  saved.save(1, types.TrainState(jnp.int32(1), params, ()), {'step': 1})
  saved.close()
  wanted = dataclasses.replace(CONFIG, scalar_head=True)
  found = model_source.params(tmp_path, wanted, jax.random.key(0))
  assert found.pop('score').shape == (CONFIG.hidden_size,)
  del params['head']
  jax.tree.map(np.testing.assert_array_equal, found, params)
  plain = dataclasses.replace(CONFIG, tie_word_embeddings=True)
  with pytest.raises(ValueError, match=r'params\.head: .* saved, absent wanted'):
    model_source.params(tmp_path, plain, jax.random.key(0))
