"""Benchmarks: one module each, with three functions, and a line in the table of `stages.evaluate`.

    make(documents, *, lower, upper, num) -> records   a small one, in the schema of the published
    load(c, path) -> `Loaded`
    report(c, folder, content, names, answered, kept) -> the sections of results.json

`answered` is {system: {index: answer}}, `kept` the journal of what the judge has said. Of the
sections these must be there: `facts` {name: value}, `faults` (why the judge failed, [] if it did
not), and, for the report alone, `tables` [(title, header, rows)], of which the first is printed,
`plot` [(system, value, low, high)], NaN for no interval, its `unit`, and `covers`, the range that
its axis shows at least. Each verdict is written to judgements.jsonl with what it is about.
"""

from typing import Any, NamedTuple

JUDGEMENTS = 'judgements.jsonl'


class Loaded(NamedTuple):
  """A benchmark: what its `report` reads, and the prompts of it that are asked, by index."""

  content: Any
  prompts: dict[int, str]
  rejects: list
  left_out: int  # prompts beyond eval.prompts
  baselines: set[str]  # names that no system may have
