"""Opening of any run: its name and identity, its folder, mesh, tokenizer and model."""

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from etils import epath

from lwz import hosts, types
from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.model import qwen, sharding
from lwz.programs import program
from lwz.programs.cost import fit, memory_plan, topology
from lwz.report import terminal
from lwz.runtime import keys, tokenizers
from lwz.store import inputs, model_source, run

READS = ('experiment', 'size', 'stage', 'seed', 'needs_seed', 'name', 'runs_dir', 'base_model')
TOKENIZER = ('data.tokenizer', 'data.chat_template')
COMPUTED = ('train.attention', 'train.dtype')
MODEL = ('init', *TOKENIZER, *COMPUTED, 'train.micro_rows', 'preflight.at_start')
MESH, DOCUMENTS = ('mesh',), ('data.folder', 'data.heldout')
PAIRS = 'preferences-train.jsonl'  # of a run of `reward_model` that has made its pairs
RESULTS = {'data.prompts': 'prompts.jsonl', 'data.examples': 'DONE', 'data.folder': 'corpus'}
RESULTS['rescore.run'] = 'metrics.jsonl'
PROMPTS = (*DOCUMENTS, 'data.prompts', 'data.tested', 'data.lower', 'data.upper', 'data.slack')


def run_name(c) -> str:
  """Returns the name of the run's folder: experiment-size, plus -s<seed> if the seed is not 0."""
  return c.name or f'{c.experiment}-{size_name(c, c.size)}' + (f'-s{c.seed}' if c.seed else '')


def size_name(c, size: str) -> str:
  """Returns the name of a size in those of folders; of `small`, the name of its model."""
  model = epath.Path(c.base_model).name.removesuffix('.gguf') if size == 'small' else ''
  return re.sub(r'[^\w.-]+', '-', model)[-60:] or size


def run_folder(c) -> epath.Path:
  return epath.Path(c.runs_dir) / run_name(c)


def reference(c, value: str) -> str:
  """Returns the folder of `experiment:size`, of `needs_seed`; any other value as it is."""
  if not is_experiment(value):
    return value
  experiment, _, size = value.partition(':')
  name = f'{experiment}-{size_name(c, size)}' + (f'-s{c.needs_seed}' if c.needs_seed else '')
  return str(epath.Path(c.runs_dir) / name)


def load_params(
  c,
  source: str,
  config: config_lib.QwenConfig,
  over: jax.sharding.Mesh,
  *,
  dtype: jax.typing.DTypeLike | None = None,
  seed: int = 0,
) -> qwen.Params:
  """Returns the parameters of a run or of a Hugging Face model, and shows a bar as they are read.

  `source` is as `reference` returns it, `config` the model that is wanted; a scalar head that the
  source lacks is sampled from `seed`. Every device of the mesh `over` reads the part that it holds.
  """
  with contextlib.ExitStack() as stack:
    bars: list[terminal.Progress] = []

    def progress(done: int, total: int) -> None:  # a run's own checkpoint reports nothing
      if not bars:
        bar = terminal.Progress(total, label=f'load {source}', quiet=jax.process_index() != 0)
        bars.append(stack.enter_context(bar))
      bars[0].update(done)

    return model_source.params(
      source,
      config,
      jax.random.key(seed),
      mesh=over,
      dtype=config.dtype if dtype is None else dtype,
      progress=progress,
    )


def mesh(c) -> jax.sharding.Mesh:
  """Returns the devices of this run, or those preflight compiles for, laid out as `c.mesh` says."""
  devices = topology.load(c.preflight.topology).devices if c.stage == 'preflight' else None
  return sharding.make_mesh([c.mesh[axis] for axis in types.AXES], devices)


def check_memory(c, programs: dict[str, program.Program]) -> None:
  """Compiles the programs of a run; raises ValueError if one does not fit these devices."""
  if not c.preflight.at_start:
    return
  for estimate in fit.check(memory_plan.plan(programs), topology.load('local').chip):
    print(f'{run_name(c)}: {fit.describe(estimate)}')


