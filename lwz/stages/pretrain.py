"""Next-token training on packed documents: the base model, and its continual pretraining.

Before the loop: read the corpus, render a share of it as formatted documents (request, plan, text)
in both styles, encode all of it once, to disk. One step:

  1. take a batch of packed rows        data.pipeline
  2. one optimiser step                  programs.language_model
  3. record, and save with the data's position
"""

import hashlib
import itertools
import math
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import jax

from lwz import hosts, types
from lwz.data import corpus, formatted, pipeline, tokenizer, tokens
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import language_model, program
from lwz.runtime import setup, trainer, validation
from lwz.store import atomic

READS = (
  *(*setup.READS, *setup.MESH, *setup.MODEL, *setup.DOCUMENTS, *trainer.READS),
  *('data.lower', 'data.upper', 'data.template', 'data.row_length', 'data.formatted_share'),
  *('train.rows', 'train.chunk', 'train.remat', 'eval.every', 'eval.batches'),
)

_TOKENIZER_BYTES = 1 << 27  # of a corpus, from which a tokenizer is trained
_CHUNK = 1 << 20  # characters that are encoded at a time


def check(c) -> None:
  validation.config(c, ['init'])
  validation.mesh(c, ['init'])
  if c.train.rows % (rows := setup.pass_rows(c, setup.mesh(c), c.train.rows)):
    raise ValueError(
      f'train.rows={c.train.rows} is not a multiple of the {rows} rows of a pass, '
      'train.micro_rows x mesh.data x mesh.fsdp: choose one'
    )


def run(c) -> Iterator[dict[str, float]]:
  opened = setup.open_run(c, READS)
  if c.init == 'random' and not c.data.tokenizer:
    hosts.first(lambda: _train_tokenizer(c, opened.folder))
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, tok)
  parts = _tokens(c, opened.folder, tok)

  shape = {
    'row_length': c.data.row_length,
    'num_rows': c.train.rows,
    'pad_id': tok.pad_token_id,
  }
  batches = iter(
    pipeline.pretrain(
      parts['train'],
      parts.get('train_formatted', parts['train']),
      share=c.data.formatted_share,
      seed=c.seed,
      **shape,
    )
  )
  tests = {
    name: pipeline.heldout(part, num_batches=c.eval.batches, **shape)
    for name, part in parts.items()
    if name.startswith('heldout')
  }

  mesh = setup.mesh(c)
  compiled = programs(c, {'policy': config}, mesh)
  setup.check_memory(c, compiled)
  if c.debug.replay:
    return trainer.rerun(c, compiled['pretrain'])
  loop = trainer.Trainer(c, opened, config, mesh)
  step_fn, eval_fn = compiled['pretrain'].jit(), compiled['evaluate'].jit()
  if 'data' in loop.extra:
    batches.set_state(loop.extra['data'])
  state = loop.state
  for step in loop:
    measured = {}
    if c.eval.every and step % c.eval.every == 0:
      measured |= _evaluate(c, eval_fn, state.params, tests)
    state, values = loop.update(step_fn, state, next(batches))
    if step + 1 == c.train.num_steps:
      measured |= _evaluate(c, eval_fn, state.params, tests)
    yield loop.record(
      step, state, values | measured, show=('loss',), extra={'data': batches.get_state()}
    )

  names = [f'{name}/{what}' for name in tests for what in ('loss', 'perplexity')]
  setup.finish(
    c,
    opened,
    shown=['loss', *names, 'grad_norm'],
    plots=[
      {'keys': ['loss'], 'title': 'training loss', 'unit': 'nats per token'},
      {'keys': [f'{n}/loss' for n in tests], 'title': 'held-out loss', 'unit': 'nats'},
      {'keys': [f'{n}/perplexity' for n in tests], 'title': 'held-out perplexity'},
      {'keys': ['grad_norm'], 'title': 'gradient norm, before the clip'},
    ],
    facts={'parameters': f'{qwen.num_params(config):,}', 'documents': parts['train'].num_documents},
  )


def models(c) -> dict[str, qwen.QwenConfig]:
  """Returns the configurations of the models of a run, which need not exist yet."""
  return {'policy': setup.expected(c, c.init)}


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """Returns the programs that a run compiles: the training step and the held-out loss."""
  shape = language_model.RowShape(c.train.rows, c.data.row_length)
  train = language_model.train_step(
    models['policy'],
    trainer.adamw(c, models['policy']),
    shape,
    micro_rows=setup.pass_rows(c, mesh, c.train.rows),
    chunk=c.train.chunk,
    remat=c.train.remat,
    offload=c.train.offload,
    mesh=mesh,
  )
  evaluate = language_model.evaluate(models['policy'], shape, chunk=c.train.chunk, mesh=mesh)
  return {'pretrain': train, 'evaluate': evaluate}


