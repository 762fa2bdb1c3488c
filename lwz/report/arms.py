"""Arms of a sweep as a live table on a terminal, or as lines in a log."""

import time
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

import rich.console
import rich.live
import rich.table
import rich.text

from lwz.report import number

_EVERY = 60.0  # seconds between two lines of a log about an arm that runs
_STYLES = {'complete': 'green', 'failed': 'red', 'blocked': 'red', 'running': 'cyan'}
_FIRST = ('running', 'failed', 'elsewhere', 'blocked', 'stopped')  # shown where room is short


class Arm(NamedTuple):
  """A row of the table; `number` is '' for a run that arms need."""

  number: str
  name: str
  state: str
  progress: str  # '12/170'
  left: float  # seconds, may be NaN
  metrics: dict[str, float]
  said: str = ''  # why it failed


class Live:
  """The table while a sweep runs, as a context; where `file` is no terminal, lines instead.

  A line is written when the state of an arm changes, and every minute while it runs.
  """

  def __init__(self, *, file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic):
    self._console = rich.console.Console(file=file, force_jupyter=False)
    self._live: rich.live.Live | None = None
    self._clock = clock
    self._shown: dict[str, tuple[str, float]] = {}  # name -> (state, time of its last line)

  def __enter__(self) -> 'Live':
    if self._console.is_terminal and self._console.file.isatty():  # FORCE_COLOR makes no terminal
      self._live = rich.live.Live(console=self._console, auto_refresh=False)
      self._live.start()
    return self

  def update(self, arms: Sequence[Arm]) -> None:
    if self._live:
      self._live.update(table(arms, height=self._console.height - 4), refresh=True)
      return
    now = self._clock()
    for arm in arms:
      state, shown = self._shown.get(arm.name, ('waiting', now))
      if arm.state != state or (arm.state == 'running' and now - shown >= _EVERY):
        self._shown[arm.name] = (arm.state, now)
        left = f'{number.duration(arm.left)} left' if arm.left > 0 else ''
        parts = [arm.progress, left, _values(arm.metrics), arm.said]
        line = f'{arm.name}: {arm.state}' + ''.join(f', {part}' for part in parts if part)
        self._console.print(rich.text.Text(line), soft_wrap=True)

  def __exit__(self, *error) -> None:
    if self._live:
      self._live.stop()


def table(arms: Sequence[Arm], *, height: int | None = None) -> rich.table.Table:
  """Returns the table: state, step, time left, metrics; of at most `height` rows.

  Where rows are left out, those that run or failed stay, and the others are counted.
  """
  shown = list(arms)
  if height is not None and len(arms) > height:
    kept = sorted(range(len(arms)), key=lambda i: (arms[i].state not in _FIRST, i))
    shown = [arms[i] for i in sorted(kept[: max(1, height - 1)])]
  found = rich.table.Table(box=None, pad_edge=False, header_style='bold')
  found.add_column('', justify='right', no_wrap=True)
  found.add_column('run', overflow='fold')
  for name in ('state', 'step', 'left'):
    found.add_column(name, no_wrap=True, justify='left' if name == 'state' else 'right')
  found.add_column('metrics', overflow='ellipsis', no_wrap=True)
  for arm in shown:
    cells = (arm.number, arm.name, arm.state, arm.progress, number.duration(arm.left))
    texts = [rich.text.Text(cell) for cell in cells]
    texts[2].stylize(_STYLES.get(arm.state, ''))
    first = arm.said.splitlines()[0] if arm.said else _values(arm.metrics)
    found.add_row(*texts, rich.text.Text(first))
  if len(shown) < len(arms):
    names = {id(arm) for arm in shown}
    states = [arm.state for arm in arms if id(arm) not in names]
    counts = ', '.join(f'{states.count(state)} {state}' for state in dict.fromkeys(states))
    found.add_row('', rich.text.Text(f'and {counts}'), '', '', '', '')
  return found


def _values(metrics: dict[str, Any]) -> str:
  return ', '.join(f'{name} {number.show(value)}' for name, value in metrics.items())
