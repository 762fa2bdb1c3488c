"""Writing with another model, behind any OpenAI-compatible endpoint.

    judge = endpoint.Endpoint('http://localhost:8000/v1', 'Qwen/QwQ-32B')
    asked = (Request([{'role': 'user', 'content': text}], {'temperature': 0.0}) for text in texts)
    for reply in write(judge, asked, cache='judge.sqlite'):
      ...  # in the order of arrival; reply.index says whose it is

A request that fails is a reply with a `fault`, to be masked and counted; the others go on.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from lwz.judge import http as http_lib
from lwz.judge import reply_cache

Endpoint = http_lib.Endpoint
post = http_lib.post

_CHARACTERS = 3  # per token, for the budget before the server has counted; on the safe side


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked: chat messages, or (a text) a prompt for a server's /completions.

  `sampling` goes into the payload as it is: temperature, top_p, max_tokens, stop, seed ... `sample`
  tells apart several answers to one question; it reaches the cache's key, not the server.
  """

  messages: Sequence[Mapping[str, Any]] | str
  sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  sample: int = 0


@dataclasses.dataclass(frozen=True)
class Reply:
  """An answer, or why there is none: then `fault` is not '' and `text` is."""

  index: int  # of the request
  text: str
  fault: str = ''
  tokens_in: int = 0
  tokens_out: int = 0
  finished: bool = True  # False where the server cut the text at its limit
  cached: bool = False
  tries: int = 0
  seconds: float = 0.0


@dataclasses.dataclass
class Usage:
  """What was asked so far, and what it cost, in the currency of the prices.

  Replies of the cache are counted, but cost nothing.
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
  progress: Callable[[Usage], None] | None = None,
) -> Generator[Reply]:
  """Replies to all requests, as they arrive.

  `requests` may be endless: at most twice `endpoint.concurrency` are taken ahead of the replies.
  Whoever stops reading and closes the iterator (`contextlib.closing`) cancels what is in flight.

  Args:
    endpoint: whom to ask.
    requests: what.
    cache: a SQLite file of earlier replies, keyed by url, model, messages, sampling and sample: a
      question in it is not asked again. Failures are not kept.
    progress: called after each reply.

  Raises:
    ValueError: the key is missing, or the cache is no cache. Never for a reply.
  """
  endpoint.read_key()
  usage = Usage()
  with _Desk(endpoint, cache) as desk:
    source = enumerate(requests)
    waiting, more = 0, True
    while more or waiting:
      while more and waiting < 2 * endpoint.concurrency:
        item = next(source, None)
        if item is None:
          more = False
        else:
          desk.send(*item)
          waiting += 1
      if waiting:
        reply = desk.receive()
        waiting -= 1
        usage.add(reply, endpoint.price_in, endpoint.price_out)
        if progress:
          progress(usage)
        yield reply


class _Desk:
  """A thread with an event loop, which asks while the caller does something else."""

  def __init__(self, endpoint: Endpoint, cache: str | os.PathLike | None):
    self._endpoint, self._path = endpoint, cache
    self._replies: queue.SimpleQueue = queue.SimpleQueue()
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
    # One lock per question: its second asker waits for the first, and finds the reply cached.
    self._locks: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

  def __enter__(self) -> '_Desk':
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
    self._slots = asyncio.Semaphore(self._endpoint.concurrency)
    self._cache = reply_cache.ReplyCache(self._path) if self._path is not None else None
    self._line = http_lib.Line(self._endpoint)

  async def _close(self) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await self._line.__aexit__()
    await asyncio.sleep(0)  # a closed transport goes with the next turn of the loop
    if self._cache:
      self._cache.close()

  def send(self, index: int, request: Request) -> None:
    future = self._run(self._answer(index, request))
    future.add_done_callback(self._replies.put)

  def receive(self) -> Reply:
    return self._replies.get().result()

  async def _answer(self, index: int, request: Request) -> Reply:
    began = time.monotonic()
    try:
      path, payload = _payload(self._endpoint.model, request)
      name = reply_cache.key([self._endpoint.url, path, payload, request.sample])
    except (TypeError, ValueError) as error:
      return Reply(index, '', f'request: {error}')
    lock = self._locks.setdefault(name, asyncio.Lock()) if self._cache else contextlib.nullcontext()
    async with lock:
      if self._cache and (found := self._cache.get(name)):
        return Reply(index, **found, cached=True)
      async with self._slots:
        reply = await self._ask(index, path, payload)
      if self._cache and not reply.fault:
        kept = ('text', 'tokens_in', 'tokens_out', 'finished')
        self._cache.put(name, {field: getattr(reply, field) for field in kept})
    return dataclasses.replace(reply, seconds=time.monotonic() - began)

  async def _ask(self, index: int, path: str, payload: dict[str, Any]) -> Reply:
    booked = _num_tokens(payload)
    try:
      found, tries = await self._line.ask(path, payload, _read, num_tokens=booked)
    except http_lib.Failed as failed:
      return Reply(index, '', failed.fault, tries=failed.tries)
    used = found['tokens_in'] + found['tokens_out']
    self._line.tokens.correct(used - booked if used else 0.0)
    return Reply(index, **found, tries=tries)


def _payload(model: str, request: Request) -> tuple[str, dict[str, Any]]:
  """Path and body of a request."""
  if isinstance(request.messages, str):
    return '/completions', {'model': model, 'prompt': request.messages, **request.sampling}
  messages = [dict(message) for message in request.messages]
  return '/chat/completions', {'model': model, 'messages': messages, **request.sampling}


def _num_tokens(payload: dict[str, Any]) -> float:
  """About how many tokens a payload will be read and answered with."""
  contents = [m.get('content') for m in payload.get('messages', [])] + [payload.get('prompt')]
  size = sum(len(text) for text in contents if isinstance(text, str))
  cap = payload.get('max_tokens', payload.get('max_completion_tokens', 0))
  return size / _CHARACTERS + (cap if isinstance(cap, int) else 0)


def _read(answer: Any) -> dict[str, Any]:
  """Text, tokens and end of an OpenAI-shaped answer; ValueError where it is none, or is empty."""
  try:
    choice = answer['choices'][0]
    text = choice['message']['content'] if 'message' in choice else choice['text']
  except (KeyError, IndexError, TypeError):
    error = answer.get('error') if isinstance(answer, dict) else None
    raise ValueError(f'the server says {error}' if error else 'no choices[0] with a text') from None
  if isinstance(text, list):  # content in parts
    parts = [part.get('text') for part in text if isinstance(part, dict)]
    text = ''.join(part for part in parts if isinstance(part, str))
  if not isinstance(text, str) or not text.strip():
    raise ValueError('an empty text')
  usage = answer.get('usage') or {}
  return {
    'text': text,
    'tokens_in': _count(usage, 'prompt_tokens'),
    'tokens_out': _count(usage, 'completion_tokens'),
    'finished': choice.get('finish_reason') != 'length',
  }


def _count(usage: Any, name: str) -> int:
  value = usage.get(name) if isinstance(usage, dict) else None
  return value if isinstance(value, int) and value >= 0 else 0
