"""The best samples of a GRPO run, from its archive: what rejection sampling trains on."""

from collections.abc import Iterator

import jax
import numpy as np
from etils import epath

from lwz import types
from lwz.data import examples, tokenizer
from lwz.reward import format as format_lib
from lwz.rl import archived
from lwz.rollout import local
from lwz.store import run as run_lib


def load(c, folder: epath.Path) -> tuple[list[examples.Example], int]:
  """Returns the best sample of each group that is good enough, and the number of groups.

  The best has the highest mean of its rewards, weighted as in that run, among those of valid format
  that were judged; it is good enough with `data.threshold`. Raises FileNotFoundError if the run is
  not complete, ValueError if it has no thoughts and `data.style` asks for them.
  """
  opened = run_lib.Run(folder)
  opened.read_done()
  own = archived.config(c, opened)
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


def _groups(own, folder: epath.Path) -> Iterator[tuple[types.Prompt, types.Rollout, np.ndarray]]:
  """Yields the prompt of each group, its samples, and their mean rewards [G], -inf unjudged."""
  weights_R = np.array(list(own.reward.weights.values()), np.float32)
  for _, prompts, rollout, scores in archived.batches(own, folder, archived.numbers(own, folder)):
    means_PG = scores.values @ weights_R / weights_R.sum()
    means_PG = np.where(scores.valid, means_PG, -np.inf)
    for p, prompt in enumerate(prompts):
      rows = slice(p * own.rl.group_size, (p + 1) * own.rl.group_size)
      yield prompt, jax.tree.map(lambda part, rows=rows: part[rows], rollout), means_PG[p]
