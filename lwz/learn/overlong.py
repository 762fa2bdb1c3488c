"""Trajectories that were cut off at the token limit: three ways to treat them.

Each takes (scores_PGR, valid_PG, lengths_PG, finished_PG), lengths in tokens, and returns the
scores and the validity from which advantages are made; what is not valid has no loss either.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real, Shaped

from lwz import types

AnyArray = types.AnyArray
Scores = Real[AnyArray, 'P G R']
Valid = Shaped[AnyArray, 'P G']
Lengths = Int[AnyArray, 'P G']
Finished = Bool[AnyArray, 'P G']
Judged = tuple[Shaped[AnyArray, 'P G R'], Valid]


def keep(scores_PGR: Scores, valid_PG: Valid, lengths_PG: Lengths, finished_PG: Finished) -> Judged:
  """Returns scores and validity unchanged: a text without an end fails the format rule."""
  return scores_PGR, valid_PG


def mask(scores_PGR: Scores, valid_PG: Valid, lengths_PG: Lengths, finished_PG: Finished) -> Judged:
  """Masks them in the loss and in the statistics of their group (DAPO's overlong filtering)."""
  return scores_PGR, jnp.asarray(valid_PG, bool) & jnp.asarray(finished_PG, bool)


def penalise(
  scores_PGR: Scores,
  valid_PG: Valid,
  lengths_PG: Lengths,
  finished_PG: Finished,
  *,
  max_tokens: int,
  margin: int,
) -> Judged:
  """`penalty` added to every reward of a trajectory, and so to any weighted mean of them."""
  penalty_PG = penalty(lengths_PG, max_tokens=max_tokens, margin=margin)
  return jnp.asarray(scores_PGR, jnp.float32) + penalty_PG[:, :, None], valid_PG


def penalty(lengths_PG: Lengths, *, max_tokens: int, margin: int) -> Float[Array, 'P G']:
  """0 up to max_tokens - margin, then falling linearly to -1 at max_tokens and beyond.

  Soft overlong punishment (DAPO, arXiv 2503.14476, Eq. 13, with 16,384 + 4,096 tokens and a margin
  of 4,096).

  >>> penalty(jnp.array([[80, 90, 100]]), max_tokens=100, margin=20).tolist()
  [[0.0, -0.5, -1.0]]
  """
  if not 0 < margin <= max_tokens:
    raise ValueError(f'margin={margin}: it must lie between 1 and max_tokens={max_tokens}')
  lengths_PG = jnp.asarray(lengths_PG, jnp.float32)
  return jnp.clip((max_tokens - margin - lengths_PG) / margin, -1.0, 0.0)
