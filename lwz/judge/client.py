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

_CHARACTERS = 3  # per token, a low estimate for the budget before the server has counted


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
  progress: Callable[[Usage], None] | None = None,
) -> Generator[Reply]:
  """Replies to all requests, as they arrive.

  `requests` may be infinite: at most twice `endpoint.concurrency` are taken ahead of the replies.
  Closing the iterator (`contextlib.closing`) cancels the requests in flight. `cache` is a SQLite
  file of earlier replies, keyed by url, model, messages, sampling and sample; a request in it is
  not sent again, and failures are not kept. `progress` is called after each reply.

  Raises ValueError if the API key is missing, or the file is not a cache; never for a reply.
  """
  endpoint.read_key()
  usage = Usage()
  with _Session(endpoint, cache) as session:
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
        reply = session.receive()
        waiting -= 1
        usage.add(reply, endpoint.price_in, endpoint.price_out)
        if progress:
          progress(usage)
        yield reply


class _Session:
  """A thread with an event loop, which sends requests while the caller does other work."""

  def __init__(self, endpoint: Endpoint, cache: str | os.PathLike | None):
    self._endpoint, self._path = endpoint, cache
    self._replies: queue.SimpleQueue = queue.SimpleQueue()
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
    # One lock per request: an equal one waits for the first, and finds its reply in the cache.
    self._locks: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

  def __enter__(self) -> '_Session':
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

  def send(self, index: int, request: Request) -> None:
    future = self._run(self._answer(index, request))
    future.add_done_callback(self._replies.put)

  def receive(self) -> Reply:
    return self._replies.get().result()

  async def _answer(self, index: int, request: Request) -> Reply:
    began = time.monotonic()
    try:
      path, payload = _payload(self._endpoint, request)
      name = reply_cache.key([self._endpoint.url, path, payload, request.sample])
    except (TypeError, ValueError) as error:
      return Reply(index, '', f'request: {error}')
    lock = self._locks.setdefault(name, asyncio.Lock()) if self._cache else contextlib.nullcontext()
    async with lock:
      if self._cache and (found := self._cache.get(name)):
        return Reply(index, **found, cached=True)
      async with self._in_flight:
        reply = await self._ask(index, path, payload)
      if self._cache and not reply.fault:
        kept = ('text', 'tokens_in', 'tokens_out', 'finished')
        self._cache.put(name, {field: getattr(reply, field) for field in kept})
    return dataclasses.replace(reply, seconds=time.monotonic() - began)

  async def _ask(self, index: int, path: str, payload: dict[str, Any]) -> Reply:
    booked = _num_tokens(payload)
    try:
      found, tries = await self._connection.ask(path, payload, _read, num_tokens=booked)
    except http_lib.Failed as failed:
      return Reply(index, '', failed.fault, tries=failed.tries)
    used = found['tokens_in'] + found['tokens_out']
    self._connection.tokens.correct(used - booked if used else 0.0)
    return Reply(index, **found, tries=tries)


def _payload(endpoint: Endpoint, request: Request) -> tuple[str, dict[str, Any]]:
  """The path and body of a request."""
  names = {name: http_lib.RENAMED.get(name, name) for name in endpoint.sends}
  given = request.sampling
  sampling = {name: given[source] for name, source in names.items() if source in given}
  if isinstance(request.messages, str):
    return '/completions', {'model': endpoint.model, 'prompt': request.messages, **sampling}
  messages = [dict(message) for message in request.messages]
  return '/chat/completions', {'model': endpoint.model, 'messages': messages, **sampling}


def _num_tokens(payload: dict[str, Any]) -> float:
  """An estimate of the tokens of a request and its reply."""
  contents = [m.get('content') for m in payload.get('messages', [])] + [payload.get('prompt')]
  size = sum(len(text) for text in contents if isinstance(text, str))
  cap = payload.get('max_tokens', payload.get('max_completion_tokens', 0))
  return size / _CHARACTERS + (cap if isinstance(cap, int) else 0)


def _read(answer: Any) -> dict[str, Any]:
  """The fields of a `Reply` in a server's answer.

  An empty text that the model has ended itself is an answer. Null, nothing but thoughts when the
  tokens ran out, and what the server withholds or calls an error, are none.

  Raises:
    ValueError: it is malformed.
    NoAnswer: there is none, and another try would bring none.
  """
  try:
    choice = answer['choices'][0]
    said = choice['message'] if 'message' in choice else {'content': choice['text']}
    text, reason = said['content'], choice.get('finish_reason')
  except (KeyError, IndexError, TypeError):
    error = answer.get('error') if isinstance(answer, dict) else None
    raise ValueError(f'the server says {error}' if error else 'no choices[0] with a text') from None
  if isinstance(text, list):  # content in parts
    parts = [part.get('text') for part in text if isinstance(part, dict)]
    text = ''.join(part for part in parts if isinstance(part, str))
  if reason == 'error':
    raise ValueError('finish_reason is error')
  if not isinstance(text, str) or not text.strip():
    if said.get('refusal') or reason == 'content_filter':
      raise http_lib.NoAnswer(f'withheld: {said.get("refusal") or reason}')
    if said.get('reasoning_content') or said.get('reasoning'):
      raise http_lib.NoAnswer(f'nothing but reasoning: finish_reason {reason}; raise max_tokens')
    if reason == 'length':
      raise http_lib.NoAnswer('nothing at the limit: finish_reason length; raise max_tokens')
    if not isinstance(text, str):
      raise ValueError(f'content is {"null" if text is None else type(text).__name__}')
    if reason != 'stop':
      raise ValueError(f'an empty text, finish_reason {reason}')
  usage = answer.get('usage') or {}
  return {
    'text': text,
    'tokens_in': _count(usage, 'prompt_tokens'),
    'tokens_out': _count(usage, 'completion_tokens'),
    'finished': reason != 'length',
  }


def _count(usage: Any, name: str) -> int:
  value = usage.get(name) if isinstance(usage, dict) else None
  return value if isinstance(value, int) and value >= 0 else 0
