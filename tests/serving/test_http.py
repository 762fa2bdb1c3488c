"""The server on a real socket: the official client, clients that leave, and its end."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import httpx2
import pytest

pytest.importorskip('uvicorn')
from lwz.serving import http, prompts, writer
from tests import tree
from tests.serving import served, test_app


def until(condition):
  end = time.monotonic() + 10
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.002)


@contextlib.contextmanager
def listening(*, deadline=10, connections=200, **settings):
  """Yields the server's address, the server, and its typist."""
  with served.server(**settings) as (app, written_by, clerk):
    bound = http.bind('127.0.0.1', 0)
    server = http.Http(app, written_by, deadline=deadline, connections=connections)
    thread = threading.Thread(target=server.serve_at, args=[bound])
    thread.start()
    try:
      until(lambda: server.started)
      yield http.url(bound), server, clerk
    finally:
      clerk.gate.set()
      server.should_exit = True
      thread.join(20)
      assert not thread.is_alive()


class Gate:
  """Lets blocks through, one for each `step`; at the end, all of them."""

  def __init__(self):
    self._blocks = threading.Semaphore(0)
    self._open = False

  def wait(self):
    if not self._open:
      self._blocks.acquire()

  def step(self):
    self._blocks.release()

  def set(self):
    self._open = True
    self._blocks.release(100)


def test_the_official_client_reads_what_is_written():
  openai = pytest.importorskip('openai')
  with listening(key='sesame') as (url, *_):
    client = openai.OpenAI(base_url=f'{url}/v1', api_key='sesame', max_retries=0)
    asked = {'model': served.MODEL, 'messages': test_app.ASKED['messages'], 'seed': 5}
    assert [model.id for model in client.models.list()] == [served.MODEL]
    whole = client.chat.completions.create(**asked, n=2, logprobs=True)
    message = whole.choices[1].message
    assert (message.reasoning_content, message.content) == test_app.parts(test_app.expected(1))
    assert whole.usage.completion_tokens == sum(len(c.logprobs.content) for c in whole.choices)
    stream = client.chat.completions.create(
      **asked, stream=True, stream_options={'include_usage': True}
    )
    *parts, last = list(stream)
    text = ''.join(part.choices[0].delta.content or '' for part in parts)
    assert text == whole.choices[0].message.content and last.usage.prompt_tokens > 0
    assert parts[-1].choices[0].finish_reason == 'stop'
    raw = client.completions.create(model=served.MODEL, prompt='the sea', max_tokens=5)
    assert raw.choices[0].finish_reason == 'length'
    with pytest.raises(openai.BadRequestError, match=r'temperature=0\.8'):
      client.chat.completions.create(**asked, temperature=0.1)
    with pytest.raises(openai.NotFoundError):
      client.chat.completions.create(**asked | {'model': 'gpt'})
    with pytest.raises(openai.AuthenticationError):
      openai.OpenAI(base_url=f'{url}/v1', api_key='no', max_retries=0).models.list()


def test_many_clients_at_once_get_what_each_gets_alone():
  with listening(num_slots=4) as (url, *_), httpx2.Client(timeout=30) as client:

    def ask(seed):
      body = test_app.ASKED | {'seed': seed, 'max_tokens': 20 + seed}
      return client.post(f'{url}/v1/chat/completions', json=body).json()['choices']

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
      together = list(pool.map(ask, range(32)))
    assert together == [ask(seed) for seed in range(32)]


def connected(url, body):
  """Returns the socket of a client that has sent a chat."""
  host, port = url.removeprefix('http://').split(':')
  body = json.dumps(body).encode()
  lines = [
    'POST /v1/chat/completions HTTP/1.1',
    'Host: localhost',
    'Content-Type: application/json',
    f'Content-Length: {len(body)}',
  ]
  client = socket.create_connection((host, int(port)))
  client.sendall('\r\n'.join(lines).encode() + b'\r\n\r\n' + body)
  return client


def kill(client):
  client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
  client.close()


