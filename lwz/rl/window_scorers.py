"""Measures of windows by models: a reward model's score, a language model's surprise."""

from collections.abc import Sequence

import numpy as np

from lwz.data import tokenizer
from lwz.evals import position
from lwz.judge import systems
from lwz.programs import language_model
from lwz.rl import registry
from lwz.runtime import keys, setup, tokenizers
from lwz.store import model_source

READS = (
  *('eval.scorers', 'data.long', 'data.row_length', 'reward.mean', 'reward.std'),
  *('train.chunk', 'train.micro_rows'),
)


def check(c) -> None:
  """Raises ValueError or FileNotFoundError if a model is not there, or its scores have no scale."""
  for named in c.eval.scorers:
    _, source = keys.alias(named)
    own = setup.is_experiment(source)  # a run, perhaps one to come
    if not own and model_source.config(setup.reference(c, source)).scalar_head:
      registry.scale(c, source)


def measures(c) -> dict[str, position.Measure]:
  """Returns a measure for each model of `eval.scorers`.

  A model with a scalar head scores a window as the answer to its request. Any other is asked how it
  is surprised: the mean of -log p over the window's tokens, after the request and as much of the
  text before it as a row of `data.row_length`, or of the model's positions if they are fewer,
  holds: beyond them surprise rises with position by itself.
  """
  found = {}
  for named in c.eval.scorers:
    _, source = keys.alias(named)
    config = setup.computed(c, model_source.config(setup.reference(c, source)))
    name = systems.name(c, named)
    shape = language_model.RowShape(
      setup.pass_rows(c, setup.mesh(c), position.MOST),
      min(c.data.row_length, config.num_positions),
    )
    if config.scalar_head:
      score = registry.OwnScorer(c, setup.mesh(c), source, shape)
      found[f'reward {name}'] = position.Measure(
        _rewards(score), -1, 'reward model, in [0, 1]', asks=True
      )
    else:
      surprise = _surprise(c, source, config, shape)
      found[f'surprise {name}'] = position.Measure(surprise, 1, 'nats per token', asks=True)
  return found


def _rewards(score):
  def of(text: str, windows: Sequence[position.Window], request: str) -> np.ndarray:
    del text
    return score([(request, window.text) for window in windows])

  return of


def _surprise(c, source: str, config, shape: language_model.RowShape):
  folder, mesh = setup.reference(c, source), setup.mesh(c)
  tok = tokenizers.load(folder)
  params = setup.load_params(c, folder, config, mesh)
  program = language_model.token_logprob(config, shape, chunk=c.train.chunk, mesh=mesh).jit()

  def of(text: str, windows: Sequence[position.Window], request: str) -> np.ndarray:
    heads = [f'{request}\n\n{text[: window.start]}' for window in windows]
    before = tokenizer.encode(tok, heads, end=False)
    inside = tokenizer.encode(tok, [window.text for window in windows], end=False)
    inside = [ids[: shape.row_length - 1] for ids in inside]
    before = [
      ids[-(shape.row_length - len(own)) :] for ids, own in zip(before, inside, strict=True)
    ]
    ids = [head + own for head, own in zip(before, inside, strict=True)]
    return -language_model.mean_logprob(program, params, ids, list(map(len, before)), shape)

  return of
