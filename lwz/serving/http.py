"""The HTTP server: uvicorn, which ends with what is being written, or cuts it by a deadline."""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator

import h11
import uvicorn
from starlette import responses
from uvicorn.protocols.http import h11_impl

from lwz.serving import guard, protocol, writer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 1_024
_MARGIN = 10  # seconds after the deadline in which a reply that was cut must have been sent
_REFUSED = protocol.Refused(503, 'too many connections are open: try again in a moment')
_HEADERS = {'retry-after': '10', 'connection': 'close'}
_HEAD_SECONDS = 20  # in which the head of a connection's next request must have come


def bind(host: str, port: int) -> socket.socket:
  """Returns a socket at the address; nobody is let in yet. Raises ValueError if it is not free."""
  found = None
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
  except OSError as error:
    if found is not None:
      found.close()
    raise _refusal(host, port, error) from None
  return found


def listen(bound: socket.socket) -> None:
  """Lets clients in. Raises ValueError if another server has taken the address meanwhile.

  Not each event loop that uvicorn may choose says so.
  """
  try:
    bound.listen(_BACKLOG)
  except OSError as error:
    host, port = bound.getsockname()[:2]
    raise _refusal(host, port, error) from None


def _refusal(host: str, port: int, error: OSError) -> ValueError:
  return ValueError(f'serve.host={host}, serve.port={port}: {error.strerror}; name another')


def url(bound: socket.socket) -> str:
  """Returns the address of a socket, as a browser takes it."""
  host, port = bound.getsockname()[:2]
  return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


class _Protocol(h11_impl.H11Protocol):
  """HTTP/1.1. What is none has an answer in the form of the API; uvicorn's own is plain text.

  Connections are counted, so one that asks for nothing is closed; uvicorn waits for the first
  request, and for one of which a byte has come, without end.
  """

  def connection_made(self, transport) -> None:
    super().connection_made(transport)
    self._expect_another_than(None)

  def on_response_complete(self) -> None:
    answered = self.cycle
    super().on_response_complete()  # another may have come with it
    self._expect_another_than(answered)

  def _expect_another_than(self, cycle: h11_impl.RequestResponseCycle | None) -> None:
    def close() -> None:
      if self.cycle is cycle:
        self.transport.close()

    self.loop.call_later(_HEAD_SECONDS, close)

  def send_400_response(self, msg: str) -> None:
    if self.cycle and not self.cycle.response_complete:  # it has this answer, and no other
      self.cycle.disconnected = True
      self.cycle.message_event.set()
    if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # it had one before its body
      self.transport.close()
      return
    body = json.dumps(protocol.Refused(400, msg).body).encode()
    headers = {'content-type': 'application/json', 'content-length': f'{len(body)}'}
    response = h11.Response(status_code=400, headers=[*headers.items(), ('connection', 'close')])
    for event in (response, h11.Data(data=body), h11.EndOfMessage()):
      self.transport.write(self.conn.send(event) or b'')
    self.transport.close()


class Http(uvicorn.Server):
  """Serves an application until a signal comes, or until the writer fails.

  Then no more requests are taken; what is begun is finished within `deadline` seconds, or cut. A
  second SIGINT ends it at once.
  """

  def __init__(self, app, written_by: writer.Writer, *, deadline: float, connections: int):
    full = responses.JSONResponse(_REFUSED.body, _REFUSED.status, _HEADERS)

    async def admitted(scope, receive, send) -> None:  # uvicorn's own limit answers in plain text
      is_full = len(self.server_state.connections) >= connections
      await (full if is_full else app)(scope, receive, send)

    settings = uvicorn.Config(
      admitted,
      http=_Protocol,
      log_config=None,  # its own would close the handlers that the process has
      log_level='warning',
      access_log=False,
      backlog=_BACKLOG,
      server_header=False,
      timeout_graceful_shutdown=round(deadline) + _MARGIN,
      lifespan='off',
      ws='none',
    )
    super().__init__(settings)
    self._writer, self._deadline = written_by, deadline
    written_by.on_error = self._stop

  def serve_at(self, bound: socket.socket) -> None:
    """Returns when everything has ended. Raises the error of the writer, if there was one."""
    try:
      self.run(sockets=[bound])
    finally:
      self._writer.close(0)
    self._writer.join(_MARGIN)
    if self._writer.error is not None:
      raise self._writer.error

  def _stop(self) -> None:
    self.should_exit = True

  async def shutdown(self, sockets=None) -> None:
    self._writer.close(self._deadline)
    await super().shutdown(sockets)

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    """As uvicorn's, but a signal that was heard is not raised once more: this is the normal end."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
      yield
      return
    before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


def check_address(host: str, key: str) -> None:
  """Raises ValueError for a server that others could reach, and nothing keeps them out."""
  if not key and not guard.is_loopback(host):
    raise ValueError(
      f'serve.host={host}: others can reach it; name the environment variable that holds an API '
      'key under serve.key_env, or keep to 127.0.0.1'
    )