def pass_rows(c, over: jax.sharding.Mesh, num_rows: int) -> int:
  """Returns the rows of a micro-batch of `num_rows`: at most `train.micro_rows` per data shard."""
  ways = over.shape['data'] * over.shape['fsdp']
  return ways * min(c.train.micro_rows, -(-num_rows // ways))


def identity(c, reads: Sequence[str], defaults=None) -> run.Identity:
  """Returns what makes a run of `c` that run: the keys `reads`, without those that may change.

  `defaults` is a config without changes of the user's: a key that an older folder does not hold
  counts as its value there.
  """
  return run.Identity(
    includes=lambda key: keys.is_identity(key, c.stage, reads),
    upgrade=keys.upgrade,
    defaults=run.flatten(defaults.to_dict()) if defaults is not None else {},
    files=lambda: _files(c, reads),
    renews=c.stage == 'prompts',  # it sifts file by file
  )


def _files(c, reads: Sequence[str]) -> dict[str, dict[str, epath.Path]]:
  """Returns {key: {name: path}} of the files that are part of the identity by content."""
  found = {}
  for key in keys.names(lambda key: key.is_input):
    if keys.is_identity(key, c.stage, reads) and keys.get(c, key):
      value = input_file(c, key) if key in RESULTS else keys.get(c, key)
      roots = value if isinstance(value, tuple) else (value,)
      if key == 'reward.judge' and not value.endswith('.py'):
        roots = ()  # a model, whose weights are not read: another place is another judge
      found[key] = {
        f'{root}/{name}' if len(roots) > 1 else name: path
        for root in roots
        for name, path in inputs.files(root).items()
      }
  return found


def expected(c, value: str) -> config_lib.QwenConfig:
  """Returns the model configuration of a reference; of a run that does not exist yet, its preset's.

  Raises FileNotFoundError if a folder has no model.
  """
  if value == 'random':
    return config_lib.preset(c.size)
  size = value.partition(':')[2] if is_experiment(value) else ''
  is_preset = size and size != 'small'
  found = (
    config_lib.preset(size) if is_preset else model_source.config(c.base_model if size else value)
  )
  return computed(c, found)


def computed(c, config: config_lib.QwenConfig) -> config_lib.QwenConfig:
  """Returns the same model with the attention backend and the dtype of products of this run."""
  dtype = jnp.dtype(c.train.dtype) if c.train.dtype else config.dtype
  return dataclasses.replace(config, attention=c.train.attention, dtype=dtype)


def is_experiment(value: str) -> bool:
  """Whether a reference reads experiment:size, rather than being a path."""
  return ':' in value and '/' not in value


def open_run(c, reads: Sequence[str]) -> run.Run:
  """Creates the run's folder, or opens it again; `reads` are the keys that its stage reads."""
  folder = run_folder(c)
  opened = hosts.first(
    lambda: run.open_run(folder, c.to_dict(), identity=identity(c, reads), command=list(sys.argv))
  )
  return opened or run.Run(folder)


def is_complete(c, reads: Sequence[str], defaults=None) -> bool:
  """Whether there is nothing left to run: DONE, with this config and this number of steps."""
  folder, found = run_folder(c), identity(c, reads, defaults)
  return hosts.of_first(run.is_complete(folder, c.to_dict(), found, goal='train.num_steps'))


def is_unchanged(c, reads: Sequence[str], defaults=None) -> bool:
  """Whether a run was finished with these values of all `reads`, those that may change too."""
  every = dataclasses.replace(
    identity(c, reads, defaults), includes=lambda key: keys.is_under(key, reads)
  )
  return not every.differences(run.Run(run_folder(c)).read_done()['config'], c.to_dict())


def input_file(c, key: str) -> str:
  """Returns the file of a key: its own path, or the result of the run that it names."""
  source = reference(c, value := keys.get(c, key))
  folder = epath.Path(source)
  is_done = run.Run(folder).is_done() and (folder / 'config.json').exists()  # DONE may be anybody's
  is_run = source != value or (value and (model_source.is_run(folder) or is_done))
  has_pairs = key in ('data.prompts', 'data.examples') and epath.Path(source, PAIRS).exists()
  return os.path.join(source, PAIRS if has_pairs else RESULTS[key]) if is_run else source


def load_tokenizer(c, folder: epath.Path):
  """Returns the tokenizer that the run's folder keeps; a first start copies that of `init`."""
  own = folder / 'tokenizer'
  if not hosts.of_first(own.exists()):
    source = c.data.tokenizer or reference(c, c.init)
    hosts.first(lambda: tokenizer.save(tokenizers.load(source, c.data.chat_template), own))
  return tokenizer.load(own)


def model_config(c, folder: epath.Path, tok, *, scalar_head: bool = False) -> config_lib.QwenConfig:
  """Returns the model configuration that the run's folder keeps.

  A first start takes that of `init`, or the preset of the size if `init` is 'random'. Raises
  ValueError if the tokenizer is not one of this model, see `end_ids`.
  """
  is_kept = hosts.of_first(model_source.is_run(folder))
  source = os.fspath(folder) if is_kept else reference(c, c.init)
  config = config_lib.preset(c.size) if source == 'random' else model_source.config(source)
  ends = end_ids(tok, config, '' if source == 'random' else source)
  if source != os.fspath(folder):
    config = dataclasses.replace(config, scalar_head=scalar_head)
    hosts.first(lambda: model_source.keep(folder, config, ends))
  return computed(c, config)


def end_ids(tok, config: config_lib.QwenConfig, source: str) -> tuple[int, ...]:
  """Returns the ids that end a text: the tokenizer's eos, and those that the model's files name.

  Raises ValueError if the model has fewer embeddings than ids. `source` is '' for no files.
  """
  num_ids = tokenizer.num_ids(tok)
  if num_ids > config.vocab_size:
    raise ValueError(
      f'{tok.name_or_path}: the tokenizer has {num_ids:,} tokens, the model {source} only '
      f'{config.vocab_size:,} embeddings; name its own tokenizer under data.tokenizer'
    )
  named = model_source.end_ids(source) if source else ()
  return tuple(dict.fromkeys(i for i in (tok.eos_token_id, *named) if i < num_ids))
