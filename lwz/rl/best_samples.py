"""The best samples of a GRPO run, from its archive: what rejection sampling trains on."""

import json
from collections.abc import Iterator

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lwz import types
from lwz.data import examples, tokenizer
from lwz.reward import format as format_lib
from lwz.rl import sampling
from lwz.rollout import local
from lwz.runtime import keys, sources
from lwz.store import rollouts
from lwz.store import run as run_lib


def load(c, folder: epath.Path) -> tuple[list[examples.Example], int]:
  """Returns the best sample of each group that is good enough, and the number of groups.

  The best has the highest mean of its rewards, weighted as in that run, among those of valid format
  that were judged; it is good enough with `data.threshold`. Raises FileNotFoundError if the run is
  not complete, ValueError if it has no thoughts and `data.style` asks for them.
  """
  opened = run_lib.Run(folder)
  opened.read_done()
  own = config_of(c, opened)
  if 'think' == c.data.style != own.data.style:
    raise ValueError(
      f'data.examples={c.data.examples}: a run in the style {own.data.style!r} has no thoughts, '
      "which data.style='think' learns; choose data.style='direct'"
    )
  decode = tokenizer.decoder(tokenizer.load(folder / 'tokenizer'))
  found, num_groups = [], 0
  for prompt, rollout, means_G in _groups(own, folder):
    num_groups += 1
    for g in np.argsort(-means_G, kind='stable'):
      ids, finished = np.asarray(rollout.ids[g, : rollout.lengths[g]]), bool(rollout.finished[g])
      parsed = format_lib.parse(local.text(ids, finished, decode), own.data.style)
      if not means_G[g] >= c.data.threshold:  # NaN is not, either
        break
      if parsed.valid:
        think = parsed.think if c.data.style == 'think' else ''
        found.append(examples.Example(prompt.text, think, parsed.answer))
        break
  return found, num_groups


def config_of(c, opened: run_lib.Run) -> ConfigDict:
  """Returns the config of a run; a key that is newer than the run has its value in `c`."""
  given, plain = opened.config, c.to_dict()
  for name, group in plain.items():
    plain[name] = {**group, **given[name]} if isinstance(group, dict) else given.get(name, group)
  own = ConfigDict(plain | {'runs_dir': c.runs_dir})
  for old, value in run_lib.flatten(given).items():
    if old in keys.RENAMED:
      keys.set_value(own, keys.RENAMED[old], json.loads(value))
  return own


def archive_of(own, folder: epath.Path) -> rollouts.Archive:
  """Returns the archive of a run of this config."""
  return rollouts.Archive(
    folder,
    num_steps=own.train.num_steps * (1 + own.rl.max_resamples),
    num_prompts=own.rl.prompts_per_step,
    num_samples=own.rl.group_size,
    max_tokens=own.rollout.max_tokens,
    num_rewards=len(own.reward.weights),
  )


def _groups(own, folder: epath.Path) -> Iterator[tuple[types.Prompt, types.Rollout, np.ndarray]]:
  """Yields the prompt of each group, its samples, and their mean rewards [G], -inf unjudged."""
  weights_R = np.array(list(own.reward.weights.values()), np.float32)
  archive = archive_of(own, folder)
  tok = tokenizer.load(folder / 'tokenizer')
  prompts = list(sampling.fitting(own, tok, sources.writing_prompts(own)))
  for number in range(own.train.num_steps * (1 + own.rl.max_resamples)):
    if (stored := archive.read(number)) is None:
      continue  # dynamic sampling had no need of it
    rollout, scores = stored
    means_PG = scores.values @ weights_R / weights_R.sum()
    means_PG = np.where(scores.valid, means_PG, -np.inf)
    for p, prompt in enumerate(sampling.take(own, prompts, number)):
      rows = slice(p * own.rl.group_size, (p + 1) * own.rl.group_size)
      parts = (rollout.ids, rollout.logp, rollout.lengths, rollout.finished)
      yield prompt, types.Rollout(*(part[rows] for part in parts)), means_PG[p]
