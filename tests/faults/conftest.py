"""The tally of faults: with RELIABILITY=FILE a table of what was tried and survived is written."""

import os
import pathlib

import pytest

HEAD = """# Reliability: faults tried, survived, lost

Every line is a fault done to a run at size `micro` on CPU. Survived: started again with the same
command, the run ended with the bits of an undisturbed one (metrics but for clocks, fingerprints of
parameters and optimiser, samples, trajectories); for several processes: all stopped at one step, or
all left, and the restart finished.

    RELIABILITY=results/reliability.md python -m pytest tests/faults -m slow

| fault | tried | survived | lost |
|---|---|---|---|
"""


@pytest.fixture(scope='session')
def tally():
  """`tally(fault, tried, survived)` adds a line."""
  lines = []
  yield lambda fault, tried, survived: lines.append((fault, tried, survived))
  target = os.environ.get('RELIABILITY')
  if target and lines:
    rows = [*lines, ('all', sum(x[1] for x in lines), sum(x[2] for x in lines))]
    text = ''.join(f'| {what} | {n} | {ok} | {n - ok} |\n' for what, n, ok in rows)
    pathlib.Path(target).write_text(HEAD + text)
