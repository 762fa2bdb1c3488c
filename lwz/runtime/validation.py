"""What can be known to be wrong with a config before any work is done, in the words of its keys."""

from collections.abc import Iterable, Sequence

from lwz import types
from lwz.data import corpus, templates, tokenizer
from lwz.model import qwen, sharding
from lwz.model.attention import decode as decode_attention
from lwz.model.attention import packed as packed_attention
from lwz.report import directions
from lwz.rollout import sampler
from lwz.runtime import setup

# What a number must be at least, whatever the stage.
_LEAST = {
  'seed': 0,
  'data.lower': 1,
  'data.row_length': 2,
  'train.num_steps': 1,
  'train.rows': 1,
  'train.micro_rows': 1,
  'train.chunk': 1,
  'train.learning_rate': 0,
  'train.halvings': 0,
  'train.centring': 0,
  'train.warmup_steps': 0,
  'rl.prompts_per_step': 1,
  'rl.group_size': 1,
  'rl.num_epochs': 1,
  'rl.num_minibatches': 1,
  'rl.clip_low': 0,
  'rl.clip_high': 0,
  'rl.ratio_cap': 0,
  'rl.kl_weight': 0,
  'rl.entropy_weight': 0,
  'rl.weight_cap': 0,
  'rl.overlong_margin': 1,
  'rollout.block': 1,
  'rollout.max_prompt_tokens': 1,
  'rollout.max_tokens': 1,
  'rollout.min_tokens': 0,
  'rollout.slots': 0,
  'reward.max_words': 1,
  'eval.every': 0,
  'eval.batches': 1,
  'log.samples_every': 1,
  'checkpoint.every': 1,
  'checkpoint.keep': 1,
  'checkpoint.keep_best': 1,
  'checkpoint.minutes': 0,
  'debug.heartbeat': 1,
  'debug.max_skipped': 0,
  'debug.watchdog': 0,
}


def keys(c, references: Sequence[str]) -> None:
  """What every stage can know to be wrong before any work is done.

  `references` are the dotted keys of this stage that name runs.
  """
  _at_least(c, _LEAST)
  if c.seed >= 2**32:
    raise ValueError(f'seed={c.seed}: of a seed 32 bits are used; stay below {2**32}')
  for key, low in (('data.heldout', 0), ('data.slack', -1e-9), ('data.tested', -1e-9)):
    if not low < setup.get(c, key) < 1:
      raise ValueError(f'{key}={setup.get(c, key)} is a share, below 1 and not negative')
  if c.data.lower > c.data.upper:
    raise ValueError(f'data.lower={c.data.lower} is above data.upper={c.data.upper}')
  for key, known in (
    ('train.remat', qwen.REMAT),
    ('train.attention', ('auto', *packed_attention.BACKENDS)),
    ('train.moments', ('float32', 'bfloat16')),
    ('data.template', templates.TEMPLATES),
    ('data.style', types.STYLES),
    ('needs_policy', ('run', 'stop')),
  ):
    if (value := setup.get(c, key)) not in known:
      raise ValueError(f'{key}: there is no {value!r}; choose from {", ".join(known)}')
  if c.checkpoint.best:
    directions.check('checkpoint.best', c.checkpoint.best)
  if c.data.folder:
    corpus.documents(c.data.folder)
  if c.data.tokenizer:
    tokenizer.load(c.data.tokenizer)
  elif c.init == 'random' and c.stage != 'pretrain':
    raise ValueError("init='random' has no tokenizer: name one under data.tokenizer")
  longest = min(setup.expected(c, setup.get(c, key)).num_positions for key in references)
  if c.data.row_length > longest:
    raise ValueError(f'data.row_length={c.data.row_length}, but a model has {longest} positions')


def rollout(c) -> None:
  """Raises where the engine cannot write as `c.rollout` says, whatever the stage."""
  _at_least(c, [key for key in _LEAST if key.startswith('rollout.') or key == 'seed'])
  try:
    sampler.Sampling(c.rollout.temperature, c.rollout.top_p, c.rollout.top_k)
  except ValueError as error:
    raise ValueError(f'rollout.{error}') from None


def _at_least(c, keys: Iterable[str]) -> None:
  for key in keys:
    if not setup.get(c, key) >= _LEAST[key]:  # not a number is not at least anything
      raise ValueError(f'{key}={setup.get(c, key)} must be at least {_LEAST[key]}')


def mesh(c, references: Sequence[str]) -> None:
  """Raises where the tokens of a row, or a dimension of one of the models, cannot be cut so."""
  over = setup.mesh(c)
  ways = over.shape['tensor'] * over.shape['context']
  if c.data.row_length % ways:
    raise ValueError(
      f'data.row_length={c.data.row_length} is not divisible by mesh.tensor x mesh.context = {ways}'
    )
  for key in references:
    try:
      sharding.shardings(setup.expected(c, setup.get(c, key)), over, sharding.TRAIN)
    except ValueError as error:
      raise ValueError(f'{key}={setup.get(c, key)}: {error}') from error


def decoding(c, reference: str) -> None:
  """Raises where `rollout.attention` names what cannot read this model's cache on these devices."""
  head_dim, over = setup.expected(c, reference).head_dim, setup.mesh(c)
  try:
    decode_attention.choose(c.rollout.attention, over, head_dim, int8=c.rollout.int8)
  except ValueError as error:
    raise ValueError(f'rollout.attention={c.rollout.attention}: {error}') from None
