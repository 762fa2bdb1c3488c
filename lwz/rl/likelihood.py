"""The frozen model of the likelihood reward, on our devices, and what that reward needs."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lwz import rows, types
from lwz.data import templates, tokenizer
from lwz.model import config as config_lib
from lwz.programs import language_model
from lwz.programs import program as program_lib
from lwz.reward import components
from lwz.reward import likelihood as likelihood_lib
from lwz.runtime import setup, sources, tokenizers
from lwz.store import model_source

READS = (
  *(*setup.TOKENIZER, *setup.COMPUTED, *setup.PROMPTS, 'init', 'data.row_length', 'data.style'),
  *('data.template', 'reward.likelihood_model', 'train.chunk'),
)
NAME = 'likelihood'  # of the reward


def check(c) -> None:
  """Raises ValueError if the reward is named and a prompt has no true text, or no thought."""
  if NAME not in c.reward.weights:
    return
  if c.data.style != 'think':
    raise ValueError(
      f'reward.weights.{NAME} pays for thoughts, and data.style={c.data.style!r} has none: set '
      "data.style='think', or leave the reward out"
    )
  value = c.reward.likelihood_model or c.init
  if value == 'random':
    raise ValueError(
      f"reward.weights.{NAME}: init='random' has learnt nothing; name a model that writes under "
      'reward.likelihood_model'
    )
  if not setup.is_experiment(value) and model_source.config(value).scalar_head:
    raise ValueError(
      f'reward.likelihood_model={value}: a reward model gives marks; name a model that writes'
    )
  if any(setup.is_experiment(source) for source in (c.data.prompts, c.data.folder)):
    return  # they are to be written first: a prompt without a text stops the run at its step
  for prompt in sources.writing_prompts(c):
    likelihood_lib.true_text(prompt)


def models(c) -> dict[str, str]:
  """Returns the frozen model of the reward, by the name of its program."""
  return {NAME: c.reward.likelihood_model or c.init} if NAME in c.reward.weights else {}


def program(
  c, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, num_rows: int
) -> program_lib.Program:
  """Returns the program of the frozen model, for a true text as long as a trajectory."""
  length = rows.bucket(c.rollout.max_prompt_tokens + 2 * c.rollout.max_tokens, c.data.row_length)
  shape = language_model.RowShape(num_rows, min(length, config.num_positions))
  made = language_model.token_logprob(config, shape, chunk=c.train.chunk, mesh=mesh)
  return dataclasses.replace(made, name=NAME)


def reward(c, mesh, num_rows: int) -> components.Reward:
  """Returns the reward by the frozen model of a config, which reads `num_rows` rows at a time."""
  model = FrozenModel(c, mesh, num_rows)
  return components.on_device(functools.partial(likelihood_lib.reward, mean_logprob=model))


class FrozenModel:
  """Mean log-probabilities of texts, `likelihood_lib.MeanLogprob`, by the model of the config.

  A text is tokenized apart from what precedes it, so that it is the same tokens after any thought.
  """

  def __init__(self, c, mesh, num_rows: int):
    named = c.reward.likelihood_model
    source = setup.reference(c, named or c.init)
    own = (c.data.tokenizer or source, c.data.chat_template)
    self._tok = tokenizers.load(source) if named else tokenizers.load(*own)
    config = setup.computed(c, model_source.config(source))
    self._params = setup.load_params(c, source, config, mesh)
    self._template, self._step = c.data.template, c.data.row_length
    self._longest = config.num_positions
    self._heads: dict[tuple[str, str], list[int]] = {}  # (request, style) -> ids

    @functools.cache
    def compiled(length: int) -> tuple[Callable, language_model.RowShape]:
      shape = language_model.RowShape(num_rows, length)
      made = language_model.token_logprob(config, shape, chunk=c.train.chunk, mesh=mesh)
      return made.jit(), shape

    self._compiled = compiled

  def __call__(self, asked: Sequence[tuple[str, str | None, str]]) -> np.ndarray:
    """Returns the mean log-probability of each text; NaN where it is beyond the positions. [B]"""
    styles = ['direct' if thought is None else 'think' for _, thought, _ in asked]
    heads = self._prompts([(text, style) for (text, *_), style in zip(asked, styles, strict=True)])
    openings = [
      templates.completion(thought or '', '', style).removesuffix(types.ANSWER_CLOSE)
      for (_, thought, _), style in zip(asked, styles, strict=True)
    ]
    opened = tokenizer.encode(self._tok, openings, end=False)
    bodies = tokenizer.encode(self._tok, [text for *_, text in asked], end=False)
    heads = [head + opening for head, opening in zip(heads, opened, strict=True)]
    texts = [head + body for head, body in zip(heads, bodies, strict=True)]
    # Rows hold a trajectory, and a thought with the true text may be longer: few lengths of them.
    length = rows.bucket(max(map(len, texts)), self._step)
    fn, shape = self._compiled(min(length, self._longest))
    return language_model.mean_logprob(fn, self._params, texts, [*map(len, heads)], shape)

  def _prompts(self, asked: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Returns the ids of rendered prompts, each rendered once."""
    for style in types.STYLES:
      new = list(dict.fromkeys(t for t, s in asked if s == style and (t, s) not in self._heads))
      ids = templates.prompt_ids(self._tok, new, style, self._template)
      self._heads |= {(text, style): one for text, one in zip(new, ids, strict=True)}
    return [self._heads[one] for one in asked]
