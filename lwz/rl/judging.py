"""Judging of evaluations in the background, in their order, and their records on disk.

judging = Judging(run.folder)
judging.add(step, policy, measure)   # returns at once; measure(values) fills in the metrics
for step, metrics in judging.ended(): ...
judging.wait(1.0)                    # True if nothing is under way

Process 0 judges; no collective operation is in it. What fails is recorded, with the metrics that it
has so far and the reason: training goes on.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any

from absl import logging
from etils import epath

from lwz.store import evaluations

FAILED = 'eval/failed'  # 1 for an evaluation that could not be judged, else 0

Measure = Callable[[dict[str, Any]], None]


class Judging:
  """The thread that judges the evaluations of a run, one after another."""

  def __init__(self, folder: epath.Path):
    self._folder = folder
    self._policies = {step: one.get('policy') for step, one in evaluations.read(folder).items()}
    self._waiting: dict[int, dict[str, Any]] = {}  # step -> what is measured so far
    self._ended: list[tuple[int, dict[str, Any]]] = []
    self._changed = threading.Condition()
    self._error: Exception | None = None
    self._queue: queue.SimpleQueue[tuple[int, Measure]] = queue.SimpleQueue()
    self._thread: threading.Thread | None = None

  def has(self, step: int, policy: int) -> bool:
    """Whether a step has a record of this policy."""
    return self._policies.get(step) == policy

  def add(self, step: int, policy: int, measure: Measure) -> None:
    """Has an evaluation judged, and returns at once."""
    with self._changed:
      self._waiting[step] = {'policy': policy}
    self._queue.put((step, measure))
    if self._thread is None:  # a daemon: a run that stops does not wait for the answer of a server
      self._thread = threading.Thread(target=self._work, name='judge evaluations', daemon=True)
      self._thread.start()

  def ended(self) -> list[tuple[int, dict[str, Any]]]:
    """Returns (step, metrics) of what has ended since the last call; raises errors of writing."""
    with self._changed:
      if self._error:
        raise self._error
      found, self._ended = self._ended, []
      return found

  def wait(self, seconds: float) -> bool:
    """Waits until nothing is under way, so long at most; returns whether nothing is."""
    with self._changed:
      return self._changed.wait_for(lambda: not self._waiting or bool(self._error), seconds)

  def give_up(self, why: str) -> None:
    """Records what is under way as failed; what comes of it later is dropped."""
    for step in list(self._waiting):
      self._record(step, why)

  def stop(self) -> None:
    """Drops what is under way: it has no record, so that a resumed run judges it."""
    with self._changed:
      self._waiting.clear()

  def _work(self) -> None:
    while True:
      step, measure = self._queue.get()
      fault, values = '', self._waiting.get(step)
      if values is None:
        continue
      try:
        measure(values)
      except Exception as error:  # of any kind: the run goes on without it
        fault = f'{type(error).__name__}: {error}'
      try:
        self._record(step, fault)
      except Exception as error:  # raised in the thread that asks
        with self._changed:
          self._error = error
          self._changed.notify_all()

  def _record(self, step: int, fault: str) -> None:
    with self._changed:
      if (values := self._waiting.get(step)) is None:
        return
      values = {**values, 'fault': fault, FAILED: float(bool(fault))}
      one = evaluations.write(self._folder, step, values)
      del self._waiting[step]
      self._policies[step] = values['policy']
      self._ended.append((step, evaluations.of(one)))
      self._changed.notify_all()
    if fault:
      logging.warning('the evaluation of step %d could not be judged: %s', step, fault)
