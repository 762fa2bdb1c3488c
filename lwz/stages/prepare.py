"""What every stage opens and closes with: checks, folder, mesh, tokenizer, model, report."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath

from lwz import hosts, types
from lwz.data import corpus, prompts, templates, tokenizer
from lwz.model import config as config_lib
from lwz.model import decode_attention, packed_attention, qwen, sharding
from lwz.programs import fit, phases, program, topology
from lwz.report import curves, number, page, summary, terminal
from lwz.reward import length
from lwz.store import metrics, origin, run, samples


def run_name(c) -> str:
  """The name of a run's folder: experiment-size, plus -s<seed> where the seed is not 0."""
  return c.name or f'{c.experiment}-{c.size}' + (f'-s{c.seed}' if c.seed else '')


def run_folder(c) -> epath.Path:
  return epath.Path(c.runs_dir) / run_name(c)


def reference(c, value: str) -> str:
  """The folder of `experiment:size` under `runs_dir`; any other value is a folder or a hub id."""
  return str(epath.Path(c.runs_dir) / value.replace(':', '-')) if is_experiment(value) else value


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
  'rollout.max_prompt_tokens': 1,
  'rollout.max_tokens': 1,
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


def check(c, references: Sequence[str]) -> None:
  """What every stage can know to be wrong before any work is done.

  `references` are the dotted keys of this stage that name runs.
  """
  for key, least in _LEAST.items():
    if get(c, key) < least:
      raise ValueError(f'{key}={get(c, key)} must be at least {least}')
  for key, low in (('data.heldout', 0), ('data.slack', -1e-9), ('data.tested', -1e-9)):
    if not low < get(c, key) < 1:
      raise ValueError(f'{key}={get(c, key)} is a share, below 1 and not negative')
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
    if get(c, key) not in known:
      raise ValueError(f'{key}: there is no {get(c, key)!r}; choose from {", ".join(known)}')
  if c.checkpoint.best and not summary.direction(c.checkpoint.best):
    raise ValueError(f'checkpoint.best={c.checkpoint.best}: its name does not tell what is better')
  if c.data.folder:
    corpus.documents(c.data.folder)
  if c.data.tokenizer:
    tokenizer.load(c.data.tokenizer)
  elif c.init == 'random' and c.stage != 'pretrain':
    raise ValueError("init='random' has no tokenizer: name one under data.tokenizer")
  longest = min(expected(c, get(c, key)).num_positions for key in references)
  if c.data.row_length > longest:
    raise ValueError(f'data.row_length={c.data.row_length}, but a model has {longest} positions')


def check_mesh(c, references: Sequence[str]) -> None:
  """Raises where the tokens of a row, or a dimension of one of the models, cannot be cut so."""
  over = mesh(c)
  ways = over.shape['tensor'] * over.shape['context']
  if c.data.row_length % ways:
    raise ValueError(
      f'data.row_length={c.data.row_length} is not divisible by mesh.tensor x mesh.context = {ways}'
    )
  for key in references:
    try:
      sharding.shardings(expected(c, get(c, key)), over, sharding.TRAIN)
    except ValueError as error:
      raise ValueError(f'{key}={get(c, key)}: {error}') from error


def check_decoding(c, reference: str) -> None:
  """Raises where `rollout.attention` names what cannot read this model's cache on these devices."""
  head_dim = expected(c, reference).head_dim
  try:
    decode_attention.choose(c.rollout.attention, mesh(c), head_dim, int8=c.rollout.int8)
  except ValueError as error:
    raise ValueError(f'rollout.attention={c.rollout.attention}: {error}') from None


@contextlib.contextmanager
def loading(source: str) -> Iterator[Callable[[int, int], None]]:
  """A progress bar for `hf.load`, where there is anything to load."""
  with contextlib.ExitStack() as stack:
    bars: list[terminal.Progress] = []

    def progress(done, total):
      if not bars:
        bar = terminal.progress(total, label=f'load {source}', quiet=jax.process_index() != 0)
        bars.append(stack.enter_context(bar))
      bars[0].update(done)

    yield progress


def mesh(c) -> jax.sharding.Mesh:
  """The devices of this run, laid out as `c.mesh` says."""
  return sharding.make_mesh([c.mesh.data, c.mesh.fsdp, c.mesh.tensor, c.mesh.context])


def fits(c, programs: dict[str, program.Program]) -> None:
  """Compiles what the run will run, and raises where it does not fit these devices, by how much."""
  if not c.preflight.at_start:
    return
  for verdict in fit.check(phases.phases(programs), topology.load('local').chip):
    print(f'{run_name(c)}: {fit.describe(verdict)}')


