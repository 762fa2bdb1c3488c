"""The routes of the server.

    GET  /                     a page to write with
    POST /v1/chat/completions  messages to a reply, its thought apart
    POST /v1/completions       a raw text, or ids, to what follows
    GET  /v1/models            the one policy that is served, and its limits
    GET  /health               200 while it writes, 503 after
    GET  /metrics              for Prometheus

All but the page and /health ask for the API key, where there is one.
"""

import asyncio
import concurrent.futures
import contextlib
import math
import pathlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
from starlette import applications, concurrency, exceptions, requests, responses, routing

from lwz.serving import arrivals, guard, metrics, prompts, protocol, replies, writer

_RENDERERS = 4  # processes that render prompts at a time
_SILENCE = 15  # seconds after which a stream says that it is alive: gateways end silent ones
_PAGE = pathlib.Path(__file__).with_name('page.html')
# The page has its script and style inside, and talks to this server alone.
_PAGE_POLICY = (
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
  'img-src data:; '
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Newest:
  """The newest piece of each choice: it holds all that was written, so a slow reader loses none."""

  def __init__(self):
    self._pieces: dict[int, writer.Piece] = {}
    self._changed = asyncio.Event()

  def put_nowait(self, piece: writer.Piece) -> None:
    self._pieces[piece.choice] = piece
    self._changed.set()

  async def get(self) -> writer.Piece:
    while not self._pieces:
      self._changed.clear()
      await self._changed.wait()
    return self._pieces.pop(next(iter(self._pieces)))


class Server:
  """One policy behind HTTP. `facts` is what /v1/models says of it besides its name.

  `rank` gives the marks of several texts that answer a prompt, see `rl.best_of`; `rankers` is how
  many replies it may be asked about at a time.
  """

  def __init__(
    self,
    written_by: writer.Writer,
    limits: protocol.Limits,
    rendered_by: prompts.Prompts,
    measured: metrics.Metrics,
    *,
    spell: Callable[[int], str],
    rank: Callable[[Any, Sequence[str]], Sequence[float]] | None,
    facts: dict[str, Any],
    seed: int,
    key: str,
    max_body: int,
    rankers: int = 1,
  ):
    self._writer, self._limits, self._prompts = written_by, limits, rendered_by
    self._metrics, self._spell, self._facts = measured, spell, facts
    self._renderers = concurrent.futures.ThreadPoolExecutor(_RENDERERS)
    self._rank = rank
    self._turn = threading.Semaphore(rankers)
    self._seeds = np.random.default_rng(seed)
    self._key, self._max_body = key, max_body

  def close(self) -> None:
    """Drops the prompts that nobody has begun to render."""
    self._renderers.shutdown(wait=False, cancel_futures=True)

  def app(self) -> applications.Starlette:
    """Returns the ASGI application."""
    routes = [
      routing.Route('/', self._page),
      routing.Route('/health', self._health),
      routing.Route('/metrics', self._measures),
      routing.Route('/v1/models', self._models),
      routing.Route('/v1/models/{name:path}', self._models),
      routing.Route('/v1/chat/completions', self._chat, methods=['POST']),
      routing.Route('/v1/completions', self._completion, methods=['POST']),
    ]
    handlers = {
      protocol.Refused: self._refuse,
      exceptions.HTTPException: self._refuse_route,
      requests.ClientDisconnect: self._leave,
      Exception: self._fail,
    }
    return applications.Starlette(routes=routes, exception_handlers=handlers)

  async def _page(self, request) -> responses.Response:
    headers = {'content-security-policy': _PAGE_POLICY, 'x-content-type-options': 'nosniff'}
    return responses.HTMLResponse(_PAGE.read_text('utf-8'), headers=headers)

  async def _health(self, request) -> responses.Response:
    is_well = self._writer.error is None and not self._writer.is_closed
    status = 'ok' if is_well else 'stopping'
    return responses.JSONResponse({'status': status}, 200 if is_well else 503)

  async def _measures(self, request) -> responses.Response:
    guard.admit(request, self._key)
    return responses.Response(self._metrics.text(), headers={'content-type': metrics.CONTENT_TYPE})

  async def _models(self, request) -> responses.Response:
    guard.admit(request, self._key)
    model = {'id': self._limits.model, 'object': 'model', 'owned_by': 'lwz'} | self._facts
    name = request.path_params.get('name', '')
    if name and name != self._limits.model:
      raise protocol.Refused(404, f'there is no model {name[:80]!r} here', code='model_not_found')
    return responses.JSONResponse(model if name else {'object': 'list', 'data': [model]})

  async def _chat(self, request) -> responses.Response:
    return await self._reply(request, protocol.chat, chat=True)

  async def _completion(self, request) -> responses.Response:
    return await self._reply(request, protocol.completion, chat=False)

  async def _reply(self, request, read: Callable, *, chat: bool) -> responses.Response:
    guard.admit(request, self._key)
    body = await guard.body(request, self._max_body)
    asked = read(protocol.parse(body), self._limits)
    if not self._writer.has_room:  # before any work
      raise self._full()
    # Those that take seconds have threads of their own, so that they hold up no others.
    own = self._renderers if self._prompts.is_slow(asked.prompt) else None
    seed = int(self._seeds.integers(2**32)) if asked.seed is None else asked.seed
    begin = asyncio.get_running_loop().run_in_executor
    param = 'messages' if chat else 'prompt'
    ids, keys_B2 = await begin(own, self._prepared, asked, seed, param)
    events = _Newest()
    reply = self._submit(asked, ids, keys_B2, events)
    form = replies.Form(
      chat=chat,
      stream=asked.stream,
      model=self._limits.model,
      seed=seed,
      prompt_tokens=len(ids),
      logprobs=asked.logprobs,
      spell=self._spell,
    )
    gone = asyncio.create_task(self._cancel_if_gone(request, reply))
    if asked.stream:
      parts = self._stream(form, asked, reply, events, gone, chat=chat)
      self._metrics.requests.labels('200').inc()
      headers = {'cache-control': 'no-cache', 'x-accel-buffering': 'no'}
      return responses.StreamingResponse(parts, media_type='text/event-stream', headers=headers)
    with self._ending(reply, gone):
      pieces = [piece async for piece in _pieces(events, asked.choices) if piece and piece.finish]
      if any(piece.finish == writer.FAILED for piece in pieces):
        raise protocol.Refused(503, 'the server stopped before the reply was written')
      pieces.sort(key=lambda piece: piece.choice)
      marks = await self._marks(asked, reply, pieces) if asked.best else ()
    self._metrics.requests.labels('200').inc()
    whole = await concurrency.run_in_threadpool(form.whole, pieces, marks, asked.best)
    return responses.JSONResponse(whole)

  async def _marks(self, asked: protocol.Asked, reply: writer.Reply, pieces) -> Sequence[float]:
    """Returns the marks of all choices. Raises ClientDisconnect if nobody waits for them any more.

    The thread is its own and a daemon: neither other replies nor the end of the process wait for a
    reward server that hangs.
    """
    assert self._rank is not None  # else `protocol` has refused
    rank, texts = self._rank, [piece.text for piece in pieces]
    done: concurrent.futures.Future[Sequence[float]] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()  # a task that is cancelled leaves it alone

    def work() -> None:
      try:
        with self._turn:
          if reply.cancelled:
            raise requests.ClientDisconnect
          done.set_result(rank(asked.prompt, texts))
      except BaseException as error:
        done.set_exception(error)

    threading.Thread(target=work, name='ranker', daemon=True).start()
    return await asyncio.wrap_future(done)

  def _prepared(self, asked, seed: int, param: str) -> tuple[list[int], np.ndarray]:
    """Returns a prompt's ids and the keys of its choices. Raises Refused if it cannot be read."""
    limit = self._limits.max_prompt_tokens
    try:
      ids = self._prompts.ids(asked.prompt, limit)
    except ValueError as error:
      raise protocol.Refused(400, str(error), param=param) from None
    if not 1 <= len(ids) <= limit:
      message = f'the prompt has {len(ids)} tokens or more, outside 1 ... {limit}'
      raise protocol.Refused(400, message, param=param, code='context_length_exceeded')
    return ids, writer.keys(seed, asked.choices)

  def _submit(self, asked: protocol.Asked, ids, keys_B2, events: _Newest) -> writer.Reply:
    loop = asyncio.get_running_loop()

    def notify(piece: writer.Piece) -> None:
      with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody listens
        loop.call_soon_threadsafe(events.put_nowait, piece)

    try:
      return self._writer.submit(
        ids,
        keys_B2=keys_B2,
        max_tokens=asked.max_tokens,
        stops=asked.stops,
        notify=notify,
        streamed=asked.stream,
      )
    except arrivals.Full:
      raise self._full() from None
    except arrivals.Closed:
      raise protocol.Refused(503, 'the server is stopping', retry_after='10') from None

  def _full(self) -> protocol.Refused:
    seconds = min(60, max(1, math.ceil(self._writer.expected_wait())))
    message = f'too many requests wait for a slot; ask again in {seconds} s'
    return protocol.Refused(429, message, code='queue_full', retry_after=str(seconds))

  async def _stream(
    self, form: replies.Form, asked, reply, events, gone, *, chat: bool
  ) -> AsyncIterator[bytes]:
    with self._ending(reply, gone):
      for choice in range(asked.choices) if chat else ():
        yield form.opening(choice)
      ended = []
      async for piece in _pieces(events, asked.choices):
        if piece is None:
          yield replies.ALIVE
          continue
        if piece.finish == writer.FAILED:
          failed = protocol.Refused(503, 'the server stopped before the reply was written')
          yield replies.event(failed.body)
          return
        ended += [piece] if piece.finish else []
        if piece.finish and asked.logprobs:  # those of all tokens: long work
          yield await concurrency.run_in_threadpool(form.part, piece)
        elif part := form.part(piece):
          yield part
      if asked.usage:
        yield form.usage(ended)
      yield replies.DONE

  @contextlib.contextmanager
  def _ending(self, reply: writer.Reply, gone: asyncio.Task):
    """At the end, however it comes, nothing is written any more, and nobody watches the client."""
    try:
      yield
    finally:
      self._writer.cancel(reply)
      gone.cancel()

  async def _cancel_if_gone(self, request: requests.Request, reply: writer.Reply) -> None:
    while (await request.receive())['type'] != 'http.disconnect':
      pass
    self._writer.cancel(reply)

  async def _refuse(self, request, error) -> responses.Response:
    self._metrics.requests.labels(str(error.status)).inc()
    headers = {name.replace('_', '-'): value for name, value in error.headers.items()}
    return responses.JSONResponse(error.body, error.status, headers)

  async def _refuse_route(self, request, error) -> responses.Response:
    message = f'{request.method} {request.url.path[:80]}: {error.detail}'
    return await self._refuse(request, protocol.Refused(error.status_code, message))

  async def _leave(self, request, error) -> responses.Response:
    return responses.Response(status_code=499)  # nobody reads it

  async def _fail(self, request, error) -> responses.Response:
    return await self._refuse(request, protocol.Refused(500, 'a fault of the server; see its log'))


async def _pieces(events: _Newest, choices: int) -> AsyncIterator[writer.Piece | None]:
  """Yields pieces until all choices have ended; None where none has come for a while."""
  while choices:
    try:
      piece = await asyncio.wait_for(events.get(), _SILENCE)
    except TimeoutError:
      yield None
      continue
    choices -= bool(piece.finish)
    yield piece
