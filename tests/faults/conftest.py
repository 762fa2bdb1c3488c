"""The count of faults: with RELIABILITY=FILE a table of what was tried and survived is written."""

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
def count():
  """`count(fault, tried, survived)` adds a line."""
  found: dict[str, tuple[int, int]] = {}
  yield lambda fault, tried, survived: found.update({fault: (tried, survived)})
  if not (found and os.environ.get('RELIABILITY')):
    return
  target = pathlib.Path(os.environ['RELIABILITY'])
  rows = (read(target.read_text()) if target.exists() else {}) | found
  rows['all'] = tuple(map(sum, zip(*(rows[name] for name in rows if name != 'all'), strict=True)))
  rows['all'] = rows.pop('all')  # last
  lines = [f'| {name} | {n} | {ok} | {n - ok} |\n' for name, (n, ok) in rows.items()]
  target.write_text(HEAD + ''.join(lines))


def read(text: str) -> dict[str, tuple[int, int]]:
  """The lines of an earlier table: what is not tried now stays."""
  rows = text.rsplit('|---|---|---|---|\n', 1)[1].splitlines()
  cells = [line.strip('| ').split(' | ') for line in rows]
  return {name: (int(tried), int(survived)) for name, tried, survived, _ in cells}
