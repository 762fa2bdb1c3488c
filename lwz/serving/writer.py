"""The thread that writes: it drives the scheduler, to which replies come and from which they go.

writer = Writer(engine, params, ...); writer.start()
reply = writer.submit(ids, ..., notify=...)   # from any thread; `notify` is told of what is written
writer.cancel(reply)                          # its slots are free within one block
writer.close(deadline=30)                     # what is begun is finished, or cut after 30 seconds
"""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from lwz import types
from lwz.rollout import sampler, scheduler, stops
from lwz.serving import arrivals, metrics
from lwz.serving import text as text_lib

Result = TypeVar('Result')
FAILED = 'failed'  # the `finish` of a choice of which nothing was written
_KEPT = (types.ANSWER_CLOSE,)  # stop strings that are part of a text


@dataclasses.dataclass(frozen=True)
class Piece:
  """The text of one choice of a reply, so far."""

  choice: int
  text: str
  finish: str = ''  # '' while it is being written, then 'stop', 'length' or `FAILED`
  ids: np.ndarray | None = None  # at its end
  logp: np.ndarray | None = None


@dataclasses.dataclass(eq=False)
class Reply:
  """A request and its choices; `notify` is called on the writer's thread, and must not block.

  What is `streamed` is told of after each block, what is not at the end of each choice alone.
  """

  prompt: np.ndarray
  keys_B2: np.ndarray  # of its choices, see `keys`
  max_tokens: int
  stops: tuple[str, ...]
  notify: Callable[[Piece], None]
  streamed: bool = True
  began: float = dataclasses.field(default_factory=time.monotonic)
  cancelled: bool = False


def keys(seed: int, choices: int) -> np.ndarray:
  """Returns the keys [choices, 2] of a reply's choices.

  They are computed on a device, after what it has begun: by a thread that may wait for a block.
  """
  zeros, numbers = jnp.zeros(choices, jnp.int32), jnp.arange(choices)
  return np.asarray(sampler.trajectory_keys(seed, 0, zeros, numbers))


@dataclasses.dataclass(eq=False)
class _Choice:
  reply: Reply
  number: int
  growing: text_lib.Growing
  matcher: stops.Matcher | None
  num_tokens: int = 0
  cut: bool = False


