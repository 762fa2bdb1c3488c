"""Judging of evaluations in the background, in their order, and their records on disk.

judging = Judging(run.folder)
judging.add(step, policy, describe, rate)  # returns at once; each fills in metrics of a dict
for step, metrics in judging.ended(): ...
judging.wait(1.0)  # True if nothing is under way

Process 0 judges; no collective operation is in it. `describe` needs no judge: it is done of all
that wait before `rate` is of any. What fails is recorded, with the metrics that it has so far and
the reason: training goes on, and a resumed run has it judged again.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable
from typing import Any

from absl import logging
from etils import epath

from lwz.store import evaluations

FAILED = 'eval/failed'  # 1 for an evaluation that could not be judged, else 0

Measure = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(eq=False)
class _Evaluation:
  """The measures so far of one evaluation; `describe` is None once it was called."""

  values: dict[str, Any]
  describe: Measure | None
  rate: Measure
  fault: str = ''


class Judging:
  """The thread that judges the evaluations of a run, one after another."""

  def __init__(self, folder: epath.Path):
    self._folder = folder
    found = evaluations.read(folder).items()
    self._policies = {step: one.get('policy') for step, one in found if not one.get('fault')}
    self._waiting: dict[int, _Evaluation] = {}  # by step
    self._ended: list[tuple[int, dict[str, Any]]] = []
    self._changed, self._describing = threading.Condition(), threading.Lock()
    self._error: Exception | None = None
    self._is_stopped = False
    self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # steps; None is the end
    self._thread: threading.Thread | None = None

  def has(self, step: int, policy: int) -> bool:
    """Whether a step has a record of this policy, and not that of a failure."""
    return self._policies.get(step) == policy

  def forget(self, step: int, policy: int) -> None:
    """Drops the record of a step, unless it is of this policy."""
    with self._changed:
      if evaluations.read(self._folder).get(step, {}).get('policy') != policy:
        evaluations.drop(self._folder, step)
        self._policies.pop(step, None)

  def add(self, step: int, policy: int, describe: Measure, rate: Measure) -> None:
    """Has an evaluation judged, and returns at once."""
    with self._changed:
      self._waiting[step] = _Evaluation({'policy': policy}, describe, rate)
    self._queue.put(step)
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
    """Records what is under way as failed, described; what comes of it later is dropped."""
    for step, one in list(self._waiting.items()):
      self._describe(one)
      self._record(step, one, one.fault or why)

  def stop(self) -> None:
    """Drops what is under way: it has no record, so that a resumed run judges it.

    Waits for a description, which writes in the run's folder, until its next `check`, and for no
    judge.
    """
    with self._changed:
      self._waiting.clear()
    self._is_stopped = True
    self._queue.put(None)
    with self._describing:
      pass

  def check(self) -> None:
    """Raises RuntimeError after `stop`: for a description that takes long."""
    if self._is_stopped:
      raise RuntimeError('the run has stopped')

  def join(self) -> None:
    """Waits for the end of the thread, after `stop`."""
    if self._thread:
      self._thread.join()

  def _work(self) -> None:
    while (step := self._queue.get()) is not None:
      for each in list(self._waiting.values()):
        self._describe(each)
      if (one := self._waiting.get(step)) is None:
        continue
      try:
        if not one.fault:
          one.rate(one.values)
      except Exception as error:  # of any kind: the run goes on without it
        one.fault = one.fault or _said(error)
      try:
        self._record(step, one, one.fault)
      except Exception as error:  # raised in the thread that asks
        with self._changed:
          self._error = error
          self._changed.notify_all()
      del one  # it holds the answers, while the queue is empty

  def _describe(self, one: _Evaluation) -> None:
    with self._describing:  # of two threads one describes, and the other one waits for that
      describe, one.describe = one.describe, None
      if describe is None or one not in list(self._waiting.values()):
        return
      try:
        describe(one.values)
      except Exception as error:  # of any kind, as above
        one.fault = _said(error)

  def _record(self, step: int, one: _Evaluation, fault: str) -> None:
    with self._changed:
      if self._waiting.get(step) is not one:
        return
      values = {**one.values, 'fault': fault, FAILED: float(bool(fault))}
      written = evaluations.write(self._folder, step, values)
      del self._waiting[step]
      self._policies[step] = values['policy']
      self._ended.append((step, evaluations.of(written)))
      self._changed.notify_all()
    if fault:
      logging.warning('the evaluation of step %d could not be judged: %s', step, fault)


def _said(error: Exception) -> str:
  return f'{type(error).__name__}: {error}'
