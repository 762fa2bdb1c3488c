"""Scoring of a step's samples, from the moment that each is written."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lwz import hosts, types
from lwz.judge import http as http_lib
from lwz.reward import background
from lwz.reward import components as components_lib
from lwz.reward import format as format_lib
from lwz.rollout import local, scheduler, stops

READS = ('data.style', 'reward.max_failures', 'rl.group_size')

_TICK = 1.0  # seconds between two looks at whether the run was asked to stop


class Scoring:
  """The scores of one batch of samples.

  with scoring.Scoring(c, decode, rewards, chosen) as scorer:
    rollout = ...                            # scorer.add(trajectory), as they end
    scores = scorer.scores(scorer.samples(rollout))

  Rewards that are not `deferred` are computed in the background, the others in `scores`.
  """

  def __init__(
    self,
    c,
    decode: Callable[[stops.Ids], str],
    rewards: Mapping[str, components_lib.Reward],
    chosen: list[types.Prompt],
  ):
    self._c, self._decode, self._rewards, self._chosen = c, decode, rewards, chosen
    early = {name: reward for name, reward in rewards.items() if not reward.deferred}
    self._background = background.BackgroundRewards(early, c.rl.group_size)
    self._samples: dict[int, components_lib.Sample] = {}

  def __enter__(self) -> 'Scoring':
    return self

  def __exit__(self, *error) -> None:
    self._background.stop()

  def add(self, trajectory: scheduler.Trajectory) -> None:
    """Starts to judge a trajectory; raises the errors of rewards.

    Trajectories may come in any order, and some or all may be missing.
    """
    sample = _sample(
      *(self._c, self._decode, self._chosen),
      *(trajectory.index, trajectory.ids, trajectory.finished),
    )
    self._samples[trajectory.index] = sample
    self._background.add(trajectory.index, sample)

  def samples(self, rollout: types.Rollout) -> list[components_lib.Sample]:
    """Returns the trajectories as text and its parts, in the order p * G + g."""
    return samples(self._c, self._decode, self._chosen, rollout, self._samples)

  def scores(
    self, samples: list[components_lib.Sample], meanwhile: Callable[[], None] = lambda: None
  ) -> types.Scores:
    """Returns all scores. While judges are waited for, all processes call `meanwhile` together."""
    values_by = dict.fromkeys(self._rewards, np.zeros(0))  # in their order
    # Those on our devices come first, beside what is still computed in the background.
    for name, reward in self._rewards.items():
      if name not in self._background:
        values_by[name] = reward.values(samples, self._c.rl.group_size)
    while not hosts.all_gather(np.array(self._background.end(_TICK))).all():
      meanwhile()
    for name in filter(self._background.__contains__, values_by):
      values_by[name] = self._background.values(name, samples)
    return components_lib.scores(values_by, len(self._chosen))


def check(c, scores: types.Scores) -> None:
  """Raises RuntimeError if more than `reward.max_failures` of the scores of a step are missing."""
  share = 1.0 - scores.valid.mean()
  if share > c.reward.max_failures:
    raise RuntimeError(
      f'{share:.0%} of the samples could not be judged, more than '
      f'reward.max_failures={c.reward.max_failures:.0%}; '
      'check the reward models and the judge: the warnings above say what failed'
    )


def failures(rewards: Mapping[str, components_lib.Reward]) -> dict[str, float]:
  """Returns the requests to reward servers without a score, by cause; then forgets them.

  All processes call it.
  """
  told = [float(sum(one.faults.pop(k, 0) for one in rewards.values())) for k in http_lib.CAUSES]
  counts = hosts.all_gather(np.array(told)).sum(axis=0).tolist()
  found = zip(http_lib.CAUSES, counts, strict=True)
  return {f'judge/server_failed/{k}': num for k, num in found if num}


def samples(
  c,
  decode: Callable[[stops.Ids], str],
  chosen: Sequence[types.Prompt],
  rollout: types.Rollout,
  known: Mapping[int, components_lib.Sample] | None = None,
) -> list[components_lib.Sample]:
  """Returns the trajectories of a batch as samples, in the order p * G + g; `known` as they are."""
  rows = zip(rollout.ids, rollout.lengths, rollout.finished, strict=True)
  return [
    (known or {}).get(b) or _sample(c, decode, chosen, b, ids[:length], bool(finished))
    for b, (ids, length, finished) in enumerate(rows)
  ]


def _sample(
  c,
  decode: Callable[[stops.Ids], str],
  chosen: Sequence[types.Prompt],
  index: int,
  ids: np.ndarray,
  finished: bool,
) -> components_lib.Sample:
  text = local.text(ids, finished, decode)
  prompt = chosen[index // c.rl.group_size]
  return components_lib.Sample(prompt, text, format_lib.parse(text, c.data.style))
