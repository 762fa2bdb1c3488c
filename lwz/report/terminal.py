"""Progress of a run on a terminal or in a log, and its closing table."""

import math
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

import rich.box
import rich.console
import rich.markup
import rich.progress
import rich.table
import rich.text

from lwz.report import directions, number

_EVERY = 10.0  # seconds between two lines of a log


class _Console(rich.console.Console):
  """A console whose reader may end first, as `tee` by the same Ctrl-C: rich would end the run."""

  def on_broken_pipe(self) -> None:
    self.quiet = True


class _Metrics(rich.progress.ProgressColumn):
  """The metrics on one line; on a narrow terminal they are cut first."""

  def get_table_column(self) -> rich.table.Column:
    return rich.table.Column()

  def render(self, task: rich.progress.Task) -> rich.text.Text:
    return rich.text.Text(task.fields['metrics'], no_wrap=True, overflow='ellipsis')


class Progress:
  """Steps start..total on the terminal: step, rate, time left, and a few metrics.

      with terminal.Progress(c.num_steps, start=state.step, label='grpo') as bar:
        for step in range(state.step, c.num_steps):
          ...
          bar.update(step + 1, loss=loss, reward=reward)

  Where `file` (standard error, unless given) is no terminal, plain lines are written instead: the
  first update, then at most one in ten seconds, then the last. `unit` is what is counted. `quiet`
  writes nothing: hosts other than the first pass `jax.process_index() != 0`. `clock` gives seconds.
  """

  def __init__(
    self,
    total: int,
    start: int = 0,
    label: str = '',
    *,
    unit: str = 'step',
    quiet: bool = False,
    file: IO[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self.total, self.start, self.label, self._unit = int(total), int(start), label, unit
    self.rate = math.nan  # steps per second, NaN until a second update
    self._done, self._metrics, self._clock = self.start, {}, clock
    self._began, self._pending = 0.0, False
    self._first: tuple[int, float] | None = None
    self._printed: float | None = None
    # In a notebook rich would write past sys.stderr, which its caller may have redirected.
    self._console = None if quiet else _Console(file=file, stderr=file is None, force_jupyter=False)
    self._bar: rich.progress.Progress | None = None

  def __enter__(self) -> 'Progress':
    self._began = self._clock()
    # A notebook forces colours (FORCE_COLOR), which rich takes for a terminal.
    if self._console and self._console.is_terminal and self._console.file.isatty():
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn('[bold]{task.description}', markup=True),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn('{task.completed:,.0f}/{task.total:,.0f}'),
        rich.progress.TextColumn('{task.fields[pace]}', style='cyan', markup=False),
        _Metrics(),
        console=self._console,
      )
      description = rich.markup.escape(self.label)
      self._task = self._bar.add_task(
        description, total=self.total, completed=self.start, pace='', metrics=''
      )
      self._bar.start()
    return self

  def update(self, step: int, **metrics: Any) -> None:
    """Shows that `step` steps of `total` are done, with two or three metrics.

    The first update starts the clock of the rate, so that the compilation in the first step does
    not enter it.
    """
    now = self._clock()
    self._done, self._metrics, self._pending = int(step), metrics, True
    if self._first is None:
      self._first = (self._done, now)
    elif now > self._first[1]:
      self.rate = (self._done - self._first[0]) / (now - self._first[1])
    if self._bar:
      self._bar.update(self._task, completed=self._done, pace=self._pace(), metrics=self._values())
    elif self._printed is None or now - self._printed >= _EVERY:
      self._line(now)

  def __exit__(self, kind, error, trace) -> None:
    if self._bar:
      self._bar.stop()
    elif self._pending:
      self._line(self._clock())
    if self._console:
      spent = number.duration(self._clock() - self._began)
      ended = 'done' if self._done >= self.total and kind is None else 'stopped'
      self._print(
        f'{self._name()}{ended} at {self._unit} {self._done:,} of {self.total:,} after {spent}'
      )

  def _line(self, now: float) -> None:
    self._printed, self._pending = now, False
    parts = [f'{self._unit} {self._done:,}/{self.total:,}', self._pace(), self._values()]
    self._print(self._name() + ', '.join(part for part in parts if part))

  def _print(self, line: str) -> None:
    if self._console:
      self._console.print(rich.text.Text(line), soft_wrap=True)

  def _name(self) -> str:
    return f'{self.label}: ' if self.label else ''

  def _pace(self) -> str:
    if not self.rate > 0:
      return ''
    unit = self._unit
    pace = f'{self.rate:.3g} {unit}s/s' if self.rate >= 1 else f'{1 / self.rate:.3g} s/{unit}'
    left = (self.total - self._done) / self.rate
    return f'{pace}, {number.duration(left)} left' if left > 0 else pace

  def _values(self) -> str:
    return ', '.join(f'{name} {number.show(value)}' for name, value in self._metrics.items())


def closing_table(
  title: str, rows: Iterable[tuple[str, float, float, float]], *, file: IO[str] | None = None
) -> None:
  """Prints rows of `summary.first_last`: a table on a terminal, aligned plain lines elsewhere.

  `file` is standard output, unless given. Green and red follow `directions.of`.
  """
  console = rich.console.Console(file=file, force_jupyter=False)
  plain = not console.is_terminal
  if plain:  # a log has no width to fit: nothing is cut
    console = rich.console.Console(file=file, width=240, force_jupyter=False)
  table = rich.table.Table(
    title=rich.text.Text(title),
    title_justify='left',
    box=None if plain else rich.box.SIMPLE_HEAD,
    pad_edge=not plain,
  )
  table.add_column('metric', no_wrap=True)
  for name in ('first', 'last', 'change'):
    table.add_column(name, justify='right', no_wrap=True)
  for name, first, last, _ in rows:
    verdict = directions.verdict(name, first, last)
    style = 'green' if verdict > 0 else 'red' if verdict < 0 else ''
    cells = (name, number.show(first), number.show(last))
    change = rich.text.Text(directions.change(first, last), style)
    table.add_row(*(rich.text.Text(cell) for cell in cells), change)
  console.print(table)
