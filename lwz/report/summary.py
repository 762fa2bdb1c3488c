"""First and last values of the metrics of a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WINDOW = 10  # values that a mean is of


class Row(NamedTuple):
  """The mean of a metric over the first and the last records, and how far it went between."""

  name: str
  first: float
  last: float
  change: float


def first_last(records: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[Row]:
  """Returns means of each key over its first and last `WINDOW` values; change = last - first.

  Records without the key, or with None, NaN or an infinity under it, are skipped, so a metric that
  is logged every tenth step is averaged over `WINDOW` values of its own. With fewer than
  2 * WINDOW values the windows shrink to half of them, so that they never overlap; a key with a
  single value has change 0, a key with none has no row.
  """
  records, rows = list(records), []
  for key in keys:
    values = [float(r[key]) for r in records if r.get(key) is not None]
    values = [v for v in values if math.isfinite(v)]
    if values:
      size = max(1, min(WINDOW, len(values) // 2))
      first = math.fsum(values[:size]) / size
      last = math.fsum(values[-size:]) / size
      rows.append(Row(key, first, last, last - first))
  return rows
