"""The one table about config keys: bounds, paths and references, inheritance, identity.

`experiments/base.py` gives every key its default and its meaning; everything else about it is here.
Each stage lists in `READS` the keys that it reads. The identity of a run is READS without the keys
that may change on resume: a run folder is reused only by a config of the same identity.
"""

import os
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lwz import types
from lwz.data import formatted, templates
from lwz.model import lora, quantised, qwen
from lwz.model.attention import packed as packed_attention
from lwz.runtime import places
from lwz.store import gguf_writer, sinks

MANY = 10**9  # upper bound of counts: no run has more of anything
TRAINING = ('pretrain', 'sft', 'reward_model', 'grpo')  # not changed by their evaluations
WRITING = ('pretrain', 'sft', 'grpo')  # their result writes
PROMPTING = ('prompts', 'reward_model')  # their result has prompts, or pairs that ask for a verdict
# Stages whose runs have an identity.
RESUMABLE = (*TRAINING, 'passages', 'policy_pairs', 'prompts', 'evaluate', 'rescore')
ALWAYS = RESUMABLE  # for `may_change`: the key is no part of any run's identity


class Key(NamedTuple):
  """Facts about one key, or about every key of a group that has no entry of its own."""

  low: float | None = None  # bounds of a number, both included and finite
  high: float | None = None
  choices: tuple[str, ...] = ()  # the names that may be given
  holds: str = ''  # 'path', where `~` is expanded, or 'reference': experiment:size, hub id, address
  optional: bool = False  # may be None
  is_input: bool = False  # files to read: part of a run's identity by content, see `store.inputs`
  inherited: bool = False  # a needed run takes the value of the run that needs it
  may_change: Collection[str] = ()  # stages whose runs may be resumed with another value
  stages: tuple[str, ...] = ()  # of the runs that a reference may name


def _count(low: int = 0, high: int = MANY, **facts: Any) -> Key:
  return Key(low, high, **facts)


def _share(low: float = 0.0, high: float = 1.0, **facts: Any) -> Key:
  return Key(low, high, **facts)


_BELOW_1 = 1 - 1e-9
_WRITER = Key(holds='reference', may_change=TRAINING, stages=WRITING)
_FILE = Key(holds='path', is_input=True, inherited=True)
_EVALUATED = tuple(f'eval.{k}' for k in ('greedy', 'inside', 'people', 'prompts', 'siblings'))

