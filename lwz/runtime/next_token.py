"""Next-token training on packed rows: what pretraining and fine-tuning share.

One step:

  1. take a batch of packed rows        data.pipeline
  2. one optimiser step                  programs.language_model
  3. record, and save with the data's position

In fine-tuning, rows say which tokens are of answers: losses are in nats per token of these alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from lwz.data import pipeline, templates, tokenizer, tokens
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import language_model, program
from lwz.runtime import adapters, closing, replay, setup, trainer, validation
from lwz.store import run as run_lib

READS = (
  *(*setup.READS, *setup.MESH, *setup.MODEL, *trainer.READS, 'data.row_length'),
  *('train.rows', 'train.chunk', 'train.remat', 'eval.every', 'eval.batches'),
)


def check(c) -> None:
  """Raises ValueError or OSError for faults of the config that no training can begin with."""
  validation.config(c, ['init'])
  validation.mesh(c, ['init'])
  adapters.check(c)
  if c.train.rows % (rows := setup.pass_rows(c, setup.mesh(c), c.train.rows)):
    raise ValueError(
      f'train.rows={c.train.rows} is not a multiple of the {rows} rows of a pass, '
      'train.micro_rows x mesh.data x mesh.fsdp: choose one'
    )


def encoded(
  tok, pairs: Sequence[tuple[templates.Prompt, str]]
) -> list[tuple[list[int], list[int]]]:
  """Returns the ids of prompts and of completions, these with an end token.

  They are encoded apart, as in a rollout, where no token spans both.
  """
  prompts = templates.ids(tok, [prompt for prompt, _ in pairs])
  completions = tokenizer.encode(tok, [completion for _, completion in pairs], end=True)
  return list(zip(prompts, completions, strict=True))


def models(c) -> dict[str, qwen.QwenConfig]:
  """Returns the configurations of the models of a run, which need not exist yet."""
  return {'policy': setup.expected(c, c.init)}


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh, *, answers: bool = False
) -> dict[str, program.Program]:
  """Returns the programs that a run compiles: the training step and the held-out loss.

  With `answers`, both are of the tokens of answers alone.
  """
  shape, lora = language_model.RowShape(c.train.rows, c.data.row_length), adapters.of(c)
  train = language_model.train_step(
    models['policy'],
    trainer.update_rule(c, models['policy'], lora=lora),
    shape,
    micro_rows=setup.pass_rows(c, mesh, c.train.rows),
    chunk=c.train.chunk,
    remat=c.train.remat,
    offload=c.train.offload,
    answers=answers,
    lora=lora,
    mesh=mesh,
  )
  evaluate = language_model.evaluate(
    models['policy'], shape, chunk=c.train.chunk, answers=answers, lora=lora, mesh=mesh
  )
  return {train.name: train, 'evaluate': evaluate}


def run(
  c,
  opened: run_lib.Run,
  tok,
  config: config_lib.QwenConfig,
  parts: Mapping[str, tokens.Tokens],
  *,
  share: float = 0.0,
  answers: bool = False,
  facts: Mapping[str, Any],
) -> Iterator[dict[str, float]]:
  """Trains on the part 'train', and on 'train_formatted' by `share`; yields the record of a step.

  Parts whose names begin with 'heldout' are those of evaluations. `answers`: see `programs`;
  `facts` are for the report.
  """
  shape = {
    'row_length': c.data.row_length,
    'num_rows': c.train.rows,
    'pad_id': tok.pad_token_id,
  }
  formatted = parts.get('train_formatted', parts['train'])
  batches = iter(pipeline.pretrain(parts['train'], formatted, share=share, seed=c.seed, **shape))
  tests = {
    name: pipeline.heldout(part, num_batches=c.eval.batches, **shape)
    for name, part in parts.items()
    if name.startswith('heldout')
  }

  mesh = setup.mesh(c)
  compiled = programs(c, {'policy': config}, mesh, answers=answers)
  setup.check_memory(c, compiled)
  if c.debug.replay:
    return replay.rerun(c, opened, config, mesh, compiled[c.stage])
  for name in ('evaluate', c.stage):  # in the order in which they are called
    compiled[name].start()
  loop = trainer.Trainer(c, opened, config, mesh)
  step_fn, eval_fn = (compiled[name].jit(*loop.frozen) for name in (c.stage, 'evaluate'))
  if 'data' in loop.extra:
    batches.set_state(loop.extra['data'])
  state = loop.state
  for step in loop:
    measured = {}
    if c.eval.every and step % c.eval.every == 0:
      measured |= _evaluate(eval_fn, state.params, tests)
    state, values = loop.update(step_fn, state, next(batches))
    if step + 1 == c.train.num_steps:
      measured |= _evaluate(eval_fn, state.params, tests)
    yield loop.record(
      step, state, values | measured, show=('loss',), extra={'data': batches.get_state()}
    )

  names = [f'{name}/{what}' for name in tests for what in ('loss', 'perplexity')]
  unit = 'nats per token' + ' of an answer' * answers
  closing.finish(
    c,
    opened,
    shown=['loss', *names, 'grad_norm'],
    plots=[
      {'keys': ['loss'], 'title': 'training loss', 'unit': unit},
      {'keys': [f'{n}/loss' for n in tests], 'title': 'held-out loss', 'unit': 'nats'},
      {'keys': [f'{n}/perplexity' for n in tests], 'title': 'held-out perplexity'},
      {'keys': ['grad_norm'], 'title': 'gradient norm, before the clip'},
    ],
    facts={'parameters': f'{qwen.num_params(config):,}', **adapters.facts(c, config), **facts},
  )


def _evaluate(eval_fn, params, tests) -> dict[str, float]:
  """Returns the mean held-out loss, in nats per token, and the perplexity, its exponential."""
  values = {}
  for name, batches in tests.items():
    sums = [eval_fn(params, batch) for batch in batches]
    total, tokens = (float(sum(x)) for x in zip(*jax.device_get(sums), strict=True))
    values[f'{name}/loss'] = loss = total / tokens
    values[f'{name}/perplexity'] = math.inf if loss > 709 else math.exp(loss)  # of float64
  return values
