"""Arms of a sweep on a terminal and in a log."""

import io

import rich.console

from lwz.report import arms

NAN = float('nan')


def arm(number, state='waiting', said='', left=NAN, **metrics):
  return arms.Arm(str(number), f'run-{number}', state, '3/9', left, metrics, said)


def printed(table, width=100):
  console = rich.console.Console(file=io.StringIO(), width=width)
  console.print(table)
  return console.file.getvalue().splitlines()


def test_a_row_has_state_step_time_left_and_metrics():
  (_, line) = printed(arms.table([arm(1, 'running', left=75.0, loss=0.5)]))
  assert line.split() == ['1', 'run-1', 'running', '3/9', '1m', '15s', 'loss', '0.500']


def test_a_failed_arm_shows_the_first_line_of_its_reason():
  (_, line) = printed(arms.table([arm(1, 'failed', 'lwz: no such folder\nmore', loss=0.5)]))
  assert line.endswith('lwz: no such folder') or 'lwz: no such folder' in line
  assert 'more' not in line and 'loss' not in line


def test_where_room_is_short_those_that_run_or_failed_stay_and_the_others_are_counted():
  states = ['complete'] * 20 + ['running', 'failed'] + ['waiting'] * 28
  found = [arm(i, state) for i, state in enumerate(states)]
  lines = printed(arms.table(found, height=10))
  assert len(lines) == 1 + 10
  assert any('run-20 ' in line for line in lines) and any('run-21 ' in line for line in lines)
  assert lines[-1].strip() == 'and 13 complete, 28 waiting'


def test_a_log_has_a_line_for_each_change_and_each_minute():
  now, file = [0.0], io.StringIO()
  with arms.Live(file=file, clock=lambda: now[0]) as live:
    for seconds, state in ((0, 'waiting'), (1, 'running'), (30, 'running'), (62, 'running')):
      now[0] = seconds
      live.update([arm(1, state, left=60.0, loss=0.5)])
    live.update([arm(1, 'failed', 'why')])
    live.update([arm(1, 'failed', 'why')])
  assert file.getvalue().splitlines() == [
    'run-1: running, 3/9, 1m 00s left, loss 0.500',
    'run-1: running, 3/9, 1m 00s left, loss 0.500',
    'run-1: failed, 3/9, why',
  ]
