"""Qwen2.5: equal to Hugging Face's, causal, and indifferent to packing."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz import rows as rows_lib
from lwz.model import parameters, qwen
from tests import fakes

CONFIG = fakes.config()


def theirs(kind, config, seed):
  """A random model of Hugging Face's, with biases that are not 0 and norms that are not 1."""
  torch = pytest.importorskip('torch')
  import transformers

  torch.manual_seed(seed)
  names = ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers')
  names += ('num_attention_heads', 'num_key_value_heads', 'head_dim', 'rms_norm_eps')
  names += ('max_position_embeddings', 'tie_word_embeddings')
  model = getattr(transformers, kind)(
    transformers.Qwen2Config(
      **{name: getattr(config, name) for name in names},
      rope_parameters={'rope_type': 'default', 'rope_theta': config.rope_theta},
      num_labels=1,
      pad_token_id=0,
      attn_implementation='eager',
    )
  )
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.copy_(0.3 * torch.randn(parameter.shape) + ('norm' in name))
  return model.eval()


def ours(model, config):
  """Their weights as our parameters: [out, in] turned round, heads a dimension of their own."""
  weights = {name: jnp.asarray(value.numpy()) for name, value in model.state_dict().items()}
  D, C = config.hidden_size, config.head_dim
  H, K = config.num_attention_heads, config.num_key_value_heads

  def layers(name, shape):
    found = [
      weights[f'model.layers.{i}.{name}'].T.reshape(shape) for i in range(config.num_hidden_layers)
    ]
    return jnp.stack(found)

  params = {
    'embed': weights['model.embed_tokens.weight'],
    'norm': weights['model.norm.weight'],
    'layers': {
      'attention_norm': layers('input_layernorm.weight', (D,)),
      'mlp_norm': layers('post_attention_layernorm.weight', (D,)),
      'wq': layers('self_attn.q_proj.weight', (D, H, C)),
      'bq': layers('self_attn.q_proj.bias', (H, C)),
      'wk': layers('self_attn.k_proj.weight', (D, K, C)),
      'bk': layers('self_attn.k_proj.bias', (K, C)),
      'wv': layers('self_attn.v_proj.weight', (D, K, C)),
      'bv': layers('self_attn.v_proj.bias', (K, C)),
      'wo': layers('self_attn.o_proj.weight', (H, C, D)),
      'w_gate': layers('mlp.gate_proj.weight', (D, -1)),
      'w_up': layers('mlp.up_proj.weight', (D, -1)),
      'w_down': layers('mlp.down_proj.weight', (-1, D)),
    },
  }
  if config.scalar_head:
    params['score'] = weights['score.weight'][0]
  elif not config.tie_word_embeddings:
    params['head'] = weights['lm_head.weight'].T
  assert fakes.shapes(params) == fakes.shapes(fakes.abstract(config))
  return params


PARITY = {
  'grouped': {},
  'every head its own keys': {'num_key_value_heads': 4},
  'one pair of keys and values': {'num_key_value_heads': 1},
  'seven to one, as 0.5b': {'num_attention_heads': 14},
  'tied': {'tie_word_embeddings': True},
  'theta of 1e6': {'rope_theta': 1e6},
  'a large eps': {'rms_norm_eps': 0.05},
}


@pytest.mark.parametrize('changes', PARITY.values(), ids=PARITY)
def test_logits_are_those_of_hugging_face(changes):
  torch = pytest.importorskip('torch')

  config = dataclasses.replace(CONFIG, **changes)
  model = theirs('Qwen2ForCausalLM', config, seed=1)
  ids = np.random.default_rng(0).integers(0, config.vocab_size, (2, 40))
  with torch.no_grad():
    expected = model(torch.tensor(ids)).logits.numpy()
  params = ours(model, config)
  logits = qwen.lm_head(params, fakes.forward(params, jnp.asarray(ids), config), config)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_scores_are_those_of_hugging_face():
  torch = pytest.importorskip('torch')

  config = dataclasses.replace(CONFIG, scalar_head=True)
  model = theirs('Qwen2ForSequenceClassification', config, seed=2)
  lengths = [7, 12]
  ids = np.zeros((2, 12), np.int64)  # 0 is their padding, found by its value; ours knows lengths
  for row, n in zip(ids, lengths, strict=True):
    row[:n] = np.random.default_rng(n).integers(1, config.vocab_size, n)
  with torch.no_grad():
    expected = model(torch.tensor(ids), attention_mask=torch.tensor(ids > 0)).logits[:, 0].numpy()
  params = ours(model, config)
  scores = qwen.score_head(params, fakes.forward(params, jnp.asarray(ids), config), config)
  np.testing.assert_allclose(scores[jnp.arange(2), jnp.array(lengths) - 1], expected, atol=1e-4)


