"""A client of OpenAI-compatible endpoints.

    judge = client.Endpoint('http://localhost:8000/v1', 'Qwen/QwQ-32B')
    chats = ([{'role': 'user', 'content': text}] for text in texts)
    asked = (client.Request(chat, {'temperature': 0.0}) for chat in chats)
    for reply in client.write(judge, asked, cache='judge.sqlite'):
      ...  # in the order of arrival; reply.index is the request's

A failed request becomes a reply with a `fault`, to be masked and counted.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from absl import logging

from lwz.judge import http as http_lib
from lwz.judge import protocol, reply_cache

Endpoint = http_lib.Endpoint


@dataclasses.dataclass(frozen=True)
class Request:
  """A request: chat messages for /chat/completions, or a text for /completions.

  `sampling` is part of the payload: temperature, top_p, max_tokens, stop, seed ... `sample`
  distinguishes several replies to one request; it is part of the cache's key, not sent.
  """

  messages: Sequence[Mapping[str, Any]] | str
  sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  sample: int = 0


@dataclasses.dataclass(frozen=True)
class Reply:
  """A reply: `text`, or '' and the reason in `fault`."""

  index: int  # of the request
  text: str
  fault: str = ''
  tokens_in: int = 0
  tokens_out: int = 0
  finished: bool = True  # False if the text was truncated at max_tokens
  cached: bool = False
  tries: int = 0
  seconds: float = 0.0


@dataclasses.dataclass
class Usage:
  """Counts of replies and tokens, and the cost, in the currency of the prices.

  Cached replies are counted, but cost nothing.
  """

  replies: int = 0
  cached: int = 0
  failed: int = 0
  retries: int = 0
  tokens_in: int = 0
  tokens_out: int = 0
  cost: float = 0.0
  faults: dict[str, int] = dataclasses.field(default_factory=dict)

  def add(self, reply: Reply, price_in: int | float, price_out: int | float) -> None:
    """Counts a reply; prices are per million tokens."""
    self.replies += 1
    self.cached += reply.cached
    self.failed += bool(reply.fault)
    self.retries += max(0, reply.tries - 1)
    if reply.fault:
      kind = reply.fault.split(':')[0]
      self.faults[kind] = self.faults.get(kind, 0) + 1
    if not reply.cached:
      self.tokens_in += reply.tokens_in
      self.tokens_out += reply.tokens_out
      self.cost += (reply.tokens_in * price_in + reply.tokens_out * price_out) / 1e6


def write(
  endpoint: Endpoint,
  requests: Iterable[Request],
  *,
  cache: str | os.PathLike | None = None,
) -> Generator[Reply]:
  """Replies to all requests, as they arrive.

  `requests` may be infinite: at most twice `endpoint.concurrency` are taken ahead of the replies.
  Closing the iterator (`contextlib.closing`) cancels the requests in flight. `cache` is a SQLite
  file of earlier replies, keyed by url, model, messages, sampling and sample; a request in it is
  not sent again, and failures are not kept.

  Raises ValueError if the API key is missing, or the file is not a cache; never for a reply.
  """
  endpoint.read_key()
  with Session(endpoint, cache) as session:
    source = enumerate(requests)
    waiting, more = 0, True
    while more or waiting:
      while more and waiting < 2 * endpoint.concurrency:
        item = next(source, None)
        if item is None:
          more = False
        else:
          session.send(*item)
          waiting += 1
      if waiting:
        waiting -= 1
        yield session.receive()


class Session:
  """A thread with an event loop, which sends requests while the callers do other work.

  `submit` may be called by several threads: they share the budgets of the endpoint. Once the
  replies have cost `allowance`, nothing more is sent, and what waits has the fault 'budget'.
  """

  def __init__(
    self,
    endpoint: Endpoint,
    cache: str | os.PathLike | None,
    allowance: Callable[[], float] = lambda: math.inf,
  ):
    self._endpoint, self._path = endpoint, cache
    self._allowance, self._usage = allowance, Usage()
    self._replies: queue.SimpleQueue = queue.SimpleQueue()
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
    # One lock per request: an equal one waits for the first, and finds its reply in the cache.
    self._locks: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
    self._refused: set[str] = set()  # parameters that the server does not know

  def __enter__(self) -> 'Session':
    self._thread.start()
    try:
      self._run(self._open()).result()
    except BaseException:
      self._stop()
      raise
    return self

  def __exit__(self, *error) -> None:
    self._run(self._close()).result()
    self._stop()

  def _run(self, coroutine) -> concurrent.futures.Future:
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

  def _stop(self) -> None:
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._thread.join()
    self._loop.close()

  async def _open(self) -> None:
    self._in_flight = asyncio.Semaphore(self._endpoint.concurrency)
    self._cache = reply_cache.ReplyCache(self._path) if self._path is not None else None
    self._connection = http_lib.Connection(self._endpoint)

  async def _close(self) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await self._connection.__aexit__()
    await asyncio.sleep(0)  # a closed transport is released in the next turn of the loop
    if self._cache:
      self._cache.close()

  def submit(self, request: Request, index: int = 0) -> concurrent.futures.Future:
    """Sends a request; the result of the future is its `Reply`."""
    return self._run(self._answer(index, request))

  def send(self, index: int, request: Request) -> None:
    self.submit(request, index).add_done_callback(self._replies.put)

  def receive(self) -> Reply:
    return self._replies.get().result()

  async def _answer(self, index: int, request: Request) -> Reply:
    began = time.monotonic()
    try:
      path, payload = protocol.payload(self._endpoint, request.messages, request.sampling)
      name = reply_cache.key([self._endpoint.url, path, payload, request.sample])
    except (TypeError, ValueError) as error:
      return Reply(index, '', f'request: {error}')
    lock = self._locks.setdefault(name, asyncio.Lock()) if self._cache else contextlib.nullcontext()
    async with lock:
      if self._cache and (found := self._cache.get(name)):
        return Reply(index, **found, cached=True)
      async with self._in_flight:
        if self._usage.cost >= self._allowance():
          return Reply(index, '', 'budget: not sent, as earlier replies have cost what is allowed')
        reply = await self._ask(index, path, payload)
        self._usage.add(reply, self._endpoint.price_in, self._endpoint.price_out)
      if self._cache and not reply.fault:
        kept = ('text', 'tokens_in', 'tokens_out', 'finished')
        self._cache.put(name, {field: getattr(reply, field) for field in kept})
    return dataclasses.replace(reply, seconds=time.monotonic() - began)

  async def _ask(self, index: int, path: str, payload: dict[str, Any]) -> Reply:
    booked = protocol.num_tokens(payload)
    if 0 < self._endpoint.stream <= protocol.limit(payload):
      payload = payload | {'stream': True, 'stream_options': {'include_usage': True}}
    while True:
      sent = protocol.known(payload, self._refused)
      try:
        found, tries = await self._connection.ask(path, sent, protocol.read, num_tokens=booked)
      except http_lib.Failed as failed:
        refused = protocol.refused(failed, sent)
        if new := (refused & protocol.ADAPTED) - self._refused:
          logging.warning('%s does not know %s', self._endpoint.url, ', '.join(sorted(new)))
          self._refused |= new
        if protocol.known(payload, self._refused) != sent:
          continue
        remedy = f'; leave {min(refused)} out: judge.sends or eval.sends' if refused else ''
        return Reply(index, '', failed.fault + remedy, tries=failed.tries)
      used = found['tokens_in'] + found['tokens_out']
      self._connection.tokens.correct(used - booked if used else 0.0)
      return Reply(index, **found, tries=tries)
