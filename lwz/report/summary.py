"""Where a metric began and where it ended."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_NEUTRAL = {'std', 'spread', 'asked', 'lower', 'upper', 'rate'}
_LOWER = {
  *('loss', 'nll', 'perplexity', 'ppl', 'redundancy', 'error', 'errors', 'gap', 'seconds', 'time'),
  *('fault', 'faults', 'failed', 'failures', 'invalid', 'truncated', 'skipped'),
}
_HIGHER = {
  *('reward', 'rewards', 'score', 'scores', 'accuracy', 'margin', 'elo', 'mfu'),
  *('valid', 'finished'),
}


class Row(NamedTuple):
  """The mean of a metric over the first and the last records, and how far it went between."""

  name: str
  first: float
  last: float
  change: float


def first_last(
  records: Iterable[Mapping[str, Any]], keys: Sequence[str], window: int = 10
) -> list[Row]:
  """Means of each key over its first and its last `window` values; change = last - first.

  Records without the key, or with None, NaN or an infinity under it, are skipped, so a metric that
  is logged every tenth step is averaged over `window` values of its own. With fewer than
  2 * window values the windows shrink to half of them, that the two never overlap; a key with a
  single value has change 0, a key with none has no row.

  Raises ValueError when window is not positive.
  """
  if window < 1:
    raise ValueError(f'window is {window}; a mean needs at least 1 record')
  records, rows = list(records), []
  for key in keys:
    values = [float(r[key]) for r in records if r.get(key) is not None]
    values = [v for v in values if math.isfinite(v)]
    if values:
      size = max(1, min(window, len(values) // 2))
      first = math.fsum(values[:size]) / size
      last = math.fsum(values[-size:]) / size
      rows.append(Row(key, first, last, last - first))
  return rows


def direction(name: str) -> int:
  """+1 where more of a metric is better, -1 where less is, 0 where its name does not tell.

  A guess from the words of the name: `direction('reward/length')` is 1, `direction('loss')` is -1,
  `direction('entropy')` is 0.
  """
  words = set(re.findall('[a-z]+', name.lower()))
  if name.endswith('/s') or name.endswith('per_second'):
    return 1
  if words & _NEUTRAL:
    return 0
  return -1 if words & _LOWER else int(bool(words & _HIGHER))