def test_a_token_changes_nothing_before_it():
  params = fakes.params(CONFIG)
  (ids,) = fakes.texts([12], CONFIG)
  before = fakes.forward(params, jnp.asarray(ids)[None], CONFIG)[0]
  for t in (0, 5, 11):
    changed = ids.copy()
    changed[t] = (ids[t] + 1) % CONFIG.vocab_size
    after = fakes.forward(params, jnp.asarray(changed)[None], CONFIG)[0]
    np.testing.assert_array_equal(after[:t], before[:t])
    assert (np.abs(after[t:] - before[t:]).max(axis=-1) > 1e-4).all()


def test_packed_is_unpacked():
  params = fakes.params(CONFIG)
  sequences = fakes.texts([7, 3, 5, 4, 7], CONFIG)
  rows = rows_lib.lay(sequences, row_length=13, num_rows=3)
  hidden = fakes.forward(
    params,
    jnp.asarray(rows.ids),
    CONFIG,
    positions_BT=jnp.asarray(rows.positions),
    segments_BT=jnp.asarray(rows.segments),
  )
  assert np.isfinite(hidden).all()
  alone = fakes.forward(params, fakes.padded(sequences), CONFIG)
  for b, (row, start) in enumerate(zip(rows.row, rows.offset, strict=True)):
    num = len(sequences[b])
    np.testing.assert_allclose(hidden[row, start : start + num], alone[b, :num], atol=1e-5)


def test_by_default_a_row_is_one_document_from_position_0():
  params = fakes.params(CONFIG)
  ids = jnp.asarray(np.stack(fakes.texts([6, 6], CONFIG)))
  said = fakes.forward(
    params,
    ids,
    CONFIG,
    positions_BT=jnp.tile(jnp.arange(6)[None], (2, 1)),
    segments_BT=jnp.ones_like(ids),
  )
  np.testing.assert_array_equal(fakes.forward(params, ids, CONFIG), said)


@functools.cache
def gradient(config, remat):
  """Of a function of all hidden states, on packed rows of which one is all padding."""
  rows = rows_lib.lay(fakes.texts([7, 3], config), row_length=12, num_rows=2)

  def loss(params):
    hidden = qwen.forward(
      params,
      jnp.asarray(rows.ids),
      config,
      positions_BT=jnp.asarray(rows.positions),
      segments_BT=jnp.asarray(rows.segments),
      remat=remat,
    )
    return jnp.mean(jax.nn.logsumexp(qwen.lm_head(params, hidden, config), axis=-1))

  return jax.jit(jax.grad(loss))(fakes.params(config))


@pytest.mark.parametrize('tied', [False, True])
def test_every_parameter_of_every_layer_has_a_finite_gradient_that_is_not_zero(tied):
  grads = gradient(dataclasses.replace(CONFIG, tie_word_embeddings=tied), 'none')
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  for path, leaf in jax.tree.leaves_with_path(grads['layers']):
    assert (np.abs(leaf).max(axis=tuple(range(1, leaf.ndim))) > 1e-6).all(), path
  for name in ('embed', 'norm', 'head'):
    assert (tied and name == 'head') or np.abs(grads[name]).max() > 1e-6


@pytest.mark.parametrize('remat', sorted(qwen.REMAT.keys() - {'none'}))
def test_no_gradient_depends_on_what_is_computed_again(remat):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    gradient(CONFIG, remat),
    gradient(CONFIG, 'none'),
  )