def pass_rows(c, over: jax.sharding.Mesh, num_rows: int) -> int:
  """Rows of one pass over `num_rows`: at most `train.micro_rows` for each way that rows are cut."""
  ways = over.shape['data'] * over.shape['fsdp']
  return ways * min(c.train.micro_rows, -(-num_rows // ways))


def check_identity(c) -> None:
  """Raises where the folder holds a run of another config, naming the keys that differ."""
  run.check_identity(run_folder(c), c.to_dict(), c.outside_identity)


def expected(c, value: str) -> config_lib.QwenConfig:
  """The model that a reference will have led to, or has; FileNotFoundError where there is none."""
  if value == 'random':
    return config_lib.preset(c.size)
  if is_experiment(value):
    return computed(c, config_lib.preset(value.split(':')[1]))
  return computed(c, origin.config(value))


def computed(c, config: config_lib.QwenConfig) -> config_lib.QwenConfig:
  """The same model, computed as this run wants it."""
  return dataclasses.replace(config, attention=c.train.attention)


def get(c, key: str):
  """The value under a dotted key."""
  for part in key.split('.'):
    c = c[part]
  return c


def is_experiment(value: str) -> bool:
  """Whether a reference reads experiment:size, rather than being a path."""
  return ':' in value and '/' not in value


def open_run(c) -> run.Run:
  """The run's folder, created or opened again."""
  folder, outside = run_folder(c), c.outside_identity
  opened = hosts.first(
    lambda: run.open_run(folder, c.to_dict(), outside=outside, command=list(sys.argv))
  )
  return opened or run.Run(folder)


def is_complete(c) -> bool:
  """Whether there is nothing left to run: DONE, with this config and this number of steps."""
  folder, goal = run_folder(c), ('train.num_steps',)
  return hosts.of_first(run.is_complete(folder, c.to_dict(), c.outside_identity, goal=goal))


def documents(c) -> tuple[list[types.Document], list[types.Document]]:
  """Training and held-out documents of the corpus."""
  return corpus.split(corpus.documents(c.data.folder), c.data.heldout)


def heldout(c) -> tuple[list[types.Document], list[types.Document]]:
  """Held-out documents: those that GRPO asks for, and those that evaluations alone ask for."""
  return corpus.split(documents(c)[1], c.data.heldout * c.data.tested)


def writing_prompts(c) -> list[types.Prompt]:
  """The prompt set: from a file, or from the titles that no training has seen before."""
  if c.data.prompts:
    return prompts.load(c.data.prompts)
  return prompts.from_documents(
    heldout(c)[0],
    lower=c.data.lower,
    upper=c.data.upper,
    slack=c.data.slack,
    count_words=length.count_words,
  )


def load_tokenizer(c, folder: epath.Path):
  """The tokenizer of this run; that of `init` and then kept in the folder, on the first start."""
  own = folder / 'tokenizer'
  if not hosts.of_first(own.exists()):
    source = c.data.tokenizer or origin.tokenizer(reference(c, c.init))
    hosts.first(lambda: tokenizer.save(tokenizer.load(source), own))
  return tokenizer.load(own)


def model_config(
  c, folder: epath.Path, num_tokens: int, *, scalar_head: bool = False
) -> config_lib.QwenConfig:
  """The model of this run, kept in its folder: that of `init`, or the preset where that is random.

  It must have as many embeddings as the tokenizer has tokens.
  """
  if hosts.of_first(origin.is_run(folder)):
    return computed(c, origin.config(folder))
  random = c.init == 'random'
  config = config_lib.preset(c.size) if random else origin.config(reference(c, c.init))
  if num_tokens > config.vocab_size:
    raise ValueError(f'the tokenizer has {num_tokens} tokens, the model only {config.vocab_size}')
  config = dataclasses.replace(config, scalar_head=scalar_head)
  hosts.first(lambda: origin.keep(folder, config))
  return computed(c, config)


def finish(
  c,
  opened: run.Run,
  *,
  keys: Sequence[str],
  pictures: Sequence[dict[str, Any]],
  facts: dict[str, Any],
  tables=(),
  better=None,
  result: dict[str, Any] | None = None,
) -> None:
  """Report, closing table, DONE. `pictures` are arguments of `curves.draw`."""
  hosts.first(lambda: _finish(c, opened, keys, pictures, facts, tables, better, result))


def _finish(c, opened, keys, pictures, facts, tables, better, result) -> None:
  records = metrics.read(opened.folder)
  rows = summary.first_last(records, keys)
  took = number.duration(sum(r['seconds'] for r in records))
  page.write(
    opened.report,
    title=run_name(c),
    subtitle=f'{c.experiment}, size {c.size}',
    facts={'steps': c.train.num_steps, 'time': took} | facts,
    table=rows,
    curves=[('', curves.draw(records, **arguments)) for arguments in pictures],
    samples=[s for step in samples.read(opened.folder).values() for s in step],
    tables=tables,
    better=better,
  )
  terminal.closing_table(f'{run_name(c)}, first and last steps', rows)
  opened.mark_done({row.name: row.last for row in rows} | (result or {}))
  print(f'report: {opened.report}')
