"""Arms of a sweep as lists of overrides; a sweep file's `get_hyper(h)` gets this module as `h`.

    def get_hyper(h):
      return h.product([h.sweep('rl.loss', ['grpo', 'gspo']), h.sweep('seed', [0, 1])])

Names and meanings are those of the sweeps of big_vision and flax. Every function returns a list of
arms, each a dict of dotted keys and their values; the prefix `config.` of a key may be left out.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

Arm = dict[str, Any]


def sweep(name: str, values: Iterable[Any]) -> list[Arm]:
  """Returns an arm for each value of one key; NumPy's numbers become Python's.

  >>> sweep('seed', [0, 1])
  [{'seed': 0}, {'seed': 1}]
  """
  plain = (value.item() if hasattr(value, 'item') else value for value in values)
  arms = [{name.removeprefix('config.'): value} for value in plain]
  if not arms:
    raise ValueError(f'sweep({name!r}): give it at least one value')
  return arms


def fixed(name: str, value: Any, length: int = 1) -> list[Arm]:
  """Returns `length` arms with the same value; one that stands alone goes with all of `zipit`."""
  return sweep(name, [value] * length)


def product(parts: Sequence[Sequence[Arm]]) -> list[Arm]:
  """Returns every combination of an arm of each part, the last part varying fastest.

  >>> product([sweep('a', [1, 2]), fixed('b', 3)])
  [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
  """
  return [_merged(arms) for arms in itertools.product(*parts)]


def zipit(parts: Sequence[Sequence[Arm]]) -> list[Arm]:
  """Returns the first arms of all parts as one, then the second ones; a single arm goes with all.

  >>> zipit([sweep('a', [1, 2]), sweep('b', [3, 4])])
  [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
  """
  lengths = {len(part) for part in parts}
  if len(lengths - {1}) > 1:
    raise ValueError(f'zipit: parts of {sorted(lengths)} arms; give them equal lengths, or one arm')
  longest = max(lengths, default=0)
  return [_merged(arms) for arms in zip(*(_all(part, longest) for part in parts), strict=True)]


def chainit(parts: Sequence[Sequence[Arm]]) -> list[Arm]:
  """Returns the arms of the first part, then those of the second, and so on."""
  return [dict(arm) for part in parts for arm in part]


def _all(part: Sequence[Arm], length: int) -> Sequence[Arm]:
  return list(part) * length if len(part) == 1 else part


def _merged(arms: Sequence[Arm]) -> Arm:
  merged: Arm = {}
  for arm in arms:
    if twice := sorted(merged.keys() & arm.keys()):
      raise ValueError(f'{twice[0]}: two parts of the sweep give it a value; leave one of them out')
    merged |= arm
  return merged