# A number needs bounds; a test checks it. A key without an entry has the defaults of `Key`.
KEYS: dict[str, Key] = {
  'seed': _count(high=2**32 - 1),  # JAX uses 32 bits of a seed
  'name': Key(may_change=ALWAYS),
  'prompt': Key(may_change=ALWAYS),
  'runs_dir': Key(holds='path', inherited=True, may_change=ALWAYS),
  'needs': Key(may_change=ALWAYS),
  'needs_seed': _count(high=2**31, inherited=True),
  'needs_parallel': _count(1, 1_000, inherited=True, may_change=ALWAYS),
  'needs_policy': Key(choices=('run', 'stop'), inherited=True, may_change=ALWAYS),
  'init': Key(holds='reference', stages=TRAINING),
  'base_model': Key(holds='reference', inherited=True),
  'data.folder': Key(holds='reference', is_input=True, inherited=True, stages=('passages',)),
  **{f'data.{name}': _FILE for name in ('tokenizer', 'chat_template', 'preferences')},
  'data.heldout': _share(1e-9, _BELOW_1, inherited=True),
  'data.tested': _share(0, _BELOW_1, inherited=True),
  **{f'data.{end}': _count(1, inherited=True) for end in ('lower', 'upper')},
  'data.template': Key(choices=templates.NAMES, inherited=True),
  'data.style': Key(choices=tuple(types.STYLES)),
  'data.row_length': _count(2, 2**24),
  'data.pair_paths': Key(inherited=True),
  'data.plan': Key(choices=tuple(formatted.PLANS), inherited=True),
  'data.prompts': Key(holds='reference', is_input=True, inherited=True, stages=PROMPTING),
  'data.examples': Key(holds='reference', is_input=True, stages=('grpo', 'reward_model')),
  'data.written': Key(holds='reference'),
  'data.requirements': _count(high=100),
  **{f'data.{n}': _share() for n in ('share_from', 'share_to', 'formatted_share', 'threshold')},
  **dict.fromkeys(
    ('data.tests', 'debug.replay', 'export.folder', 'score.texts'),
    Key(holds='path', may_change=ALWAYS),
  ),
  'data.long': Key(choices=('refuse', 'window')),
  'data.skip_broken': Key(inherited=True),
  **{f'pairs.{name}': _count(1, 1_000) for name in ('temperatures', 'openings')},
  **{f'pairs.{end}': Key(1e-2, 100.0) for end in ('coldest', 'hottest')},
  **{f'mesh.{axis}': _count(-1, 10**6, inherited=True, may_change=ALWAYS) for axis in types.AXES},
  **{f'prompts.{name}': Key(holds='path', is_input=True) for name in ('sources', 'benchmarks')},
  **dict.fromkeys(('prompts.embedded', 'rl.overlong_margin', 'reward.max_words'), _count(1)),
  **{f'prompts.{k}': _count(n, 1_000) for k, n in (('min_words', 1), ('examples', 0))},
  'prompts.max_chars': _count(1, 10**7),
  'prompts.shortest': _count(0, 12_000),
  **{f'prompts.{name}': _share(0.1) for name in ('similarity', 'overlap')},
  'train.num_steps': _count(may_change=ALWAYS),
  **{f'train.{name}': _count(1, 10**6) for name in ('rows', 'micro_rows')},
  **dict.fromkeys(('train.learning_rate', 'reward.refresh_rate'), Key(0.0, 10.0)),
  **dict.fromkeys(('train.warmup_steps', 'train.decay_steps', 'rl.short_first'), _count()),
  **dict.fromkeys(('train.final_share', 'reward.writing_floor'), _share()),
  **{k: _share(0, _BELOW_1) for k in ('data.slack', 'train.b1', 'train.b2')},
  'train.weight_decay': Key(0.0, 100.0),
  'train.max_norm': Key(1e-12, 1e12),
  'train.optimizer': Key(choices=('adamw', 'muon')),
  'train.moments': Key(choices=('float32', 'bfloat16')),
  'train.offload': Key(may_change=ALWAYS),
  'train.halvings': _count(high=24),
  'train.centring': Key(0.0, 1e6),
  **dict.fromkeys(('train.chunk', 'reward.judge_tokens'), _count(1, 2**24)),
  'train.remat': Key(choices=tuple(qwen.REMAT)),
  'train.dtype': Key(choices=('', 'bfloat16', 'float32'), inherited=True),
  'train.attention': Key(choices=('auto', *packed_attention.BACKENDS), may_change=ALWAYS),
  'lora.rank': _count(high=2**16),
  'lora.alpha': Key(1e-6, 1e6),
  'lora.targets': Key(choices=tuple(lora.TARGETS)),
  **dict.fromkeys(('lora.frozen', 'rollout.weights'), Key(choices=quantised.KINDS)),
  **{f'rl.{k}': _count(1, 10**6) for k in ('prompts_per_step', 'group_size', 'num_minibatches')},
  **{k: _count(high=1_000) for k in ('rl.max_resamples', 'rl.alike', 'prompts.references')},
  'rl.num_epochs': _count(1, 1_000),
  **{f'rl.{name}': Key(0.0, 1e6) for name in ('clip_low', 'clip_high', 'ratio_cap', 'tis_cap')},
  **{f'rl.{name}': Key(0.0, 1e6) for name in ('kl_weight', 'entropy_weight')},
  **{k: Key(holds='reference', stages=WRITING) for k in ('rl.teacher', 'reward.likelihood_model')},
  'rl.satisfied': _share(),
  'rl.stop_on_alarm': Key(may_change=ALWAYS),
  **dict.fromkeys(('rollout.temperature', 'reward.judge_temperature'), Key(0.0, 100.0)),
  **{f'rollout.max_{name}': _count(1, 2**24) for name in ('prompt_tokens', 'tokens')},
  'rollout.min_tokens': _count(high=2**24),
  'rollout.top_p': _share(1e-9),
  **dict.fromkeys(('rollout.top_k', 'rescore.batches'), _count()),
  'rollout.slots': _count(high=10**6),
  'rollout.block': _count(1, 2**20),
  'rollout.attention': Key(may_change=ALWAYS),
  **dict.fromkeys(
    ('reward.model', 'reward.ensemble', 'reward.heldout'),
    Key(holds='reference', stages=('reward_model',)),
  ),
  'reward.judge': Key(holds='reference', is_input=True, stages=WRITING),
  'rescore.run': Key(holds='reference', is_input=True, stages=('grpo',)),
  **{f'reward.refresh{k}': _count(n, 10**6) for k, n in (('', 0), ('_steps', 1), ('_pairs', 2))},
  'reward.mean': Key(-1e9, 1e9),
  'reward.std': Key(0.0, 1e9),
  **dict.fromkeys(('reward.caution', 'reward.weights'), Key(0.0, 1e6)),
  **dict.fromkeys(('eval', 'eval.sends', 'judge', 'judge.sends'), Key(may_change=TRAINING)),
  **{f'{k}key_env': Key(may_change=ALWAYS) for k in ('eval.', 'judge.', 'reward.judge_')},
  'eval.file': Key(holds='path', is_input=True, may_change=TRAINING),
  **dict.fromkeys(('eval.systems', 'judge.model'), _WRITER),
  'eval.scorers': _WRITER._replace(stages=TRAINING),
  **dict.fromkeys(_EVALUATED, _count(may_change=TRAINING)),
  **{f'eval.{k}': _count(1, 10**6, may_change=TRAINING) for k in ('lengths', 'slots', 'window')},
  'eval.style': Key(choices=('chat', *types.STYLES), may_change=TRAINING),
  'eval.annotations': Key(holds='path', may_change=TRAINING),
  **dict.fromkeys(('eval.batches', 'log.samples_every'), _count(1, may_change=ALWAYS)),
  **dict.fromkeys(('eval.every', 'eval.pairs', 'judge.stream'), _count(may_change=ALWAYS)),
  'judge.temperature': Key(0.0, 100.0, optional=True, may_change=TRAINING),
  'judge.top_p': _share(1e-9, optional=True, may_change=TRAINING),
  'judge.max_tokens': _count(1, 2**24, may_change=TRAINING),
  'judge.rounds': _count(1, 100, may_change=TRAINING),
  **{f'{k}.max_failures': _share(may_change=ALWAYS) for k in ('reward', 'judge')},
  'judge.cache': Key(holds='path', may_change=ALWAYS),
  'judge.concurrency': _count(1, 10_000, may_change=ALWAYS),
  'judge.requests_per_minute': Key(0.0, 1e9, may_change=ALWAYS),
  'judge.tokens_per_minute': Key(0.0, 1e12, may_change=ALWAYS),
  **dict.fromkeys(('judge.timeout', 'eval.wait'), Key(1e-3, 86_400.0, may_change=ALWAYS)),
  'judge.deadline': Key(1e-3, 1e6, may_change=ALWAYS),
  'judge.tries': _count(1, 100, may_change=ALWAYS),
  **{f'judge.price_{way}': Key(0.0, 1e6, may_change=ALWAYS) for way in ('in', 'out')},
  'reward.judge_budget': Key(0.0, 1e6, may_change=ALWAYS),
  **dict.fromkeys(('log', 'preflight', 'report', 'checkpoint', 'debug'), Key(may_change=ALWAYS)),
  'log.sinks': Key(choices=sinks.SINKS, inherited=True, may_change=ALWAYS),
  'profile.steps': _count(may_change=ALWAYS),
  'preflight.stage': Key(choices=('', *TRAINING), may_change=ALWAYS),
  'export.format': Key(choices=('huggingface', 'gguf', 'peft')),
  'export.type': Key(choices=tuple(gguf_writer.TYPES)),
  **{f'serve.{name}': _count(1) for name in ('queue', 'choices', 'messages', 'body')},
  **dict.fromkeys(('generate.prompts', 'generate.folder'), Key(holds='path')),
  **{f'generate.{k}': _count(n, 10**6) for k, n in (('drafts', 1), ('words', 0), ('loop', 0))},
  **{f'serve.{k}': _count(high=n) for k, n in (('port', 65_535), ('deadline', 86_400))},
  'checkpoint.every': _count(1, inherited=True, may_change=ALWAYS),
  'checkpoint.minutes': Key(0.0, 1e6, inherited=True, may_change=ALWAYS),
  **{f'checkpoint.{name}': _count(1, may_change=ALWAYS) for name in ('keep', 'keep_best')},
  'debug.max_skipped': _count(may_change=ALWAYS),
  'debug.watchdog': Key(0.0, 1e7, may_change=ALWAYS),
  'debug.heartbeat': _count(1, 10**6, inherited=True, may_change=ALWAYS),
}

