"""Judging what a draw writes: every answer from the moment it ends, each by one process."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from lwz import hosts, types
from lwz.reward import background
from lwz.reward import components as components_lib
from lwz.reward import format as format_lib
from lwz.rl import registry
from lwz.rollout import local, scheduler


class Scoring:
  """The judging of one draw.

  with scoring.Scoring(c, tok, rewards, chosen) as judge:
    rollout = ...                            # judge.begin(reply), as they end
    scores = judge.scores(judge.samples(rollout))

  The rewards of `choices.ahead` begin with the first answer, the others when all is written.
  """

  def __init__(
    self, c, tok, rewards: Mapping[str, components_lib.Component], chosen: list[types.Prompt]
  ):
    self._c, self._tok, self._rewards, self._chosen = c, tok, rewards, chosen
    self._ahead = background.Ahead({name: rewards[name] for name in registry.ahead(c)})
    self._samples: dict[int, components_lib.Sample] = {}

  def __enter__(self) -> 'Scoring':
    return self

  def __exit__(self, *error) -> None:
    self._ahead.end()

  def begin(self, reply: scheduler.Reply) -> None:
    """Begins to judge an answer, where that is this process' part; the rewards' errors are raised.

    Replies may come in any order, and need not all come.
    """
    sample = self._sample(reply.index, reply.ids, reply.finished)
    self._samples[reply.index] = sample
    if reply.index % jax.process_count() == jax.process_index():  # as `hosts.shares` has it
      self._ahead.begin(sample)

  def samples(self, rollout: types.Rollout) -> list[components_lib.Sample]:
    """What was written, as text and its parts, in the order p * G + g."""
    rows = zip(rollout.ids, rollout.lengths, rollout.finished, strict=True)
    return [
      self._samples.get(b) or self._sample(b, ids[:length], bool(finished))
      for b, (ids, length, finished) in enumerate(rows)
    ]

  def scores(self, samples: list[components_lib.Sample]) -> types.Scores:
    """All judgements. Raises RuntimeError where more than `reward.max_failures` are missing."""
    components = dict(self._rewards)
    for name in registry.ahead(self._c):
      components[name] = functools.partial(self._ahead.values, name)
    for name in components.keys() - registry.on_devices(self._c):
      components[name] = functools.partial(hosts.shares, components[name])
    scores = components_lib.judge(samples, components, len(self._chosen))
    share = 1.0 - scores.valid.mean()
    if share > self._c.reward.max_failures:
      raise RuntimeError(
        f'{share:.0%} of the samples could not be judged, more than '
        f'reward.max_failures={self._c.reward.max_failures:.0%}'
      )
    return scores

  def _sample(self, index: int, ids: np.ndarray, finished: bool) -> components_lib.Sample:
    text = local.text(ids, finished, self._tok.decode)
    prompt = self._chosen[index // self._c.rl.group_size]
    return components_lib.Sample(prompt, text, format_lib.parse(text, self._c.data.style))
