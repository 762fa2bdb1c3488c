"""Table of our leaves and Hugging Face's tensors: names, and the order of dimensions.

Theirs are of torch: a matrix is [out, in], heads lie side by side in one dimension, every layer is
a tensor of its own. Ours are [in, out], heads are a dimension, layers are stacked.
"""

import collections.abc
import dataclasses
import math
from typing import Any

import flax.traverse_util
import numpy as np

from lwz.model import config as config_lib
from lwz.model import qwen

# Our leaf (of `layers.`: one layer of it), their tensor, our dimensions, theirs. A dimension `HC`
# of theirs is our H and C in one, C the faster; `1` is one that ours does without.
TABLE = (
  ('embed', 'model.embed_tokens.weight', 'VD', 'V D'),
  ('layers.attention_norm', 'model.layers.{}.input_layernorm.weight', 'D', 'D'),
  ('layers.wq', 'model.layers.{}.self_attn.q_proj.weight', 'DHC', 'HC D'),
  ('layers.bq', 'model.layers.{}.self_attn.q_proj.bias', 'HC', 'HC'),
  ('layers.wk', 'model.layers.{}.self_attn.k_proj.weight', 'DKC', 'KC D'),
  ('layers.bk', 'model.layers.{}.self_attn.k_proj.bias', 'KC', 'KC'),
  ('layers.wv', 'model.layers.{}.self_attn.v_proj.weight', 'DKC', 'KC D'),
  ('layers.bv', 'model.layers.{}.self_attn.v_proj.bias', 'KC', 'KC'),
  ('layers.q_norm', 'model.layers.{}.self_attn.q_norm.weight', 'C', 'C'),
  ('layers.k_norm', 'model.layers.{}.self_attn.k_norm.weight', 'C', 'C'),
  ('layers.wo', 'model.layers.{}.self_attn.o_proj.weight', 'HCD', 'D HC'),
  ('layers.mlp_norm', 'model.layers.{}.post_attention_layernorm.weight', 'D', 'D'),
  ('layers.w_gate', 'model.layers.{}.mlp.gate_proj.weight', 'DF', 'F D'),
  ('layers.w_up', 'model.layers.{}.mlp.up_proj.weight', 'DF', 'F D'),
  ('layers.w_down', 'model.layers.{}.mlp.down_proj.weight', 'FD', 'D F'),
  ('norm', 'model.norm.weight', 'D', 'D'),
  ('head', 'lm_head.weight', 'DV', 'V D'),
  ('score', 'score.weight', 'D', '1 D'),
)


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One Hugging Face tensor, and our leaf (or layer of a leaf) with the same values."""

  name: str  # 'model.layers.3.self_attn.q_proj.weight'
  shape: tuple[int, ...]  # [H * C, D]
  leaf: str  # 'layers.wq'
  layer: int | None  # 3; None where the leaf is not stacked
  ours: tuple[int, ...]  # [D, H, C], without L
  groups: tuple[tuple[int, ...], ...]  # ((1, 2), (0,)): our dimensions in each of theirs


def tensors(config: config_lib.QwenConfig) -> list[Tensor]:
  """Every tensor of a checkpoint, layer by layer: 771 for `32b`.

  A tied model has no `lm_head.weight`; one with a scalar head has `score.weight`, [1, D], for it.
  """
  params = flatten(qwen.describe(config))
  once, layered, last = [], [], []
  for leaf, name, ours, theirs in TABLE:
    if leaf not in params:
      continue
    stacked = leaf.startswith('layers.')
    shape = params[leaf].shape[stacked:]
    groups = tuple(
      tuple(ours.index(letter) for letter in group if letter != '1') for group in theirs.split()
    )
    their_shape = tuple(math.prod(shape[i] for i in group) for group in groups)
    if stacked:
      layered.append((name, their_shape, leaf, shape, groups))
    else:
      (last if layered else once).append(Tensor(name, their_shape, leaf, None, shape, groups))
  layers = [
    Tensor(name.format(layer), their_shape, leaf, layer, shape, groups)
    for layer in range(config.num_hidden_layers)
    for name, their_shape, leaf, shape, groups in layered
  ]
  return once + layers + last


def flatten(params: Any) -> dict[str, Any]:
  """A tree of parameters as {'layers.wq': leaf}; anything but a dict is a leaf."""
  return flax.traverse_util.flatten_dict(params, sep='.')


def to_theirs(tensor: Tensor, array: np.ndarray) -> np.ndarray:
  """Our leaf (one layer of it, where stacked) as their tensor; in memory of its own, C order.

  >>> query = next(t for t in tensors(config_lib.preset('micro')) if 'q_proj.weight' in t.name)
  >>> to_theirs(query, np.zeros(query.ours)).shape == query.shape
  True
  """
  turned = array.transpose([i for group in tensor.groups for i in group])
  return np.ascontiguousarray(turned.reshape(tensor.shape))


def to_ours(
  tensor: Tensor,
  read: collections.abc.Callable[[tuple[slice, ...]], np.ndarray],
  index: tuple[slice, ...],
) -> np.ndarray:
  """The part `index` of our leaf (of one layer of it, where stacked), read from their tensor.

  `read` gives a range of their tensor, one slice per dimension, and is asked for no more than the
  part needs, but whole heads. `index` is a slice per dimension of ours, with step 1.
  """
  ranges, cut = [], list(index)
  sizes = list(tensor.ours)
  for group in tensor.groups:
    start, stop, width = 0, 1, 1
    if group:
      outer, *inner = group
      start, stop, _ = index[outer].indices(tensor.ours[outer])
      width = math.prod(tensor.ours[i] for i in inner)
      sizes[outer], cut[outer] = stop - start, slice(None)  # the outer one is cut in the reading
    ranges.append(slice(start * width, stop * width))
  order = [i for group in tensor.groups for i in group]
  block = read(tuple(ranges)).reshape([sizes[i] for i in order])
  return block.transpose(np.argsort(order))[tuple(cut)]
