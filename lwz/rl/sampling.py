"""Batches of prompts and scored samples, and dynamic sampling of further ones.

Dynamic sampling (DAPO, arXiv 2503.14476, Eq. 11) is bounded by `rl.max_resamples`; with 0, as in
the paper, a step samples one batch. Every batch has a number, step * (1 + max_resamples) + k, which
determines its prompts, its random keys and its place in the archive: a resumed step finds them.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from lwz import types
from lwz.data import prompts as prompt_lib
from lwz.data import templates
from lwz.learn import advantage
from lwz.reward import components
from lwz.runtime import setup

READS = (
  *('data.prompts', 'data.style', 'data.template', 'rl.max_resamples', 'rl.prompts_per_step'),
  *('rl.alike', 'rl.short_first', 'rollout.max_prompt_tokens', 'seed'),
)

_RESAMPLED = 2**32  # added to the seed: the order in which resampled batches take the prompts


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
  """P prompts and G scored samples of each; sample p * G + g is the g-th of prompt p."""

  prompt_ids: list[np.ndarray]
  samples: list[components.Sample]
  rollout: types.Rollout
  scores: types.Scores
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)  # of its generation


def batch_numbers(c, step: int) -> range:
  """Returns the numbers of the batches that a step may sample."""
  most = 1 + c.rl.max_resamples
  return range(step * most, (step + 1) * most)


def take(c, asked: Sequence[types.Prompt], number: int) -> list[types.Prompt]:
  """Returns the prompts of a batch.

  The first batches of all steps go through the prompts in one order, whatever `max_resamples` is;
  resampled ones, of which a step may need fewer than it is allowed, go through them in another.
  The prompts of `rl.alike` steps are sorted by length and cut into these steps, in random order.
  """
  step, again = divmod(number, 1 + c.rl.max_resamples)
  steps = max(1, c.rl.alike)
  window, place = divmod(step, steps)
  asked = _short_first(c, asked, step - place)
  if not again:
    num = c.rl.prompts_per_step
    pool = prompt_lib.take(asked, window, steps * num, c.seed)
    if steps > 1:
      pool.sort(key=lambda prompt: prompt.upper)
      place = int(np.random.default_rng((c.seed, window)).permutation(steps)[place])
    return pool[place * num : (place + 1) * num]
  place = step * c.rl.max_resamples + again - 1
  return prompt_lib.take(asked, place, c.rl.prompts_per_step, c.seed + _RESAMPLED)


def _short_first(c, asked: Sequence[types.Prompt], step: int) -> Sequence[types.Prompt]:
  """Returns the prompts of a step: the share (step + 1) / `rl.short_first` with least words."""
  if step + 1 >= c.rl.short_first:
    return asked
  num = -(-len(asked) * (step + 1) // c.rl.short_first)
  num = max(num, max(1, c.rl.alike) * c.rl.prompts_per_step)
  return sorted(asked, key=lambda prompt: prompt.upper)[:num]


def fitting(c, tok, asked: list[types.Prompt]) -> dict[types.Prompt, np.ndarray]:
  """Returns the prompts that `max_prompt_tokens` holds, with their ids, int32, as the policy reads
  them: rendered in the run's style and template.

  Raises ValueError if one of the user's own file is longer, if none fits, or if `rl.alike` steps
  take more than there are. Longer ones of titles and of the pairs of a run are left out.
  """
  texts = [prompt.text for prompt in asked]
  ids = templates.prompt_ids(tok, texts, c.data.style, c.data.template)
  sizes = [*map(len, ids)]
  fits = [size <= c.rollout.max_prompt_tokens for size in sizes]
  is_given = c.data.prompts and not setup.input_file(c, 'data.prompts').endswith(setup.PAIRS)
  if is_given and not all(fits):
    worst = int(np.argmax(sizes))
    raise ValueError(
      f'{c.data.prompts}: prompt {asked[worst].id!r} has {sizes[worst]} tokens, more than '
      f'rollout.max_prompt_tokens={c.rollout.max_prompt_tokens}: raise it, or drop the prompt'
    )
  if not any(fits):
    limit = c.rollout.max_prompt_tokens
    raise ValueError(f'rollout.max_prompt_tokens={limit}: no prompt is that short; raise it')
  if num_long := len(asked) - sum(fits):
    print(f'{num_long} of {len(asked)} prompts left out: longer than rollout.max_prompt_tokens')
  if c.rl.alike > 1 and c.rl.alike * c.rl.prompts_per_step > sum(fits):
    raise ValueError(
      f'rl.alike={c.rl.alike} steps of rl.prompts_per_step={c.rl.prompts_per_step} take more than '
      f'the {sum(fits)} prompts, and copies of one would be in a step: lower rl.alike'
    )
  found = zip(asked, ids, fits, strict=True)
  return {prompt: np.array(one, np.int32) for prompt, one, fit in found if fit}


def is_enough(c, informative: np.ndarray) -> bool:
  """Whether as many groups are informative as a batch has."""
  return informative.sum() >= c.rl.prompts_per_step


def chosen_groups(batches: Sequence[Batch], informative: np.ndarray) -> list[int]:
  """Returns the groups, of those of all batches in order, that the step learns from."""
  num = len(batches[0].scores.valid)
  return [*range(num)] if len(batches) == 1 else advantage.choose_groups(informative, num)


def merge(batches: Sequence[Batch], informative: np.ndarray) -> Batch:
  """Returns one batch of the usual size, which takes informative groups first.

  `informative` says of each group of all batches, in order, whether it has advantages.
  """
  if len(batches) == 1:
    return batches[0]
  G, chosen = batches[0].scores.valid.shape[1], chosen_groups(batches, informative)
  chosen_B = (np.array(chosen)[:, None] * G + np.arange(G)).reshape(-1)
  all_ids = [ids for batch in batches for ids in batch.prompt_ids]
  samples = [sample for batch in batches for sample in batch.samples]
  joined = jax.tree.map(lambda *parts: np.concatenate(parts), *[b.rollout for b in batches])
  values = np.concatenate([batch.scores.values for batch in batches])
  valid = np.concatenate([batch.scores.valid for batch in batches])
  return Batch(
    prompt_ids=[all_ids[p] for p in chosen],
    samples=[samples[b] for b in chosen_B],
    rollout=jax.tree.map(lambda part: part[chosen_B], joined),
    scores=types.Scores(values[chosen], valid[chosen]),
  )


def measure(batches: Sequence[Batch], informative: np.ndarray, seconds: float) -> dict[str, float]:
  """Returns the metrics of a step's batches; `seconds` is what their generation took.

  Trajectories are described by the first batch. There is no speed if a batch was partly generated
  before the run was resumed.
  """
  first = batches[0].rollout
  num = sum(float(np.sum(batch.rollout.lengths)) for batch in batches)
  timed = all(batch.metrics for batch in batches)
  return (
    batches[0].metrics
    | ({'tokens/per_second': num / seconds} if timed else {})
    | {
      'sampling/rounds': float(len(batches)),
      'sampling/informative_groups': float(np.mean(informative)),
      'tokens/trajectory': float(np.mean(first.lengths)),
      'tokens/finished': float(np.mean(first.finished)),
    }
  )