# Old name -> new name. Old run folders are read by it; on the command line an old name is refused.
RENAMED = {
  'rl.weight_cap': 'rl.tis_cap',
  'rl.max_redraws': 'rl.max_resamples',
  'eval.rows': 'eval.slots',
  'report.figures': 'report.metrics',
  'log.tensorboard': 'log.sinks',
}

_ALIAS = re.compile(r'([^/@:=]{1,80})=(.+)')
_SERVER = {'reward': r"(^|[('\s@])https?:", 'eval': '@https?:', 'judge': '@https?:'}


def get(c, key: str) -> Any:
  """Returns the value under a dotted key."""
  for part in key.split('.'):
    c = c[part]
  return c


def set_value(c, key: str, value: Any) -> None:
  """Sets the value under a dotted key."""
  parent, _, last = key.rpartition('.')
  (get(c, parent) if parent else c)[last] = value


def of(key: str) -> Key:
  """Returns the entry of a dotted key: its own, else that of its group."""
  while key not in KEYS and '.' in key:
    key = key.rpartition('.')[0]
  return KEYS.get(key, Key())


def names(fact: Callable[[Key], Any]) -> list[str]:
  """Returns the keys of the table for which `fact` holds."""
  return [name for name, key in KEYS.items() if fact(key)]


