"""Benchmarks: one module each, with three functions, and a line in the table of `stages.evaluate`.

    make(documents, *, lower, upper, num) -> records   a small one, in the schema of the published
    load(c, path) -> `Loaded`
    report(c, folder, content, names, answered, kept) -> the sections of results.json and the report

`answered` is {system: {index: answer}}, `kept` the journal of what the judge has said.
"""

from typing import Any, NamedTuple


class Loaded(NamedTuple):
  """A benchmark: what its `report` reads, and the prompts of it that are asked, by index."""

  content: Any
  prompts: dict[int, str]
  rejects: list
  left_out: int  # prompts beyond eval.prompts
  baselines: set[str]  # names that no system may have
