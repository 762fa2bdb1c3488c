"""Matrices kept transposed, for decoding in bfloat16 on a CPU."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import config as config_lib
from lwz.model import kv_cache, parameters, qwen, transposed
from lwz.model.attention import packed as packed_attention
from lwz.programs import rollout
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib
from tests import fakes

BFLOAT16 = fakes.config(dtype=jnp.bfloat16)
TIED = dataclasses.replace(BFLOAT16, tie_word_embeddings=True)


@pytest.mark.parametrize('num_tokens', [1, 2, 3, 17])
def test_the_product_is_that_of_the_matrix_rounded_once(num_tokens):
  x_ND, w_DF = (
    jax.random.normal(jax.random.key(i), shape, jnp.bfloat16)
    for i, shape in enumerate([(num_tokens, 40), (40, 9)])
  )
  found = jax.jit(transposed.product)(x_ND, w_DF.T)
  assert found.dtype == jnp.float32 and found.shape == (num_tokens, 9)
  np.testing.assert_allclose(
    found, np.asarray(x_ND, np.float64) @ np.asarray(w_DF, np.float64), rtol=0, atol=1e-5
  )


@pytest.mark.parametrize('config', [BFLOAT16, TIED])
def test_a_step_of_decoding_has_the_logits_of_the_layers_as_they_are(config):
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), fakes.params(config))
  unstacked = parameters.unstack(params)
  ids_BT = jnp.asarray([[3, 1, 4], [1, 5, 9]])
  positions_BT = jnp.broadcast_to(jnp.arange(3)[None], (2, 3))
  one = jax.tree.map(lambda x: x[0], kv_cache.init(config, 2, 3))

  @jax.jit
  def logits(params):
    hidden_BTD, _ = qwen.forward_cached(
      params,
      ids_BT,
      config,
      (one,) * config.num_hidden_layers,
      position=0,
      phases_BTc=qwen.phases(positions_BT, config),
      attend=lambda _, *qkv: packed_attention.attend_packed(*qkv, None),
      unstacked=True,
    )
    return qwen.lm_head(params, hidden_BTD, config)

  found, wanted = logits(transposed.of(unstacked, config)), logits(unstacked)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=0.01 * float(jnp.abs(wanted).max()))


@pytest.mark.parametrize('config', [BFLOAT16, TIED])
def test_an_engine_transposes_what_its_programs_take(config):
  spec = spec_lib.EngineSpec(config, 2, 8, 8, sampling=sampler.Sampling(), exact=False)
  assert spec.transposed
  params = rollout.engine(spec).reshard(fakes.params(config))
  assert fakes.shapes(params) == fakes.shapes(rollout.decode_params(spec))
  wo = params['layers'][1]['wo']
  assert transposed.is_transposed(wo) and wo.weight_FD.shape == (16, 24) and wo.outer == (16,)
  assert (params['head'].weight_FD is None) == config.tie_word_embeddings


def test_other_engines_do_not(monkeypatch):
  def spec(config, **changes):
    return spec_lib.EngineSpec(
      config, 2, 8, 8, sampling=sampler.Sampling(), exact=False, **changes
    ).transposed

  assert not spec(fakes.config()) and not spec(BFLOAT16, unstack=False)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert not spec(BFLOAT16)


def test_a_vocabulary_of_a_real_model_is_the_first_factor():
  """No transposed copy of the embedding is made, nor of a layer's matrices, in a step."""
  config = dataclasses.replace(config_lib.preset('micro'), dtype=jnp.bfloat16)
  spec = spec_lib.EngineSpec(config, 4, 8, 8, sampling=sampler.Sampling(), exact=False)
  text = rollout.decode(spec, batch_size=4, read_length=16).lower().compile().as_text()
  assert f'bf16[{config.hidden_size},{config.vocab_size}]' not in text
