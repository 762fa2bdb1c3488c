"""An OpenAI-compatible server on loopback that does what a script says, faults included."""

import contextlib
import http.server
import json
import threading


class Server(http.server.ThreadingHTTPServer):
  """`behave(number, payload)` answers the n-th request (from 0): a text to reply with, a dict to
  send as it is, or a function of the handler that may do anything."""

  daemon_threads = True
  request_queue_size = 128

  def __init__(self, behave):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.behave, self.seen, self.lock = behave, [], threading.Lock()
    self.in_flight, self.most_in_flight = 0, 0

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_port}/v1'

  @property
  def payloads(self):
    return [payload for _, payload, _ in self.seen]

  def handle_error(self, request, client_address):
    """A client that hung up is part of the script."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def do_POST(self):
    server = self.server
    payload = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
    with server.lock:
      number = len(server.seen)
      server.seen.append((self.path, payload, dict(self.headers)))
      server.in_flight += 1
      server.most_in_flight = max(server.most_in_flight, server.in_flight)
    try:
      said = server.behave(number, payload)
      if callable(said):
        said(self)
      else:
        send(self, 200, completion(said) if isinstance(said, str) else said)
    finally:
      with server.lock:
        server.in_flight -= 1

  def log_message(self, *args):
    pass


def completion(text, finish_reason='stop'):
  """The answer of a server that took 10 tokens and wrote 5."""
  choice = {'index': 0, 'message': {'role': 'assistant', 'content': text}}
  return {
    'id': 'x',
    'object': 'chat.completion',
    'choices': [choice | {'finish_reason': finish_reason}],
    'usage': {'prompt_tokens': 10, 'completion_tokens': 5, 'total_tokens': 15},
  }


def send(handler, status, body, headers=()):
  data = body if isinstance(body, bytes) else json.dumps(body).encode()
  handler.send_response(status)
  for name, value in headers:
    handler.send_header(name, value)
  handler.send_header('Content-Length', str(len(data)))
  handler.end_headers()
  handler.wfile.write(data)


def status(code, body=b'{}', **headers):
  """A behaviour: an HTTP status with headers (`retry_after='1'`)."""
  named = [(name.replace('_', '-'), value) for name, value in headers.items()]
  return lambda handler: send(handler, code, body, named)


def hang_up(handler):
  """A behaviour: nothing at all."""
  handler.close_connection = True
  handler.connection.close()


def half(handler):
  """A behaviour: the first half of an answer, and then the connection ends."""
  data = json.dumps(completion('never whole')).encode()
  handler.send_response(200)
  handler.send_header('Content-Length', str(len(data)))
  handler.end_headers()
  handler.wfile.write(data[: len(data) // 2])
  handler.close_connection = True


@contextlib.contextmanager
def serve(behave):
  server = Server(behave)
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
