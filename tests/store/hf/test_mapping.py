"""The table of names: whole, theirs, and turned round without loss."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest

from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.store.hf import mapping
from tests import fakes

CONFIG = fakes.config()
FORMS = {'own': {}, 'tied': {'tie_word_embeddings': True}, 'scalar': {'scalar_head': True}}
FORMS |= fakes.FAMILIES
NAMES = {'qwen3': 'Qwen3', 'llama': 'Llama'}


@pytest.mark.parametrize('form', FORMS)
def test_every_value_of_ours_is_in_one_tensor_of_theirs(form):
  config = dataclasses.replace(CONFIG, **FORMS[form])
  tensors = mapping.tensors(config)
  described = mapping.flatten(qwen.describe(config))
  L = config.num_hidden_layers
  for leaf, param in described.items():
    mine = [tensor for tensor in tensors if tensor.leaf == leaf]
    layers = list(range(L)) if param.axes[0] == 'layers' else [None]
    assert [tensor.layer for tensor in mine] == layers
    assert sum(math.prod(tensor.shape) for tensor in mine) == math.prod(param.shape)
  assert {tensor.leaf for tensor in tensors} == described.keys()
  stacked = sum(param.axes[0] == 'layers' for param in described.values())
  assert len(tensors) == stacked * L + len(described) - stacked
  assert len({tensor.name for tensor in tensors}) == len(tensors)


def test_letters_are_those_of_the_shapes():
  """The table says of each dimension what `describe` says of it."""
  letter = {'vocab': 'V', 'embed': 'D', 'heads': 'H', 'kv_heads': 'K', 'head_dim': 'C', 'mlp': 'F'}
  described = {
    leaf: param
    for form in FORMS.values()
    for leaf, param in mapping.flatten(qwen.describe(dataclasses.replace(CONFIG, **form))).items()
  }
  assert {leaf for leaf, *_ in mapping.TABLE} == described.keys()
  for leaf, _, ours, theirs in mapping.TABLE:
    axes = [axis for axis in described[leaf].axes if axis != 'layers']
    assert ours == ''.join(letter[axis] for axis in axes)
    assert sorted(theirs.replace(' ', '').replace('1', '')) == sorted(ours)


@pytest.mark.parametrize('form', FORMS)
def test_names_and_shapes_are_those_of_hugging_face(form):
  torch = pytest.importorskip('torch')
  import transformers

  config = dataclasses.replace(CONFIG, **FORMS[form])
  kind = 'ForSequenceClassification' if config.scalar_head else 'ForCausalLM'
  sizes = dataclasses.asdict(config)
  for ours in ('dtype', 'scalar_head', 'rope_theta', 'qkv_bias', 'qk_norm'):
    del sizes[ours]
  with torch.device('meta'):
    name = NAMES.get(form, 'Qwen2')
    described = getattr(transformers, name + 'Config')(**sizes, num_labels=1)
    model = getattr(transformers, name + kind)(described)
  theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
  if config.tie_word_embeddings:  # in the model, but no tensor of a checkpoint
    del theirs['lm_head.weight']
  assert {tensor.name: tensor.shape for tensor in mapping.tensors(config)} == theirs


def test_the_published_32b_has_771_tensors_and_these_names():
  tensors = mapping.tensors(config_lib.preset('32b'))
  shapes = {tensor.name: tensor.shape for tensor in tensors}
  assert len(shapes) == 771
  assert 2 * sum(map(math.prod, shapes.values())) == 65_527_752_704  # bytes in bfloat16
  assert shapes['model.layers.63.self_attn.k_proj.weight'] == (1_024, 5_120)
  assert shapes['model.layers.0.self_attn.v_proj.bias'] == (1_024,)
  assert shapes['model.layers.0.mlp.down_proj.weight'] == (5_120, 27_648)
  assert shapes['lm_head.weight'] == shapes['model.embed_tokens.weight'] == (152_064, 5_120)
  assert [tensor.name for tensor in tensors][-2:] == ['model.norm.weight', 'lm_head.weight']


def test_a_matrix_is_turned_and_heads_lie_side_by_side():
  """y = x W in ours is y = W x in theirs, and head h has rows h C ... (h + 1) C of their W."""
  tensors = {tensor.name: tensor for tensor in mapping.tensors(CONFIG)}
  layer = jax.tree.map(lambda leaf: np.asarray(leaf[0]), fakes.params(CONFIG)['layers'])
  C = CONFIG.head_dim
  q_proj = mapping.to_theirs(tensors['model.layers.0.self_attn.q_proj.weight'], layer['wq'])
  np.testing.assert_array_equal(q_proj[3 * C + 1], layer['wq'][:, 3, 1])
  bias = mapping.to_theirs(tensors['model.layers.0.self_attn.k_proj.bias'], layer['bk'])
  np.testing.assert_array_equal(bias[C:], layer['bk'][1])
  o_proj = mapping.to_theirs(tensors['model.layers.0.self_attn.o_proj.weight'], layer['wo'])
  np.testing.assert_array_equal(o_proj[:, 2 * C + 4], layer['wo'][2, 4])
  down = mapping.to_theirs(tensors['model.layers.0.mlp.down_proj.weight'], layer['w_down'])
  np.testing.assert_array_equal(down, layer['w_down'].T)
  assert down.flags.c_contiguous and q_proj.flags.c_contiguous


@pytest.mark.parametrize('form', FORMS)
def test_any_part_of_a_leaf_is_read_back_and_little_else(form):
  config = dataclasses.replace(CONFIG, **FORMS[form])
  params = mapping.flatten(fakes.params(config))
  for tensor in mapping.tensors(config):
    leaf = np.asarray(params[tensor.leaf])
    leaf = leaf if tensor.layer is None else leaf[tensor.layer]
    theirs = mapping.to_theirs(tensor, leaf)
    assert theirs.shape == tensor.shape
    halves = [[slice(None), slice(n // 2), slice(n // 2, n)] for n in leaf.shape]
    for index in itertools.product(*halves):
      asked = []

      def read(ranges, theirs=theirs, asked=asked):
        asked.append(theirs[ranges].size)
        return theirs[ranges]

      part = leaf[index]
      np.testing.assert_array_equal(mapping.to_ours(tensor, read, index), part)
      heads = 2 if tensor.groups and max(map(len, tensor.groups)) == 2 else 1
      assert len(asked) == 1 and asked[0] <= heads * part.size
