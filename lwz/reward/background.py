"""Judging ahead: samples are judged while others are still being written.

judging = ahead.Ahead({'format': compose.format})
for reply in replies:                  # as they end
  judging.begin(sample_of(reply))
values_B = judging.values('format', samples)
"""

import queue
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from lwz.reward import components as components_lib


class Ahead:
  """Components that need nothing of the device, each in a thread of its own.

  What a component says of a sample must depend on no other. It is given at once all that wait for
  it, since many a judge reads several texts as fast as one, and equal samples are judged once.
  An error of a component is raised by the next `begin`, or with its values.
  """

  def __init__(self, components: Mapping[str, components_lib.Component]):
    self._workers = {name: _Worker(name, component) for name, component in components.items()}

  def begin(self, sample: components_lib.Sample) -> None:
    """Has every component judge a sample, and returns at once."""
    for worker in self._workers.values():
      worker.begin(sample)

  def values(self, name: str, samples: Sequence[components_lib.Sample]) -> np.ndarray:
    """One number per sample, as the component itself gives; those not begun are judged now. [B]"""
    return self._workers[name].values(samples)

  def end(self) -> None:
    """Forgets what waits. What is being judged is not waited for."""
    for worker in self._workers.values():
      worker.end()


class _Worker:
  def __init__(self, name: str, component: components_lib.Component):
    self._component = component
    self._known: dict[components_lib.Sample, float] = {}
    self._waiting: queue.SimpleQueue[components_lib.Sample | None] = (
      queue.SimpleQueue()
    )  # None ends it
    self._error: Exception | None = None
    self._ended = False
    # A daemon: a run that stops does not wait for the answer of a server.
    self._thread = threading.Thread(target=self._work, name=f'judge {name}', daemon=True)
    self._thread.start()

  def begin(self, sample: components_lib.Sample) -> None:
    if self._error:
      raise self._error
    self._waiting.put(sample)

  def end(self) -> None:
    self._ended = True
    self._waiting.put(None)

  def values(self, samples: Sequence[components_lib.Sample]) -> np.ndarray:
    self._waiting.put(None)
    self._thread.join()
    if self._error:
      raise self._error
    self._judge(samples)
    return np.array([self._known[sample] for sample in samples], np.float64)

  def _work(self) -> None:
    last = False
    while not last:
      batch = [self._waiting.get()]
      while not self._waiting.empty():
        batch.append(self._waiting.get())
      last = None in batch
      if self._ended:
        return
      try:
        self._judge([sample for sample in batch if sample is not None])
      except Exception as error:  # raised where somebody looks
        self._error = error
        return

  def _judge(self, samples: Sequence[components_lib.Sample]) -> None:
    new = [sample for sample in dict.fromkeys(samples) if sample not in self._known]
    if new:
      self._known.update(zip(new, self._component(new), strict=True))
