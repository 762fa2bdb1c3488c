"""The queue of a server: requests come from other threads, and go when nobody waits for them."""

import collections
import threading
from collections.abc import Callable, Sequence

from lwz.rollout import queue as queue_lib


class Full(Exception):
  """There is no room for more waiting requests."""


class Closed(Exception):
  """No more requests are taken."""


class Arrivals(queue_lib.Queue):
  """First come, first served; `make` turns what waits into a request, on the scheduler's thread.

  What `put` gives is an index each, for `dropped` to tell whether somebody still waits for it.
  `busy` is called whenever the devices have been given a block.
  """

  def __init__(
    self,
    limit: int,
    make: Callable[[int], queue_lib.Request],
    dropped: Callable[[int], bool],
    busy: Callable[[], None] = lambda: None,
  ):
    super().__init__()
    self._busy = busy
    self.limit, self._make, self._dropped = limit, make, dropped
    self._changed = threading.Condition()
    self._coming: collections.deque[int] = collections.deque()
    self._ready: collections.deque[int] = collections.deque()  # since the last `refresh`
    self._jobs: collections.deque[Callable[[], None]] = collections.deque()
    self._closed = False

  def put(self, indices: Sequence[int]) -> None:
    """Adds requests, all or none. Raises Full or Closed."""
    with self._changed:
      if self._closed:
        raise Closed
      if self.num_waiting + len(indices) > self.limit:
        raise Full
      self._coming.extend(indices)
      self._changed.notify()

  def call(self, job: Callable[[], None]) -> None:
    """Has the scheduler's thread do something between two blocks; it must not raise."""
    with self._changed:
      self._jobs.append(job)
      self._changed.notify()

  def do_jobs(self) -> None:
    """Does what `call` has asked for."""
    while self._jobs:
      self._jobs.popleft()()

  def close(self) -> None:
    """Takes no more requests; those that wait are still served."""
    with self._changed:
      self._closed = True
      self._changed.notify()

  @property
  def is_closed(self) -> bool:
    return self._closed

  @property
  def num_waiting(self) -> int:
    return len(self._coming) + len(self._ready)

  def __len__(self) -> int:
    return len(self._ready)

  def pop(self) -> tuple[int, queue_lib.Request]:
    index = self._ready.popleft()
    return index, self._make(index)

  def busy(self) -> None:
    self._busy()

  def refresh(self, idle: bool) -> bool:
    with self._changed:
      if idle:
        self._changed.wait_for(lambda: self.num_waiting or self._jobs or self._closed)
      self._ready.extend(self._coming)
      self._coming.clear()
      self._ready = collections.deque(i for i in self._ready if not self._dropped(i))
      goes_on = not self._closed
    self.do_jobs()
    return goes_on
