"""Validation of a config before any work is done: values against each other, files and models."""

import collections
import itertools
from collections.abc import Sequence

from lwz.data import corpus, templates
from lwz.model import sharding
from lwz.model.attention import decode as decode_attention
from lwz.report import directions
from lwz.rollout import sampler
from lwz.runtime import keys, setup, sources, tokenizers
from lwz.store import sinks

_CHECKED = 100_000  # documents of a corpus that are read before a run begins


def config(c, references: Sequence[str]) -> None:
  """Raises ValueError or OSError for faults of the config that no training can begin with.

  `references` are the dotted keys of this stage that name models. Bounds and choices are those of
  `keys`.
  """
  keys.check(c)
  if c.train.num_steps < 1:
    raise ValueError(f'train.num_steps={c.train.num_steps}: choose at least 1')
  if c.data.lower > c.data.upper:
    raise ValueError(f'data.lower={c.data.lower} is above data.upper={c.data.upper}: lower it')
  sinks.check(c.log.sinks)
  if c.checkpoint.best:
    directions.check('checkpoint.best', c.checkpoint.best)
  if c.data.folder and not setup.is_experiment(c.data.folder):
    found = itertools.islice(sources.stream(c), _CHECKED)
    counts = collections.Counter(corpus.is_heldout(d, c.data.heldout) for d in found)
    if len(counts) < 2:
      raise ValueError(
        f'data.folder={c.data.folder}: data.heldout={c.data.heldout} of its '
        f'{counts.total()} documents leaves {counts[False]} to train on and '
        f'{counts[True]} held out: add documents, or change the share'
      )
  if c.data.tokenizer:
    tokenizers.load(c.data.tokenizer)
  elif c.init == 'random' and c.stage not in ('pretrain', 'preflight'):
    raise ValueError("init='random' has no tokenizer: name one under data.tokenizer")
  asks = c.stage != 'reward_model'
  if asks and c.data.template in templates.CHATS and not setup.is_experiment(c.init):
    if c.init == 'random':
      raise ValueError(
        f"data.template={c.data.template}: init='random' has not learnt to chat; name a model that "
        "has, or set data.template='paper'"
      )
    tok = tokenizers.load(c.data.tokenizer or c.init, c.data.chat_template)
    templates.check(tok, c.data.style, c.data.template)
  positions(c, [keys.get(c, key) for key in references])


def positions(c, models: Sequence[str]) -> None:
  """Raises ValueError if a row has more tokens than one of the models has positions."""
  for model in models:
    if c.data.row_length > (longest := setup.expected(c, model).num_positions):
      raise ValueError(
        f'data.row_length={c.data.row_length} exceeds the {longest} positions of {model}: lower it'
      )


def rollout(c) -> None:
  """Raises ValueError if the engine cannot sample as `c.rollout` says."""
  keys.check(c)
  try:
    sampler.Sampling(c.rollout.temperature, c.rollout.top_p, c.rollout.top_k)
  except ValueError as error:
    raise ValueError(f'rollout.{error}') from None


def mesh(c, references: Sequence[str]) -> None:
  """Raises ValueError if the mesh does not divide the tokens of a row, or a model's dimensions."""
  over = setup.mesh(c)
  ways = over.shape['tensor'] * over.shape['context']
  if c.data.row_length % ways:
    raise ValueError(
      f'data.row_length={c.data.row_length}: choose a multiple of mesh.tensor x mesh.context '
      f'= {ways}'
    )
  for key in references:
    try:
      sharding.shardings(setup.expected(c, keys.get(c, key)), over, sharding.TRAIN)
    except ValueError as error:
      raise ValueError(f'{key}={keys.get(c, key)}: {error}') from error


def decoding(c, reference: str) -> None:
  """Raises ValueError if `rollout.attention` cannot decode this model on these devices."""
  head_dim, over = setup.expected(c, reference).head_dim, setup.mesh(c)
  try:
    decode_attention.choose(c.rollout.attention, over, head_dim, int8=c.rollout.int8)
  except ValueError as error:
    raise ValueError(f'rollout.attention={c.rollout.attention}: {error}') from None
