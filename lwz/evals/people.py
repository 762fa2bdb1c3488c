"""Human judgements from the page for blind judging: win rates, agreement, and side bias.

An export is JSON with `page`, `annotator` and `judgements`, each with `id`, `choice` ('first',
'second' or 'tie') and `left`, the answer that was shown on the left.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lwz.evals import records, standings

_SCORES = {'first': 1.0, 'second': 0.0, 'tie': 0.5}


class Judgement(NamedTuple):
  """One person's choice on one item, as the score of the item's first answer."""

  annotator: str
  item: str
  score: float
  left: str  # 'first' or 'second', the answer shown on the left; '' if unknown


def read(
  exports: Sequence[tuple[str, Any]], key: Mapping[str, Any]
) -> tuple[list[Judgement], list[records.Reject]]:
  """The judgements in (path, export) pairs, and the rejected ones.

  Of two judgements by one annotator on one item that of the later export counts; names are met in
  any case. An export of another page, or without an annotator, is rejected whole. The page's key
  has `page`, and `items`, {id: {'idx', 'first', 'second'}}.
  """
  found: dict[tuple[str, str], Judgement] = {}
  rejects = []
  told = [(where, export if isinstance(export, dict) else {}) for where, export in exports]
  for where, export in sorted(told, key=lambda one: records.text(one[1], 'time')):
    annotator = records.text(export, 'annotator').lower()  # as the page keeps them
    listed = export.get('judgements')
    if export.get('page') != key['page']:
      page = f'of page {export.get("page")!r:.80}, not {key["page"]!r}'
      rejects.append(records.Reject(where, page))
    elif not annotator or not isinstance(listed, list):
      rejects.append(records.Reject(where, "no 'annotator', or no list of 'judgements'"))
    else:
      for place, one in enumerate(listed):
        item = str(one.get('id')) if isinstance(one, dict) else ''
        choice = one.get('choice') if isinstance(one, dict) else None
        if item not in key['items'] or not isinstance(choice, str) or choice not in _SCORES:
          reason = f'no item {item!r} with a choice {choice!r}'[:200]
          rejects.append(records.Reject(f'{where}[{place}]', reason))
          continue
        left = one.get('left') if one.get('left') in ('first', 'second') else ''
        found[annotator, item] = Judgement(annotator, item, _SCORES[choice], left)
  return list(found.values()), rejects


def win_rates(
  judgements: Sequence[Judgement], key: Mapping[str, Any], seed: int
) -> list[dict[str, Any]]:
  """A row per pair of systems: wins, ties, losses and win rate of `system`; a tie is half a win.

  The 95 % interval comes from a bootstrap over prompts: judgements on one prompt are dependent.
  """
  groups: dict[tuple[str, str], list[tuple[Any, float]]] = {}
  for judgement in judgements:
    item = key['items'][judgement.item]
    one, other = item['first'], item['second']
    swapped = one > other
    pair = (other, one) if swapped else (one, other)
    score = 1 - judgement.score if swapped else judgement.score
    groups.setdefault(pair, []).append((item['idx'], score))
  rows = []
  for (one, other), scores in sorted(groups.items()):
    values = np.array([score for _, score in scores])
    rate, low, high = standings.clustered_mean(values, [idx for idx, _ in scores], seed)
    counts = [int((values == score).sum()) for score in (1.0, 0.5, 0.0)]
    rows.append(
      {'system': one, 'opponent': other}
      | dict(zip(('wins', 'ties', 'losses'), counts, strict=True))
      | {'rate': rate, 'low': low, 'high': high}
    )
  return rows


def left_wins(judgements: Sequence[Judgement]) -> tuple[float, float, float]:
  """The share of decisive choices for the left side, and its 95 % Wilson interval."""
  decisive = [j for j in judgements if j.score != 0.5 and j.left]
  left = sum((j.score == 1.0) == (j.left == 'first') for j in decisive)
  return standings.wilson(left, len(decisive))


def agreement(judgements: Sequence[Judgement]) -> float:
  """Krippendorff's ordinal alpha (loss < tie < win) of items judged by two or more people.

  1 is full agreement, 0 is chance; NaN if no item has two judgements, or all choices are equal.
  Needs the package krippendorff: `pip install 'lwz[eval]'`.
  """
  people = sorted({j.annotator for j in judgements})
  items = sorted({j.item for j in judgements})
  table = np.full((len(people), len(items)), np.nan)
  for j in judgements:
    table[people.index(j.annotator), items.index(j.item)] = j.score
  shared = (np.isfinite(table).sum(0) >= 2) if table.size else np.zeros(0, bool)
  if not shared.any() or len(np.unique(table[:, shared][np.isfinite(table[:, shared])])) < 2:
    return float('nan')
  try:
    import krippendorff
  except ImportError as error:
    raise ImportError("agreement needs krippendorff: pip install 'lwz[eval]'") from error
  return float(krippendorff.alpha(reliability_data=table, level_of_measurement='ordinal'))
