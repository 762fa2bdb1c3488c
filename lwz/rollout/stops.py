"""Stop strings: found in the text of a growing trajectory, located by token."""

from collections.abc import Callable, Sequence

import numpy as np

Ids = Sequence[int] | np.ndarray


def cut(text: str, stops: Sequence[str]) -> str:
  """Returns the text up to the end of its first stop string, that string included.

  >>> cut('a</answer>b</answer>', ['</answer>'])
  'a</answer>'
  """
  found = [(text.index(stop), len(stop)) for stop in stops if stop in text]
  return text[: sum(min(found))] if found else text


class Matcher:
  """Finds the token at which each trajectory ends, for any number of new tokens per call.

  `matched` holds the indices of the trajectories with a match.
  """

  def __init__(self, decode: Callable[[Ids], str], stops: Sequence[str]):
    if not all(stops):
      raise ValueError('a stop string is empty')
    self._decode, self._stops = decode, tuple(stops)
    # A token has a byte at least, so a match has no more tokens than the longest string bytes.
    self._window = max(len(stop.encode()) for stop in stops)
    self._searched: dict[int, int] = {}
    self.matched: set[int] = set()

  def __call__(self, index: int, ids: Ids) -> int | None:
    """Returns the number of tokens up to the one that completes the first match, or None."""
    searched = self._searched.get(index, 0)
    start = max(0, searched - self._window)
    if self._has_stop(ids[start:]):
      self.matched.add(index)
      return next(
        end for end in range(searched + 1, len(ids) + 1) if self._has_stop(ids[start:end])
      )
    self._searched[index] = len(ids)
    return None

  def _has_stop(self, ids: Ids) -> bool:
    text = self._decode(ids)
    return any(stop in text for stop in self._stops)
