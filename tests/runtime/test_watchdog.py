"""A run that stands still says where."""

import time

from lwz.runtime import watchdog


def test_it_names_the_phase_and_shows_the_stacks(tmp_path):
  with (tmp_path / 'log').open('w') as file, watchdog.Watchdog(0.1, file) as dog:
    dog.moved("'judge' of step 7")
    time.sleep(0.3)
  said = (tmp_path / 'log').read_text()
  assert "nothing has moved for 0 s, since 'judge' of step 7" in said
  assert 'test_it_names_the_phase_and_shows_the_stacks' in said


def test_it_is_silent_while_things_move(tmp_path):
  with (tmp_path / 'log').open('w') as file, watchdog.Watchdog(5, file) as dog:
    for _ in range(3):
      dog.moved('a step')
  with (tmp_path / 'log').open('w') as file, watchdog.Watchdog(0, file):
    time.sleep(0.05)
  assert (tmp_path / 'log').read_text() == ''
