"""From the scores of a batch to its advantages, as a config names the steps.

overlong, then, with `rl.composition`, one reward out of all, then the comparison of siblings.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lwz import types
from lwz.rl import registry

COMPOSED = 'composed'  # the reward that `rl.composition` makes, beside the others in metrics


def check(c) -> None:
  """Raises ValueError if `rl.composition` does not go with the advantage or the rewards."""
  name, constraints = c.rl.composition, c.rl.constraints
  if not name:
    return
  if name not in registry.COMPOSITIONS:
    choices = ', '.join(registry.COMPOSITIONS)
    raise ValueError(f'rl.composition: there is no {name!r}; choose from {choices}')
  if c.rl.overlong == 'penalise':
    raise ValueError(
      f"rl.composition={name!r} takes rewards in [0, 1], and rl.overlong='penalise' takes some "
      "below: set rl.overlong to 'keep' or 'mask'"
    )
  if c.rl.advantage in registry.AFTER:
    raise ValueError(
      f'rl.composition={name!r} makes one reward before it is normalised, and '
      f'rl.advantage={c.rl.advantage!r} averages several afterwards: set '
      "rl.advantage='mean_reward', which compares the composed one, or leave rl.composition empty"
    )
  others = [n for n, weight in c.reward.weights.items() if weight and n not in constraints]
  known = {*constraints} <= {*c.reward.weights}
  if name in registry.CONSTRAINED and not (constraints and known and others):
    raise ValueError(
      f'rl.constraints={constraints}: rl.composition={name!r} needs one or more of '
      f'{", ".join(c.reward.weights)}, and another with a weight that is none'
    )


def names(c) -> list[str]:
  """Returns the names of the rewards of `advantages`."""
  return [*c.reward.weights, *([COMPOSED] if c.rl.composition else [])]


def advantages(
  c, mesh, scores: types.Scores, rollout: types.Rollout
) -> tuple[jax.Array, types.AnyArray, types.AnyArray]:
  """Returns advantages [P, G], rewards [P, G, R] and valid [P, G], by `rl.overlong`.

  With `rl.composition` the last reward is the composed one, and the advantages are of that alone.
  """
  shape = scores.valid.shape
  values_PGR, valid_PG = registry.OVERLONG[c.rl.overlong](c, mesh)(
    scores.values,
    scores.valid,
    np.asarray(rollout.lengths).reshape(shape),
    np.asarray(rollout.finished).reshape(shape),
  )
  weights_R = jnp.array(list(c.reward.weights.values()), jnp.float32)
  advantage_fn = registry.ADVANTAGES[c.rl.advantage](c, mesh)
  if not c.rl.composition:
    return advantage_fn(values_PGR, weights_R, valid_PG), values_PGR, valid_PG
  compose = registry.COMPOSITIONS[c.rl.composition](c, mesh)
  composed_PG1 = compose(values_PGR, weights_R, valid_PG)[:, :, None]
  advantage_PG = advantage_fn(composed_PG1, jnp.ones(1), valid_PG)
  return advantage_PG, jnp.concatenate([values_PGR, composed_PG1], axis=-1), valid_PG


def trained(c, advantage_PG, values_PGR, valid_PG) -> np.ndarray:
  """Returns the advantages, NaN where a sample trains nothing: masked, or by a loss without any."""
  counts_PG = np.asarray(valid_PG, bool) & (c.rl.loss not in registry.DISTILLING)
  return np.where(counts_PG, np.asarray(advantage_PG, np.float32), np.nan)
