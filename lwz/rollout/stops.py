"""Stop strings: found in the text of a growing trajectory, located by token."""

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

Ids = Sequence[int] | np.ndarray


def cut(text: str, stops: Iterable[str], kept: Collection[str] | None = None) -> str:
  """Returns the text up to its first stop string; that is included, unless it is not of `kept`.

  >>> cut('a</answer>b</answer>', ['</answer>']), cut('a<b>c', ['<b>'], kept=['</answer>'])
  ('a</answer>', 'a')
  """
  found = [(text.index(stop), len(stop), stop) for stop in stops if stop in text]
  if not found:
    return text
  start, length, stop = min(found)
  return text[: start + length * (kept is None or stop in kept)]


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


class Loop:
  """Finds the token at which each trajectory has said one unit over and over for `length` tokens.

  A unit has at most half of them. Ids are compared, so that a list whose numbers rise is no loop.
  `matched` holds the indices of the trajectories that were found so.
  """

  def __init__(self, length: int):
    if length < 2:
      raise ValueError(f'a loop of {length} tokens is no repetition: choose at least 2')
    self._length = length
    self._searched: dict[int, int] = {}
    self.matched: set[int] = set()

  def __call__(self, index: int, ids: Ids) -> int | None:
    """Returns the number of tokens up to the one that completes the first loop, or None."""
    start = max(0, self._searched.get(index, 0) + 1 - self._length)
    self._searched[index] = len(ids)
    ends = [self._end(np.asarray(ids[start:]), unit) for unit in range(1, self._length // 2 + 1)]
    found = [end for end in ends if end is not None]
    if not found:
      return None
    self.matched.add(index)
    return start + min(found)

  def _end(self, ids: np.ndarray, unit: int) -> int | None:
    """Returns the number of ids up to the end of the first loop of this unit, or None."""
    wanted = self._length - unit  # ids in a row that are those of one unit before
    same = np.concatenate([[0], np.cumsum(ids[unit:] == ids[:-unit])])
    whole = np.flatnonzero(same[wanted:] - same[:-wanted] == wanted)
    return int(whole[0]) + self._length if whole.size else None