def _train_tokenizer(c, folder) -> None:
  """Trains the run's tokenizer on the corpus and on formatted documents, so that tags are short."""
  if (folder / 'tokenizer').exists():
    return
  size = corpus.size(c.data.folder) if c.data.folder else 0
  share = min(1.0, _TOKENIZER_BYTES / max(size, 1))

  def documents() -> Iterator[types.Document]:
    for document in corpus.stream(c.data.folder):
      sampled = share == 1 or corpus.fraction(document.text, 'tokenizer') < share
      if sampled and not corpus.is_heldout(document, c.data.heldout):
        yield document

  def texts() -> Iterator[str]:
    for document in documents():
      yield from tokenizer.slices(_text(document))
    for document in itertools.islice(documents(), 0, None, 4):
      yield from (prompt + completion for prompt, completion in _examples(c, [document]))

  vocab_size = config_lib.preset(c.size).vocab_size
  tokenizer.save(tokenizer.train(texts(), vocab_size), folder / 'tokenizer')


def _tokens(c, folder, tok) -> dict[str, tokens.Tokens]:
  """Returns the ids of training and held-out documents, plain and formatted, by name.

  They are encoded once and kept in the run's folder; where that is in a bucket, in a local folder
  of each process.
  """
  digest = hashlib.sha256()
  for path in sorted((folder / 'tokenizer').iterdir()):
    digest.update(path.read_bytes())
  settings = ('heldout', 'lower', 'upper', 'template', 'row_length')
  key = {
    'corpus': corpus.stamp(c.data.folder),
    'tokenizer': digest.hexdigest(),
    'formatted': bool(c.data.formatted_share),
    **{name: c.data[name] for name in settings},
  }
  remote = atomic.is_remote(folder)
  target = pathlib.Path(tempfile.mkdtemp() if remote else folder) / 'tokens'

  def write() -> None:
    if not tokens.is_current(target, key):
      shape = {'row_length': c.data.row_length, 'num_ids': tokenizer.num_ids(tok)}
      tokens.write(target, _encoded(c, tok), key=key, **shape)

  write() if remote else hosts.first(write)
  found = tokens.load(target)
  if remote:  # what is mapped stays readable
    shutil.rmtree(target.parent)
  return found


def _encoded(c, tok) -> Iterator[tuple[str, int, list[list[int]]]]:
  """Yields the corpus in chunks of a part, a number of documents, and their ids."""
  kept: dict[str, list[types.Document]] = {'train': [], 'heldout': []}

  def encode(part: str) -> Iterator[tuple[str, int, list[list[int]]]]:
    documents, kept[part] = kept[part], []
    yield part, len(documents), _plain_ids(tok, documents)
    if c.data.formatted_share:
      yield f'{part}_formatted', len(documents), _formatted_ids(c, tok, documents)

  for document in corpus.stream(c.data.folder):
    part = 'heldout' if corpus.is_heldout(document, c.data.heldout) else 'train'
    kept[part].append(document)
    if sum(len(d.text) for d in kept[part]) > _CHUNK or len(kept[part]) >= 1_000:
      yield from encode(part)
  for part in kept:
    yield from encode(part)


def _text(document: types.Document) -> str:
  return f'{document.title}\n\n{document.text}'


def _plain_ids(tok, documents: list[types.Document]) -> list[list[int]]:
  return tokenizer.encode(tok, map(_text, documents), end=True)


def _formatted_ids(c, tok, documents: list[types.Document]) -> list[list[int]]:
  """Returns the ids of formatted documents.

  Request and completion are encoded apart, as in a rollout, where no token spans both. A document
  longer than a row is left out: cut, it would teach a broken format.
  """
  pairs = _examples(c, documents)
  prompts = tokenizer.encode(tok, [prompt for prompt, _ in pairs], end=False)
  completions = tokenizer.encode(tok, [completion for _, completion in pairs], end=True)
  whole = [p + q for p, q in zip(prompts, completions, strict=True)]
  return [ids for ids in whole if len(ids) <= c.data.row_length]


def _examples(c, documents: list[types.Document]) -> list[tuple[str, str]]:
  """Returns (request, completion) of each document in both styles; about half state the length."""
  found = [
    formatted.example(
      document,
      style,
      c.data.template,
      c.data.lower,
      c.data.upper,
      formatted.states_length(document),
    )
    for document in documents
    for style in types.STYLES
  ]
  return [example for example in found if example is not None]


def _evaluate(c, eval_fn, params, tests) -> dict[str, float]:
  """Returns the mean held-out loss, in nats per token, and the perplexity, its exponential."""
  values = {}
  for name, batches in tests.items():
    sums = [eval_fn(params, batch) for batch in batches]
    total, tokens = (float(sum(x)) for x in zip(*jax.device_get(sums), strict=True))
    values[f'{name}/loss'] = total / tokens
    values[f'{name}/perplexity'] = math.exp(total / tokens)
  return values
