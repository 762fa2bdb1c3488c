"""The last step of the funnel: a request and the judge's verdicts become a prompt or a reject."""

from collections.abc import Mapping
from typing import Any

from lwz.data.funnel import assessor


def settle(
  record: dict[str, Any],
  keep: bool | None,
  judged: tuple[int, int] | None,
  *,
  judge: str,
  shortest: int,
  written: Mapping[str, Any] = {},
) -> tuple[dict[str, Any] | None, tuple[str, str]]:
  """A line of the prompt set, as `lwz.data.prompts.load` reads it, or the reason for rejection.

  `record` is from `sift.read`; a range given by the data set is kept as it is. `keep` and `judged`
  are the verdicts of filter and assessor, None if there is none. A range with an upper bound below
  `shortest` words is rejected. `written` has the criteria and references that the judge was asked
  for, for a data set that has none; None if it has failed.

  Returns (line, ('', '')), or (None, (reason, detail)). The line has id, text, language, source,
  lower, upper, criteria and references if the data set has them, and `provenance`: file, row and
  key of the request, the judge of the filter, and the source of the range, with the judge's range
  and the changes by `assessor.settle`.
  """
  if keep is None:
    return None, ('no judgement', 'filter')
  if not keep:
    return None, ('filter judge', judge)
  provenance = {name: record[name] for name in ('file', 'row', 'key')} | {'filter': judge}
  if record['range'][1]:
    lower, upper = record['range']
    provenance |= {'length': 'the data set', 'changed': ''}
  else:
    if judged is None:
      return None, ('no judgement', 'length')
    found = assessor.settle(*judged, record['text'])
    lower, upper = found.lower, found.upper
    if not upper:
      return None, ('length judge', f'{judge}: {found.changed}')
    provenance |= {'length': judge, 'judged': list(judged), 'changed': found.changed}
  if upper < shortest:
    return None, ('short range', f'{judge}: [{lower}, {upper}]')
  line = {name: record[name] for name in ('id', 'text', 'language', 'source')}
  more = dict(record.get('more', {}))
  for name, value in written.items():
    if not more.get(name):
      if value is None:
        return None, ('no judgement', name)
      more[name], provenance[name] = value, judge
  line |= {'lower': lower, 'upper': upper, **more}
  return line | {'provenance': provenance}, ('', '')