def is_under(key: str, names: Iterable[str]) -> bool:
  """Whether a dotted key is one of the names, or lies in one of the groups that they name."""
  return any(key == name or key.startswith(f'{name}.') for name in names)


def is_identity(key: str, stage: str, reads: Sequence[str]) -> bool:
  """Whether a key belongs to the identity of a run of this stage, which reads `reads`."""
  return is_under(key, reads) and stage not in of(key).may_change


def upgrade(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a flat config of an older run with today's names of keys."""
  return {RENAMED.get(key, key): value for key, value in flat.items()}


def alias(value: str) -> tuple[str, str]:
  """Returns the name and the source of NAME=SOURCE; '' and the value if it gives no name.

  >>> alias('before=org/model@http://host/v1'), alias('./lr=0.1')
  (('before', 'org/model@http://host/v1'), ('', './lr=0.1'))
  """
  found = _ALIAS.fullmatch(value)
  return (found[1].strip(), found[2]) if found else ('', value)


def expand_paths(c) -> None:
  """Expands `~` in every path and reference: no shell does so inside `--config.key=~/x`."""

  def expanded(value: Any) -> Any:
    if isinstance(value, tuple):
      return tuple(map(expanded, value))
    if not isinstance(value, str):
      return value
    named, source = alias(value)
    return f'{named}={os.path.expanduser(source)}' if named else os.path.expanduser(value)

  for key in names(lambda key: key.holds):
    set_value(c, key, expanded(get(c, key)))


def check(c) -> None:
  """Raises ValueError for the first value outside its bounds, or a name that is no choice."""
  places.check_folder(c.runs_dir, c.name or '')
  for key, value in leaves(c):
    low, high, choices, *_ = of(key)
    if value is None:
      if not of(key).optional:
        raise ValueError(f'{key}=None: give it a value; experiments/base.py has the default')
      continue
    places.check_password(key, value)
    server = _SERVER.get(key.partition('.')[0], '$.')
    if (holds := of(key).holds) and (holds == 'path' or not re.search(server, str(value))):
      places.check(key, value)
    kind = str if low is None else int  # of the elements of a tuple
    if isinstance(value, tuple) and not all(isinstance(one, kind) for one in value):
      raise ValueError(f'{key}={value}: each of them must be {kind.__name__}')
    for one in value if isinstance(value, tuple) else (value,):
      if choices and one not in choices:
        raise ValueError(f'{key}: there is no {one!r}; choose from {", ".join(choices)}')
    if low is None or high is None:
      continue
    for one in value if isinstance(value, tuple) else (value,):
      if not (isinstance(one, int | float) and low <= one <= high):  # NaN is not within either
        shown = reprlib.repr(one)  # it may have hundreds of digits
        raise ValueError(f'{key}={shown}: choose a number from {low:.10g} to {high:.10g}')


def leaves(c, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields every dotted key of a config, and its value."""
  for name, value in c.items():
    if hasattr(value, 'items'):
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value