@pytest.mark.parametrize('stream', [True, False])
def test_a_client_that_leaves_frees_its_slot_within_one_block(stream):
  gate = Gate()
  with listening(num_slots=1, gate=gate, write=lambda *a: [9] * 399 + [0]) as (url, server, clerk):
    client = connected(url, test_app.ASKED | {'stream': stream})
    gate.step()
    until(lambda: len(clerk.blocks) == 1)
    writer = server._writer
    (choice,) = writer._pending.values()
    kill(client)
    until(lambda: choice.reply.cancelled)
    gate.step()
    until(lambda: not writer._pending)
    assert len(clerk.blocks) == 2


def num_rankers():
  return sum(thread.name == 'ranker' for thread in threading.enumerate())


def test_for_a_client_that_left_nothing_is_ranked(monkeypatch):
  ranked, end, replies = [], threading.Event(), []

  def rank(prompt, texts):
    ranked.append(prompt)
    assert end.wait(20)
    return [0.5] * len(texts)

  submit = writer.Writer.submit
  monkeypatch.setattr(
    writer.Writer, 'submit', lambda *a, **k: replies.append(submit(*a, **k)) or replies[-1]
  )
  body = test_app.ASKED | {'best_of': 2}
  with listening(rank=rank) as (url, *_), concurrent.futures.ThreadPoolExecutor(1) as pool:
    try:
      first = pool.submit(httpx2.post, f'{url}/v1/chat/completions', json=body, timeout=30)
      until(lambda: ranked)
      client = connected(url, body)
      until(lambda: num_rankers() == 2)  # all is written, and it waits for its turn
      assert not replies[1].cancelled
      kill(client)
      until(lambda: replies[1].cancelled)
    finally:
      end.set()
    assert first.result().json()['choices'][0]['reward'] == 0.5
    until(lambda: not num_rankers())
  assert len(ranked) == 1


def test_a_reward_server_that_hangs_holds_no_other_reply():
  both = threading.Barrier(2)

  def rank(prompt, texts):
    both.wait(20)
    return [0.5] * len(texts)

  body = test_app.ASKED | {'best_of': 2}
  with (
    listening(rank=rank, rankers=2) as (url, *_),
    concurrent.futures.ThreadPoolExecutor(2) as pool,
  ):
    asked = [
      pool.submit(httpx2.post, f'{url}/v1/chat/completions', json=body, timeout=30)
      for _ in range(2)
    ]
    assert [one.result().status_code for one in asked] == [200, 200]


MALFORMED = {
  'no request': b'hello\r\n\r\n',
  'no header': b'GET /health HTTP/1.1\r\nHost: localhost\r\nbroken\r\n\r\n',
  'no length': b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n',
  'no version': b'GET /health HTTP/x\r\nHost: localhost\r\n\r\n',
  'no host': b'GET /health HTTP/1.1\r\n\r\n',
  'no end of headers': b'GET /health HTTP/1.1\r\nX: ' + b'x' * 65_536,
}


def test_what_is_no_http_is_refused_in_the_form_of_the_api():
  with listening() as (url, *_):
    host, port = url.removeprefix('http://').split(':')
    for name, sent in MALFORMED.items():
      with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(sent)
        parts = iter(lambda: client.recv(65_536), b'')
        head, _, body = b''.join(parts).partition(b'\r\n\r\n')
      assert head.startswith(b'HTTP/1.1 400 ') and b'application/json' in head, name
      assert json.loads(body)['error']['type'] == 'invalid_request_error'
    assert httpx2.get(f'{url}/health').status_code == 200


REFUSED = (
  b'POST /v1/completions HTTP/1.1\r\nHost: evil\r\nContent-Type: application/json\r\n'
  b'Transfer-Encoding: chunked\r\n\r\n'
)


@pytest.mark.parametrize('at_once', [True, False])
def test_a_broken_body_of_a_refused_request_is_no_fault_of_the_server(at_once, caplog):
  broken = b'no length of a chunk\r\n'
  with listening() as (url, *_):
    host, port = url.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=10) as client:
      client.sendall(REFUSED + broken * at_once)
      answer = client.recv(65_536)
      if not at_once:
        client.sendall(broken)
      while part := client.recv(65_536):
        answer += part
    assert answer.count(b'HTTP/1.1 4') == 1 and b'{"error"' in answer
  assert not [one for one in caplog.records if one.levelname == 'ERROR']


