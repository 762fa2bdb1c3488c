"""Plain lines in a log, few of them; a bar on a terminal."""

import io
import math

import pytest

from lwz.report import terminal


class Clock:
  """Seconds that pass when told."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


class Screen(io.StringIO):
  """A file that says it is a terminal."""

  def isatty(self):
    return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
  for name in ('FORCE_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE', 'NO_COLOR'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('TERM', 'xterm')


def test_a_log_gets_a_line_at_first_then_every_ten_seconds_then_at_the_end():
  log, clock = io.StringIO(), Clock()
  with terminal.Progress(100, label='grpo', file=log, clock=clock) as bar:
    for step in range(100):
      clock.now += 1
      bar.update(step + 1, loss=0.5)
  lines = log.getvalue().splitlines()
  assert [line.split(',')[0] for line in lines] == [
    'grpo: step 1/100',
    *(f'grpo: step {n}/100' for n in range(11, 100, 10)),
    'grpo: step 100/100',
    'grpo: done at step 100 of 100 after 1m 40s',
  ]
  assert lines[1] == 'grpo: step 11/100, 1 steps/s, 1m 29s left, loss 0.500'
  assert '\x1b' not in log.getvalue()


def test_forced_colours_make_no_terminal_of_a_log(monkeypatch):
  """As in a notebook, where a bar would outlive the file that it was opened on."""
  monkeypatch.setenv('FORCE_COLOR', '1')
  log = io.StringIO()
  with terminal.Progress(3, label='grpo', file=log) as bar:
    bar.update(3)
  assert log.getvalue().startswith('grpo: step 3/3\n')
  assert '\x1b' not in log.getvalue()


def test_the_rate_leaves_the_first_step_out():
  clock = Clock()
  with terminal.Progress(10, file=io.StringIO(), clock=clock) as bar:
    clock.now = 300.0  # compiles
    bar.update(1)
    assert math.isnan(bar.rate)
    clock.now = 304.0
    bar.update(3)
    assert bar.rate == 0.5


def test_a_resumed_run_begins_where_it_stopped():
  log, clock = io.StringIO(), Clock()
  with terminal.Progress(8, start=5, file=log, clock=clock) as bar:
    bar.update(6, **{'reward/length': 0.25})
  first, last = log.getvalue().splitlines()
  assert first == 'step 6/8, reward/length 0.250'
  assert last == 'stopped at step 6 of 8 after 0s'


def test_an_interruption_is_told_with_the_last_metrics_and_goes_on():
  log, clock = io.StringIO(), Clock()
  with (
    pytest.raises(KeyboardInterrupt),
    terminal.Progress(9, file=log, clock=clock) as bar,
  ):
    bar.update(1, loss=2.0)
    clock.now = 2.0
    bar.update(2, loss=1.0)
    raise KeyboardInterrupt
  assert log.getvalue().splitlines()[1:] == [
    'step 2/9, 2 s/step, 14s left, loss 1.000',
    'stopped at step 2 of 9 after 2s',
  ]


@pytest.mark.parametrize('kind', [io.StringIO, Screen])
def test_a_reader_that_ends_first_ends_no_run(kind):
  """As `tee` does, which hears the same Ctrl-C; rich would leave with status 1."""

  class Closed(kind):
    def write(self, text):
      raise BrokenPipeError

  with terminal.Progress(2, file=Closed()) as bar:
    bar.update(1)
    bar.update(2)


@pytest.mark.parametrize('file', [io.StringIO, Screen])
def test_quiet_prints_nothing(file, capsys):
  log = file()
  with terminal.Progress(3, quiet=True, file=log) as bar:
    for step in range(3):
      bar.update(step + 1, loss=1.0)
  assert log.getvalue() == ''
  assert capsys.readouterr() == ('', '')


def test_a_terminal_gets_a_bar_with_step_rate_time_left_and_metrics():
  screen, clock = Screen(), Clock()
  with terminal.Progress(4, label='[red]', file=screen, clock=clock) as bar:
    bar.update(1)
    clock.now = 60.0
    bar.update(2, loss=0.125)
  shown = screen.getvalue()
  assert shown.count('[red]') > 1  # beside the bar too, not only in the line at the end
  for part in ('2/4', '60 s/step, 2m 00s left', 'loss 0.125', 'stopped at step 2 of 4'):
    assert part in shown


def test_a_log_line_is_never_wrapped_and_its_brackets_are_text():
  log = io.StringIO()
  with terminal.Progress(3, label='[red]' + 'x' * 200, file=log, clock=Clock()) as bar:
    bar.update(1)
  assert log.getvalue().splitlines()[0] == '[red]' + 'x' * 200 + ': step 1/3'


def test_the_closing_table_is_plain_in_a_log_and_coloured_on_a_terminal():
  rows = [('loss', 2.0, 1.0, -1.0), ('reward/length', 0.5, 0.25, -0.25), ('[b]' * 30, 1, 2, 1)]
  log, screen = io.StringIO(), Screen()
  terminal.closing_table('run', rows, file=log)
  terminal.closing_table('run', rows[:2], file=screen)
  title, header, *lines = [line.split() for line in log.getvalue().splitlines() if line.strip()]
  assert title == ['run']
  assert header == ['metric', 'first', 'last', 'change']
  assert lines[0] == ['loss', '2.000', '1.000', '−1.000']
  assert lines[2] == ['[b]' * 30, '1', '2', '+1']
  assert '\x1b' not in log.getvalue()
  assert '\x1b[32m−1.000' in screen.getvalue()
  assert '\x1b[31m−0.250' in screen.getvalue()
