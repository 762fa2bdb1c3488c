"""Rewards computed in the background, while other samples are still being written.

rewards = background.BackgroundRewards({'format': components.per_answer(components.format)}, G)
for index, sample in written:         # as they end, in any order
  rewards.add(index, sample)
values_B = rewards.values('format', samples)
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from lwz import hosts
from lwz.reward import components


class BackgroundRewards:
  """Rewards that need no device of ours, each in threads of its own.

  A reward of one thread is called with all units (samples, or whole groups) that wait for it, since
  many judges read several texts as fast as one; one of several threads with a unit each. Equal
  units are judged once. An error of a reward is raised by the next `add`, or by `values`.
  """

  def __init__(self, rewards: Mapping[str, components.Reward], group_size: int):
    self._rewards, self._group_size = dict(rewards), group_size
    self._workers = {name: _Worker(name, reward) for name, reward in rewards.items()}
    self._samples: dict[int, components.Sample] = {}

  def __contains__(self, name: str) -> bool:
    return name in self._rewards

  def add(self, index: int, sample: components.Sample) -> None:
    """Adds sample p * G + g of the step, and returns at once.

    A unit is judged when it is complete, by the process that owns it.
    """
    self._samples[index] = sample
    for name, worker in self._workers.items():
      worker.check()
      size = self._rewards[name].unit_size(self._group_size)
      unit = index // size
      members = range(unit * size, (unit + 1) * size)
      if hosts.owns(unit) and all(b in self._samples for b in members):
        worker.add(tuple(self._samples[b] for b in members))

  def values(self, name: str, samples: Sequence[components.Sample]) -> np.ndarray:
    """Returns `Reward.values` of all samples of the step; units not judged yet are judged now."""
    return self._rewards[name].values(samples, self._group_size, self._workers[name].of_units)

  def end(self, seconds: float) -> bool:
    """Waits so long at most; returns whether all that was added is judged. No more may be added.

    Raises the errors of rewards.
    """
    last = time.monotonic() + seconds
    ended = [worker.end(last) for worker in self._workers.values()]
    for worker in self._workers.values():
      worker.check()
    return all(ended)

  def stop(self) -> None:
    """Drops the units that wait. Returns without waiting for what is being judged."""
    for worker in self._workers.values():
      worker.stop()


class _Worker:
  """The threads that compute one reward of the units in its queue."""

  def __init__(self, name: str, reward: components.Reward):
    self._reward, self._name = reward, name
    self._threads: list[threading.Thread] = []  # one for each unit, up to `reward.threads`
    self._known: dict[components.Unit, np.ndarray] = {}
    self._begun, self._lock = set(), threading.Lock()
    self._queue: queue.SimpleQueue[components.Unit | None] = queue.SimpleQueue()  # None ends one
    self._error: Exception | None = None
    self._stopped = self._ending = False

  def check(self) -> None:
    if self._error:
      raise self._error

  def add(self, unit: components.Unit) -> None:
    self._queue.put(unit)
    if len(self._threads) < self._reward.threads:
      # A daemon: a run that stops does not wait for the answer of a server.
      thread = threading.Thread(target=self._work, name=f'judge {self._name}', daemon=True)
      self._threads.append(thread)
      thread.start()

  def stop(self) -> None:
    self._stopped = True
    self._end()

  def end(self, last: float) -> bool:
    """Waits until that time for the threads to end; returns whether they have."""
    self._end()
    for thread in self._threads:
      thread.join(max(0.0, last - time.monotonic()))
    return not any(thread.is_alive() for thread in self._threads)

  def _end(self) -> None:
    if not self._ending:
      self._ending = True
      for _ in self._threads:
        self._queue.put(None)

  def of_units(self, units: Sequence[components.Unit]) -> np.ndarray:
    """`Reward.of_units`, after the threads have ended."""
    self.end(time.monotonic() + threading.TIMEOUT_MAX)
    self.check()
    self._judge(units)
    return np.stack([self._known[unit] for unit in units])

  def _work(self) -> None:
    last = False
    while not last:
      batch = [self._queue.get()]
      while self._reward.threads == 1 and not self._queue.empty():
        batch.append(self._queue.get())
      last = None in batch
      if self._stopped:
        return
      try:
        self._judge([unit for unit in batch if unit is not None])
      except Exception as error:  # raised in the thread that asks
        self._error = error
        return

  def _judge(self, units: Sequence[components.Unit]) -> None:
    with self._lock:
      new = [unit for unit in dict.fromkeys(units) if unit not in self._begun]
      self._begun.update(new)
    if new:
      self._known.update(zip(new, self._reward.of_units(new), strict=True))