def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch):
  monkeypatch.setattr(http, '_HEAD_SECONDS', 1)
  gate = Gate()
  whole = b'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n'
  with listening(gate=gate) as (url, server, _), contextlib.ExitStack() as stack:
    host, port = url.removeprefix('http://').split(':')
    waiting = stack.enter_context(connected(url, test_app.ASKED))
    for sent in (b'', whole[:9], whole + whole[:1]):
      client = stack.enter_context(socket.create_connection((host, int(port)), timeout=9))
      client.sendall(sent)
      while client.recv(65_536):
        pass
    assert server._writer.num_active  # one that waits for its reply is none of them
    gate.set()
    assert waiting.recv(65_536).startswith(b'HTTP/1.1 200')


def test_prompts_that_are_slow_to_render_hold_up_no_others(monkeypatch):
  gate, rendering, most = threading.Event(), [], []
  ids = prompts.Prompts.ids

  def slow_ids(self, prompt, *limit):
    if prompt == 'slow':
      rendering.append(1)
      most.append(len(rendering))
      assert gate.wait(20)
      rendering.pop()
    return ids(self, prompt, *limit)

  monkeypatch.setattr(prompts.Prompts, 'ids', slow_ids)
  monkeypatch.setattr(prompts.Prompts, 'is_slow', lambda self, prompt: prompt == 'slow')
  with (
    listening() as (url, *_),
    concurrent.futures.ThreadPoolExecutor(50) as pool,
    httpx2.Client(timeout=30, limits=httpx2.Limits(max_connections=60)) as client,
  ):

    def ask(prompt):
      body = {'prompt': prompt, 'max_tokens': 3}
      return client.post(f'{url}/v1/completions', json=body).status_code

    try:
      asked = [pool.submit(ask, 'slow') for _ in range(49)]
      until(lambda: len(rendering) == 4)
      assert ask('the sea') == 200
    finally:
      gate.set()
    assert {one.result() for one in asked} == {200} and max(most) == 4


def test_one_connection_too_many_is_told_so_in_the_form_of_the_api():
  with listening(connections=2) as (url, server, _):
    host, port = url.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=10):
      until(lambda: len(server.server_state.connections) == 1)
      answer = httpx2.post(f'{url}/v1/chat/completions', json=test_app.ASKED)
      assert (answer.status_code, answer.headers['retry-after']) == (503, '10')
      assert answer.json()['error']['message'].startswith('too many connections')
    until(lambda: not server.server_state.connections)
    assert httpx2.post(f'{url}/v1/chat/completions', json=test_app.ASKED).status_code == 200


def test_the_end_waits_for_what_is_written_and_takes_nothing_new():
  gate = Gate()
  with listening(gate=gate) as (url, server, _), concurrent.futures.ThreadPoolExecutor(1) as pool:
    found = pool.submit(httpx2.post, f'{url}/v1/chat/completions', json=test_app.ASKED)
    until(lambda: server._writer.num_active)
    server.should_exit = True
    until(lambda: server._writer.is_closed)
    with pytest.raises(httpx2.ConnectError):
      httpx2.get(f'{url}/health')
    gate.set()
    body = found.result().json()
  assert body['choices'][0]['finish_reason'] == 'stop'


def test_at_the_deadline_a_stream_ends_in_order():
  gate = Gate()
  streamed = test_app.ASKED | {'stream': True}
  with (
    listening(gate=gate, deadline=0) as (url, server, clerk),
    httpx2.stream('POST', f'{url}/v1/chat/completions', json=streamed, timeout=30) as answer,
  ):
    gate.step()
    until(lambda: len(clerk.blocks) == 1)
    server.should_exit = True
    until(lambda: server._writer.is_closed)
    gate.step()
    answer.read()
  found = test_app.events(answer)
  assert found[-1]['choices'][0]['finish_reason'] == 'length' and len(clerk.blocks) == 2


