"""Requests that come and go while others are written: nothing that is written knows of them."""

import numpy as np
import pytest

from lwz.rollout import queue as queue_lib
from lwz.rollout import scheduler
from tests.rollout import typist


def request(key, length=8):
  return scheduler.Request(np.array([5, 6]), np.array([0, key], np.uint32), length)


class Script(queue_lib.Queue):
  """Requests by the number of the refresh at which they come; it ends with the last of them."""

  def __init__(self, coming):
    super().__init__()
    self._coming, self._number, self.idle = dict(coming), 0, []

  def refresh(self, idle):
    self.idle.append(idle)
    if idle and self._coming:  # as one that waits until somebody comes
      self._number = max(self._number, min(self._coming))
    self._waiting[:0] = self._coming.pop(self._number, [])[::-1]
    self._number += 1
    return bool(self._coming)


def written(engine, requests, **more):
  return {one.index: one for one in scheduler.run(engine, None, requests, **more)}


@pytest.mark.parametrize('num_slots', [1, 2, 3, 5])
def test_what_comes_later_is_written_as_if_it_were_alone(num_slots):
  asked = [(key, request(key, length)) for key, length in enumerate((8, 3, 20, 1, 5, 13))]
  writes = typist.count_up(60)
  found = written(
    typist.Typist(writes, num_slots=num_slots).engine(),
    Script({0: asked[:2], 2: asked[2:3], 3: asked[3:]}),
  )
  assert sorted(found) == [0, 1, 2, 3, 4, 5]
  for index, one in found.items():
    (alone,) = written(typist.Typist(writes).engine(), [asked[index][1]]).values()
    np.testing.assert_array_equal(one.ids, alone.ids)


def test_a_queue_to_which_more_may_come_waits_only_when_all_is_told():
  """A trajectory that has ended is yielded before the loop waits for another request."""
  queue = Script({0: [(0, request(0, 3))], 50: [(1, request(1, 3))]})
  found = []
  engine = typist.Typist(typist.count_up(60)).engine()
  for one in scheduler.run(engine, None, queue):
    found.append((one.index, sum(queue.idle)))
  # Idle at the start, then once more, after 0 has been yielded.
  assert found == [(0, 1), (1, 2)]


def test_what_is_cancelled_leaves_its_slot_at_its_next_block():
  clerk = typist.Typist(typist.count_up(60), num_slots=1)
  asked = [request(0, 60), request(1, 3)]
  seen = []

  def stop_rule(index, ids):
    seen.append((index, len(ids)))
    return len(ids) if index == 0 and len(ids) >= 6 else None

  found = written(clerk.engine(), Script({0: [*enumerate(asked)]}), stop_rule=stop_rule)
  assert seen == [(0, 3), (0, 6), (1, 3)] and clerk.blocks == [1, 1, 1]
  assert len(found[0].ids) == 6 and len(found[1].ids) == 3