def test_on_one_cpu_the_gradient_of_a_weight_reads_its_factors_as_they_lie():
  """Laid out anew, with B and T innermost, they cost a CPU a quarter of an update."""
  shape = jax.ShapeDtypeStruct((3, 7), jnp.int32)
  forward = functools.partial(qwen.forward, config=CONFIG)
  grad = jax.jit(jax.grad(lambda params, ids: jnp.sum(forward(params, ids) ** 2)))
  text = grad.lower(fakes.abstract(CONFIG), shape).compile().as_text()
  assert ' dot(' in text
  assert not re.findall(r'f32\[[0-9,]+,3,7\]\S* transpose\(', text)


def test_rms_norm_is_its_equation():
  x = jnp.asarray(1e-3 * np.random.default_rng(0).standard_normal((2, 3, 16), np.float32))
  weight = jnp.arange(16.0)
  exact = np.asarray(x, np.float64)
  exact = exact / np.sqrt((exact**2).mean(axis=-1, keepdims=True) + 1e-6) * np.arange(16)
  np.testing.assert_allclose(qwen.rms_norm(x, weight, 1e-6), exact, rtol=1e-5)


def test_computing_in_bfloat16_keeps_parameters_and_logits_in_float32():
  config = dataclasses.replace(CONFIG, dtype=jnp.bfloat16)
  params = fakes.params(config)
  ids = jnp.asarray(fakes.texts([9], config)[0])[None]
  hidden = fakes.forward(params, ids, config)
  logits = qwen.lm_head(params, hidden, config)
  assert (hidden.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  exact = qwen.lm_head(params, fakes.forward(params, ids, CONFIG), CONFIG)
  assert 0 < np.abs(logits - exact).mean() < 0.03 * np.abs(exact).mean()


HEADS = {'own': {}, 'tied': {'tie_word_embeddings': True}, 'scalar': {'scalar_head': True}}


@functools.cache
def initial(head):
  return qwen.init(jax.random.key(3), dataclasses.replace(CONFIG, **HEADS[head]))


@pytest.mark.parametrize('head', HEADS)
def test_initial_values_are_as_described(head):
  config = dataclasses.replace(CONFIG, **HEADS[head])
  params = initial(head)
  assert fakes.shapes(params) == fakes.shapes(fakes.abstract(config))
  assert {'head', 'score'} & params.keys() == {'own': {'head'}, 'scalar': {'score'}}.get(
    head, set()
  )
  described = jax.tree.leaves(qwen.describe(config), is_leaf=parameters.is_param)
  for param, leaf in zip(described, jax.tree.leaves(params), strict=True):
    assert len(param.axes) == len(param.shape)
    match param.init:
      case 'zeros':
        assert (leaf == 0).all()
      case 'ones':
        assert (leaf == 1).all()
      case 'normal':
        assert abs(leaf.mean()) < 4 * 0.02 / leaf.size**0.5
        assert abs(leaf.std() / 0.02 - 1) < 4 / (2 * leaf.size) ** 0.5


def test_a_leaf_is_initialised_by_its_name_alone():
  """A tied model, an untied one and a reward model of one seed share what they have in common."""
  for other in ('tied', 'scalar'):
    jax.tree.map(np.testing.assert_array_equal, initial(other)['layers'], initial('own')['layers'])
    np.testing.assert_array_equal(initial(other)['embed'], initial('own')['embed'])
  matrices = [leaf for leaf in jax.tree.leaves(initial('own')) if leaf.std() > 0]
  assert len({float(leaf.reshape(-1)[0]) for leaf in matrices}) == len(matrices) == 9


def test_a_model_has_one_head():
  scalar = dataclasses.replace(CONFIG, scalar_head=True)
  with pytest.raises(ValueError, match='no language-model head'):
    qwen.head_weights(fakes.params(scalar), scalar)
  with pytest.raises(ValueError, match='scalar_head=True'):
    qwen.score_head(fakes.params(CONFIG), jnp.zeros((1, 1, 16)), CONFIG)


def test_a_profile_names_the_parts_of_a_layer():
  lowered = fakes.forward.lower(fakes.params(CONFIG), jnp.zeros((1, 4), jnp.int32), CONFIG)
  text = lowered.compile().as_text()
  assert all(re.search(rf'op_name="[^"]*/{name}/', text) for name in ('embed', 'attention', 'mlp'))
