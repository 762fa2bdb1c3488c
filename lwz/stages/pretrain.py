"""Next-token training on packed documents: the base model, and its continual pretraining.

Before the loop: read the corpus, render a share of it as formatted documents (request, plan, text)
in both styles, encode all of it once. One step:

  1. take a batch of packed rows        data.pipeline
  2. one optimiser step                  programs.language_model
  3. record, and save with the data's position
"""

import math

import jax

from lwz import hosts, types
from lwz.data import formatted, pipeline, tokenizer
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import language_model, program
from lwz.runtime import setup, trainer, validation

READS = (
  *(*setup.READS, *setup.MESH, *setup.MODEL, *setup.DOCUMENTS, *trainer.READS),
  *('data.lower', 'data.upper', 'data.template', 'data.row_length', 'data.formatted_share'),
  *('train.rows', 'train.chunk', 'train.remat', 'eval.every', 'eval.batches'),
)


def check(c) -> None:
  validation.config(c, ['init'])
  validation.mesh(c, ['init'])
  if c.train.rows % (rows := setup.pass_rows(c, setup.mesh(c), c.train.rows)):
    raise ValueError(
      f'train.rows={c.train.rows} is not a multiple of the {rows} rows of a pass, '
      'train.micro_rows x mesh.data x mesh.fsdp: choose one'
    )


def run(c) -> None:
  opened = setup.open_run(c, READS)
  train, heldout = setup.documents(c)
  if c.init == 'random' and not c.data.tokenizer:
    hosts.first(lambda: _train_tokenizer(c, opened.folder, train))
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, tok)

  shape = {'row_length': c.data.row_length, 'num_rows': c.train.rows}
  batches = iter(
    pipeline.pretrain(
      _plain_ids(tok, train),
      _formatted_ids(c, tok, train) if c.data.formatted_share else [],
      share=c.data.formatted_share,
      seed=c.seed,
      pad_id=tok.pad_token_id,
      **shape,
    )
  )
  tests = {'heldout': pipeline.heldout(_plain_ids(tok, heldout), pad_id=tok.pad_token_id, **shape)}
  if c.data.formatted_share:
    ids = _formatted_ids(c, tok, heldout)
    tests['heldout_formatted'] = pipeline.heldout(ids, pad_id=tok.pad_token_id, **shape)

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
    loop.record(step, state, values | measured, show=('loss',), extra={'data': batches.get_state()})

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
    facts={'parameters': f'{qwen.num_params(config):,}', 'documents': len(train)},
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


def _train_tokenizer(c, folder, documents: list[types.Document]) -> None:
  """Trains the run's tokenizer on the corpus and on formatted documents, so that tags are short."""
  if (folder / 'tokenizer').exists():
    return
  texts = [f'{d.title}\n\n{d.text}' for d in documents]
  texts += [prompt + completion for prompt, completion in _examples(c, documents[::4])]
  tokenizer.save(tokenizer.train(texts, config_lib.preset(c.size).vocab_size), folder / 'tokenizer')


def _plain_ids(tok, documents: list[types.Document]) -> list[list[int]]:
  return tokenizer.encode(tok, [f'{d.title}\n\n{d.text}' for d in documents], end=True)


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
    sums = [eval_fn(params, batch) for batch in batches[: c.eval.batches]]
    total, tokens = (float(sum(x)) for x in zip(*jax.device_get(sums), strict=True))
    values[f'{name}/loss'] = total / tokens
    values[f'{name}/perplexity'] = math.exp(total / tokens)
  return values
