"""The length reward: 1 for an answer within the range of lengths that its request asks for.

Paper: LongWriter-Zero (arXiv 2506.18841), Eq. 3.
"""

from collections.abc import Sequence

import jax
import numpy as np

from lwz import text

# numpy.typing.ArrayLike, without the protocols that a type checker at run time stumbles over.
Numbers = int | float | np.generic | np.ndarray | jax.Array | Sequence

count_words = text.count_words


def length_reward(
  num_words: Numbers, lower: Numbers, upper: Numbers, max_words: Numbers
) -> np.ndarray | np.float64:
  """Eq. 3, elementwise: 1 inside [lower, upper], falling linearly to 0 at 0 and at `max_words`.

    r = n / lower                                where n < lower
        1                                        where lower <= n <= upper
        (max_words - n) / (max_words - upper)    where n > upper

  clamped to [0, 1], since the last branch would be negative beyond `max_words`. With lower = 0
  there is no first branch; with upper = max_words the last one is 0.

  Arguments are numbers or arrays, in words, that broadcast together. Returns float64 in the
  broadcast shape, a NumPy scalar where all are scalars.

  Raises ValueError unless 0 <= lower <= upper <= max_words and num_words >= 0 everywhere.

    length_reward([500, 1000, 3000], 1000, 2000, 4000) -> [0.5, 1.0, 0.5]
  """
  count, low, high, top = (np.asarray(x, np.float64) for x in (num_words, lower, upper, max_words))
  for claim, holds in (
    ('lower >= 0', low >= 0),
    ('lower <= upper', low <= high),
    ('upper <= max_words', high <= top),
    ('num_words >= 0', count >= 0),
  ):
    if not np.all(holds):
      raise ValueError(
        f'length_reward needs {claim} everywhere, got num_words={num_words!r}, '
        f'lower={lower!r}, upper={upper!r}, max_words={max_words!r}; '
        'mend the range of the prompt or max_words'
      )
  rise = count / np.where(low > 0, low, 1.0)
  fall = (top - count) / np.where(top > high, top - high, 1.0)
  reward = np.where(count < low, rise, np.where(count <= high, 1.0, fall))
  return np.clip(reward, 0.0, 1.0)[()]
