"""Metrics of a server, in Prometheus's text format."""

from collections.abc import Callable

import prometheus_client

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000)


class Metrics:
  """Counters of one server; no other of the same process has a share in them."""

  def __init__(self, num_slots: int):
    self._registry = registry = prometheus_client.CollectorRegistry()
    count, times = prometheus_client.Counter, prometheus_client.Histogram
    self.requests = count('lwz_requests', 'Requests by status.', ['status'], registry=registry)
    self.tokens = count('lwz_tokens', 'Tokens written.', registry=registry)
    self.ended = count('lwz_choices', 'Choices by how they ended.', ['finish'], registry=registry)
    self.first_token = times(
      'lwz_first_token_seconds',
      'From the request to its first tokens.',
      buckets=_SECONDS,
      registry=registry,
    )
    self.seconds = times(
      'lwz_choice_seconds', 'From the request to the end.', buckets=_SECONDS, registry=registry
    )
    self.num_slots = num_slots

  def watch(self, waiting: Callable[[], float], active: Callable[[], float]) -> None:
    """Adds the gauges, which are read whenever somebody asks."""
    slots = prometheus_client.Gauge(
      'lwz_slots', 'Choices that can be written at a time.', registry=self._registry
    )
    slots.set(self.num_slots)
    for name, text, read in (
      ('lwz_waiting', 'Choices that wait for a slot.', waiting),
      ('lwz_active', 'Choices that are being written.', active),
    ):
      prometheus_client.Gauge(name, text, registry=self._registry).set_function(read)

  @property
  def mean_seconds(self) -> float:
    """Mean time of a choice that has ended, from its request on; 0 before there is one."""
    found = {s.name: s.value for metric in self._registry.collect() for s in metric.samples}
    number = found['lwz_choice_seconds_count']
    return found['lwz_choice_seconds_sum'] / number if number else 0.0

  def text(self) -> bytes:
    return prometheus_client.generate_latest(self._registry)
