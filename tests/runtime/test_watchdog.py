"""A run that stands still says where."""

import time

from lwz.runtime import watchdog


def test_it_shows_the_stacks_again_and_again(tmp_path):
  with (tmp_path / 'log').open('w') as file, watchdog.Watchdog(0.1, file) as dog:
    dog.reset()
    time.sleep(0.5)
  said = (tmp_path / 'log').read_text()
  assert said.count('Timeout (0:00:00.1') >= 2
  assert 'test_it_shows_the_stacks_again_and_again' in said


def test_it_is_silent_while_things_move_and_after_the_end(tmp_path):
  with (tmp_path / 'log').open('w') as file:
    with watchdog.Watchdog(0.3, file) as dog:
      for _ in range(5):
        time.sleep(0.1)
        dog.reset()
    with watchdog.Watchdog(0, file) as dog:
      dog.reset()
    time.sleep(0.4)
  assert (tmp_path / 'log').read_text() == ''
