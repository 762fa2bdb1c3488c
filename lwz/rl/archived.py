"""The archived batches of a GRPO run, finished or not, with the prompts that they answer."""

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from lwz import types
from lwz.data import tokenizer
from lwz.rl import sampling
from lwz.runtime import keys, places, sources
from lwz.store import rollouts
from lwz.store import run as run_lib


class Batch(NamedTuple):
  """Samples of a run for some prompts, and the scores that they trained with."""

  number: int
  prompts: list[types.Prompt]
  rollout: types.Rollout
  scores: types.Scores


def config(c, opened: run_lib.Run) -> ConfigDict:
  """Returns the config of a run; a key that is newer than the run has its default.

  The folder of runs is that of `c`.
  """
  given = opened.config
  plain = places.defaults(given['size']).to_dict()
  for name, group in plain.items():
    plain[name] = (
      {**group, **given.get(name, {})} if isinstance(group, dict) else given.get(name, group)
    )
  own = ConfigDict(plain | {'runs_dir': c.runs_dir})
  for key, value in run_lib.flatten(given).items():
    if key in keys.RENAMED:
      keys.set_value(own, keys.RENAMED[key], json.loads(value))
  return own


def numbers(own, folder: epath.Path) -> list[int]:
  """Returns the numbers of the batches that are there; dynamic sampling may not need all."""
  return archive(own, folder).written()


def batches(own, folder: epath.Path, chosen: Iterable[int]) -> Iterator[Batch]:
  """Yields the batches of a run of those numbers, but for broken ones."""
  kept, tok = archive(own, folder), tokenizer.load(folder / 'tokenizer')
  prompts = list(sampling.fitting(own, tok, sources.writing_prompts(own)))
  for number in chosen:
    if stored := kept.read(number):
      yield Batch(number, sampling.take(own, prompts, number), *stored)


def archive(own, folder: epath.Path) -> rollouts.Archive:
  """Returns the archive of a run of this config."""
  return rollouts.Archive(
    folder,
    num_steps=own.train.num_steps * (1 + own.rl.max_resamples),
    num_prompts=own.rl.prompts_per_step,
    num_samples=own.rl.group_size,
    max_tokens=own.rollout.max_tokens,
    num_rewards=len(own.reward.weights),
  )
