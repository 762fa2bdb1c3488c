"""The end of the funnel: what a request and the judge's verdicts make, a prompt or a reject."""

from typing import Any

from lwz.data.funnel import assessor


def settle(
  record: dict[str, Any],
  keep: bool | None,
  judged: tuple[int, int] | None,
  *,
  judge: str,
  shortest: int,
) -> tuple[dict[str, Any] | None, tuple[str, str]]:
  """A line of the prompt set, as `lwz.data.prompts.load` reads it, or why there is none.

  Args:
    record: of `sift.read`. A range that the data set itself names is kept as it is.
    keep: the filter's verdict; None where there is none.
    judged: the assessor's range, likewise.
    judge: who said so.
    shortest: words; a range that ends below is too short.

  Returns:
    (line, ('', '')), or (None, (reason, detail)). The line has id, text, language, source, lower,
    upper, and `provenance`: file, row and key of the request, who filtered it, and where its range
    is from, with what the judge said and what the rules of `assessor.settle` made of it.
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
  return line | {'lower': lower, 'upper': upper, 'provenance': provenance}, ('', '')