def test_a_fault_of_the_engine_ends_the_server():
  with served.server() as (app, written_by, clerk):
    bound = http.bind('127.0.0.1', 0)
    server = http.Http(app, written_by, deadline=5, connections=20)
    clerk.fault = ValueError('request 0: the logits of token 3 are not finite')
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      ended = pool.submit(server.serve_at, bound)
      until(lambda: server.started)
      answer = httpx2.post(f'{http.url(bound)}/v1/chat/completions', json=test_app.ASKED)
      assert answer.status_code == 503
      with pytest.raises(ValueError, match='not finite'):
        ended.result(20)


SERVE = """
  from lwz.serving import http
  from tests.serving import served
  with served.server() as (app, written_by, clerk):
    bound = http.bind('127.0.0.1', 0)
    print(http.url(bound), flush=True)
    http.Http(app, written_by, deadline=5, connections=20).serve_at(bound)
  print('ended')
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_the_normal_end(number):
  environment = os.environ | {'PYTHONPATH': str(tree.ROOT), 'JAX_PLATFORMS': 'cpu'}
  process = subprocess.Popen(
    [sys.executable, '-c', textwrap.dedent(SERVE)],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
  )
  url = process.stdout.readline().strip()

  def is_answered():
    with contextlib.suppress(httpx2.ConnectError):  # it may not listen yet
      return httpx2.post(f'{url}/v1/chat/completions', json=test_app.ASKED, timeout=30).is_success

  until(is_answered)
  process.send_signal(number)
  assert process.communicate(timeout=30)[0] == 'ended\n' and process.returncode == 0


HANGS = """
  import threading
  from lwz.serving import http
  from tests.serving import served

  def rank(prompt, texts):
    print('ranks', flush=True)
    threading.Event().wait()

  http._MARGIN = 1
  with served.server(rank=rank) as (app, written_by, clerk):
    bound = http.bind('127.0.0.1', 0)
    print(http.url(bound), flush=True)
    http.Http(app, written_by, deadline=0, connections=20).serve_at(bound)
  print('ended')
"""


def test_a_reward_server_that_hangs_does_not_hold_the_end():
  with subprocess.Popen(
    [sys.executable, '-c', textwrap.dedent(HANGS)],
    env=os.environ | {'PYTHONPATH': str(tree.ROOT), 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      url = process.stdout.readline().strip()

      def client():
        with contextlib.suppress(ConnectionRefusedError):  # it may not listen yet
          return connected(url, test_app.ASKED | {'best_of': 2})

      clients = []
      until(lambda: clients.append(client()) or clients[-1])
      assert process.stdout.readline() == 'ranks\n'
      process.send_signal(signal.SIGTERM)
      assert process.communicate(timeout=20)[0] == 'ended\n' and process.returncode == 0
      clients[-1].close()
    finally:
      process.kill()


def test_an_address_is_free_or_refused():
  taken = http.bind('127.0.0.1', 0)
  taken.listen()
  with pytest.raises(ValueError, match=r'serve\.port=.*: Address already in use; name another'):
    http.bind('127.0.0.1', taken.getsockname()[1])
  with pytest.raises(ValueError, match=r'serve\.host=nowhere\.invalid'):
    http.bind('nowhere.invalid', 0)
  taken.close()


def test_of_two_that_load_at_once_one_is_let_go():
  first = http.bind('127.0.0.1', 0)
  second = http.bind('127.0.0.1', first.getsockname()[1])
  http.listen(first)
  with pytest.raises(ValueError, match=r'serve\.port=\d+: Address already in use; name another'):
    http.listen(second)
  http.listen(first)  # as uvicorn does once more
  first.close()
  second.close()


def test_what_others_can_reach_has_a_key():
  for host in ('127.0.0.1', '::1', 'localhost', '127.8.8.8'):
    http.check_address(host, '')
  for host in ('0.0.0.0', '::', '192.168.0.2', 'example.org', ''):
    with pytest.raises(ValueError, match=r'serve\.host=.*serve\.key_env'):
      http.check_address(host, '')
    http.check_address(host, 'sesame')
