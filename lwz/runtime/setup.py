"""What every stage opens and closes with: folder, mesh, tokenizer, model, report."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath

from lwz import hosts, types
from lwz.data import corpus, prompts, tokenizer
from lwz.model import config as config_lib
from lwz.model import sharding
from lwz.programs import program
from lwz.programs.cost import fit, memory_plan, topology
from lwz.report import curves, number, page, summary, terminal
from lwz.store import metrics, model_source, run, samples


def run_name(c) -> str:
  """The name of a run's folder: experiment-size, plus -s<seed> where the seed is not 0."""
  return c.name or f'{c.experiment}-{c.size}' + (f'-s{c.seed}' if c.seed else '')


def run_folder(c) -> epath.Path:
  return epath.Path(c.runs_dir) / run_name(c)


def reference(c, value: str) -> str:
  """The folder of `experiment:size` under `runs_dir`; any other value is a folder or a hub id."""
  return str(epath.Path(c.runs_dir) / value.replace(':', '-')) if is_experiment(value) else value


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
  for verdict in fit.check(memory_plan.phases(programs), topology.load('local').chip):
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
  return computed(c, model_source.config(value))


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
  )


def load_tokenizer(c, folder: epath.Path):
  """The tokenizer of this run; that of `init` and then kept in the folder, on the first start."""
  own = folder / 'tokenizer'
  if not hosts.of_first(own.exists()):
    source = c.data.tokenizer or model_source.tokenizer(reference(c, c.init))
    hosts.first(lambda: tokenizer.save(tokenizer.load(source), own))
  return tokenizer.load(own)


def model_config(
  c, folder: epath.Path, num_tokens: int, *, scalar_head: bool = False
) -> config_lib.QwenConfig:
  """The model of this run, kept in its folder: that of `init`, or the preset where that is random.

  It must have as many embeddings as the tokenizer has tokens.
  """
  if hosts.of_first(model_source.is_run(folder)):
    return computed(c, model_source.config(folder))
  random = c.init == 'random'
  config = config_lib.preset(c.size) if random else model_source.config(reference(c, c.init))
  if num_tokens > config.vocab_size:
    raise ValueError(f'the tokenizer has {num_tokens} tokens, the model only {config.vocab_size}')
  config = dataclasses.replace(config, scalar_head=scalar_head)
  hosts.first(lambda: model_source.keep(folder, config))
  return computed(c, config)


def finish(
  c,
  opened: run.Run,
  *,
  keys: Sequence[str],
  pictures: Sequence[dict[str, Any]],
  facts: dict[str, Any],
  tables=(),
  result: dict[str, Any] | None = None,
) -> None:
  """Report, closing table, DONE. `pictures` are arguments of `curves.draw`."""
  hosts.first(lambda: _finish(c, opened, keys, pictures, facts, tables, result))


def _finish(c, opened, keys, pictures, facts, tables, result) -> None:
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
  )
  terminal.closing_table(f'{run_name(c)}, first and last steps', rows)
  opened.mark_done({row.name: row.last for row in rows} | (result or {}))
  print(f'report: {opened.report}')