class Writer:
  """One engine, and the replies that it writes.

  A choice has the tokens that its seed and its number determine, whatever else is written:
  choice 0 of a seed is what `lwz.generate` writes with it.
  """

  def __init__(
    self,
    engine: scheduler.Engine,
    params,
    *,
    decode: Callable[[Iterable[int]], str],
    stops: Sequence[str],
    min_tokens: int,
    limit: int,
    measured: metrics.Metrics,
  ):
    self._engine, self._params, self._decode = engine, params, decode
    self._own_stops, self._min_tokens = tuple(stops), min_tokens
    self._measured = measured
    self._lock = threading.Lock()
    self._pending: dict[int, _Choice] = {}  # by the index of their request
    self._next = 0
    self._cut_at = float('inf')
    self._queue = arrivals.Arrivals(limit, self._request, self._is_dropped, self._notify)
    self._unsent: list[tuple[_Choice, np.ndarray]] = []  # by the last block
    self._thread = threading.Thread(target=self._run, name='writer', daemon=True)
    self._has_ended = False
    self.error: BaseException | None = None  # that ended the thread
    self.on_error: Callable[[], None] = lambda: None
    measured.watch(lambda: self._queue.num_waiting, lambda: self.num_active)

  @property
  def num_active(self) -> int:
    """Number of choices that are being written."""
    return max(0, len(self._pending) - self._queue.num_waiting)

  @property
  def is_closed(self) -> bool:
    """Whether no more replies are taken."""
    return self._queue.is_closed

  @property
  def has_room(self) -> bool:
    """Whether another choice may wait."""
    return self._queue.num_waiting < self._queue.limit

  def expected_wait(self) -> float:
    """Returns the seconds until a choice that comes now begins, by the mean of those before."""
    return self._measured.mean_seconds * (1 + self._queue.num_waiting) / self._measured.num_slots

  def start(self) -> None:
    self._thread.start()

  def submit(
    self,
    prompt: Sequence[int],
    *,
    keys_B2: np.ndarray,
    max_tokens: int,
    stops: tuple[str, ...],
    notify: Callable[[Piece], None],
    streamed: bool = True,
  ) -> Reply:
    """Queues a reply of as many choices as keys. Raises `arrivals.Full` or `arrivals.Closed`."""
    ids = np.array(prompt, np.int32)
    reply = Reply(ids, keys_B2, max_tokens, stops, notify, streamed)
    with self._lock:
      if self.error is not None:
        raise arrivals.Closed
      indices = range(self._next, self._next + len(keys_B2))
      made = {i: self._choice(reply, number) for number, i in enumerate(indices)}
      self._pending |= made  # before the thread meets one of them
      try:
        self._queue.put(indices)
      except (arrivals.Full, arrivals.Closed):
        for i in indices:
          del self._pending[i]
        raise
      self._next += len(keys_B2)
    return reply

  def cancel(self, reply: Reply) -> None:
    """Ends a reply of which nobody wants to know more; its slots are free within one block."""
    reply.cancelled = True

  def between_blocks(self, job: Callable[[], Result]) -> Result:
    """Returns what a job gives that uses the devices: done by the thread that writes.

    Programs with collectives from two threads may wait for each other's devices for ever.
    """
    done: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def do() -> None:
      try:
        done.set_result(job())
      except BaseException as error:
        done.set_exception(error)

    with self._lock:
      has_ended = self._has_ended
      if not has_ended:
        self._queue.call(do)
    if has_ended:
      do()
    return done.result()

  def close(self, deadline: float) -> None:
    """Takes no more replies; those that are not written within `deadline` seconds are cut."""
    self._cut_at = min(self._cut_at, time.monotonic() + deadline)
    self._queue.close()

  def join(self, seconds: float) -> bool:
    """Waits for the thread's end; returns whether it has ended."""
    self._thread.join(seconds)
    return not self._thread.is_alive()

  def _choice(self, reply: Reply, number: int) -> _Choice:
    strings = (*self._own_stops, *reply.stops)
    matcher = stops.Matcher(self._decode, strings) if strings else None
    return _Choice(reply, number, text_lib.Growing(self._decode), matcher)

  def _run(self) -> None:
    try:
      written = scheduler.run(self._engine, self._params, self._queue, stop_rule=self._after_block)
      for trajectory in written:
        self._end(trajectory)
    except BaseException as error:
      self.error = error
    with self._lock:
      self._queue.close()
      self._has_ended = True
      left, self._pending = self._pending, {}
    self._queue.do_jobs()
    for choice in left.values():
      choice.reply.notify(Piece(choice.number, '', FAILED))
    if self.error is not None:
      self.on_error()

  def _request(self, index: int) -> scheduler.Request:
    """Returns the scheduler's request of a choice; called as a slot becomes free."""
    choice = self._pending[index]
    reply = choice.reply
    least = min(self._min_tokens, reply.max_tokens)
    key = reply.keys_B2[choice.number]
    return scheduler.Request(reply.prompt, key, reply.max_tokens, least)

  def _is_dropped(self, index: int) -> bool:
    """Whether a waiting choice is not to be written; if so, its reply is told."""
    choice = self._pending[index]
    if not (choice.reply.cancelled or self._is_late()):
      return False
    del self._pending[index]
    choice.reply.notify(Piece(choice.number, '', FAILED))
    return True

  def _is_late(self) -> bool:
    return time.monotonic() > self._cut_at

  def _after_block(self, index: int, ids: np.ndarray) -> int | None:
    """The stop rule: keeps what is new for `_notify`, and ends what nobody waits for."""
    choice = self._pending[index]
    if not choice.num_tokens:
      self._measured.first_token.observe(time.monotonic() - choice.reply.began)
    self._measured.tokens.inc(len(ids) - choice.num_tokens)
    choice.num_tokens = len(ids)
    if choice.reply.cancelled or self._is_late():
      choice.cut = True
      return len(ids)
    keep = choice.matcher(0, ids) if choice.matcher else None
    if keep is None and choice.reply.streamed:
      self._unsent.append((choice, ids))
    return keep

  def _notify(self) -> None:
    """Tells replies of what the last block wrote; called when the next one has been started.

    A text is shown without an end that may become a stop string.
    """
    unsent, self._unsent = self._unsent, []
    for choice, ids in unsent:
      strings = (*self._own_stops, *choice.reply.stops)
      shown = text_lib.whole(choice.growing.feed(ids), strings)
      choice.reply.notify(Piece(choice.number, shown))

  def _end(self, done: scheduler.Trajectory) -> None:
    choice = self._pending.pop(done.index)
    reply = choice.reply
    written = choice.growing.feed(done.ids, last=True)
    kept = [stop for stop in _KEPT if stop not in reply.stops]
    strings = (*self._own_stops, *reply.stops)
    finish = 'stop' if done.finished and not choice.cut else 'length'
    self._measured.ended.labels('cancelled' if reply.cancelled else finish).inc()
    self._measured.seconds.observe(time.monotonic() - reply.began)
    shown = stops.cut(written, strings, kept)
    reply.notify(Piece(choice.number, shown, finish, done.ids, done.logp))
