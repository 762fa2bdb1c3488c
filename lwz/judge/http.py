"""JSON over HTTP with retries and budgets.

An answer may be streamed. A request is retried after a connection error, a timeout, a malformed or
truncated answer, and the status 408, 409, 425, 429 or 5xx. Waits double, with jitter, and
Retry-After is honoured. API keys are read from the environment, and never written to a file, log or
message.
"""

import asyncio
import dataclasses
import email.utils
import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from lwz.judge import rate_limit, sse

_AGAIN = frozenset({408, 409, 425, 429})  # and 5xx
_LONGEST_WAIT = 120.0  # seconds between two tries, even if the server asks for more
_MAX_BYTES = 64 << 20  # of one answer; a larger one is a fault
_TOO_LONG = re.compile(
  r'context[ _](?:length|window|size)|maximum context|too (?:long|many (?:input )?tokens|large)|'
  r'max(?:imum)?[ _](?:model|input|prompt)[ _]len|exceeds? .{0,40}tokens|reduce the length',
  re.I,
)
_SHOWN = 200  # characters of a server's error message
# Causes of failures, the first words of a fault; all others are 'other'.
CAUSES = (
  *('http', 'timeout', 'connection', 'deadline', 'garbage', 'request', 'unreadable', 'error'),
  *('budget', 'other'),
)


# Parameters of requests. A server that knows `max_completion_tokens` gets it for `max_tokens`.
SENDS = ('temperature', 'top_p', 'top_k', 'max_tokens', 'stop', 'seed')
RENAMED = {'max_completion_tokens': 'max_tokens'}


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """The address of a model's server, and the budgets for its requests.

  `Endpoint('http://localhost:8000/v1', 'Qwen/QwQ-32B', key_env='JUDGE_KEY', concurrency=64)`
  """

  url: str  # up to and with /v1: '/chat/completions' is added
  model: str = ''
  key_env: str = ''  # the environment variable that holds the API key; '' sends none
  concurrency: int = 16  # requests in flight
  requests_per_minute: int | float = math.inf
  tokens_per_minute: int | float = math.inf  # of requests and replies together
  timeout: int | float = 600.0  # seconds without data, after which a try has failed
  deadline: int | float = 7_200.0  # seconds of all tries together, waits for a budget apart
  sends: tuple[str, ...] = SENDS  # names of sampling parameters; others are left out
  stream: int = 4_096  # requests for at least so many tokens are streamed; 0: none
  tries: int = 6  # per request, the first included
  backoff: int | float = 1.0  # seconds before the second try; then twice as long each time
  price_in: int | float = 0.0  # per million tokens of requests
  price_out: int | float = 0.0  # per million tokens of replies

  def __post_init__(self):
    try:
      url = httpx2.URL(self.url)
    except (httpx2.InvalidURL, TypeError) as error:
      raise ValueError(f'url={self.url!r} is no address: {error}') from None
    if url.userinfo or url.query:
      raise ValueError('url: no password or query belongs there; name the variable as key_env')
    if url.scheme not in ('http', 'https') or not url.host:
      raise ValueError(f'url={self.url!r} should read http://host:port/v1')
    if unknown := sorted(set(self.sends) - {*SENDS, *RENAMED}):
      raise ValueError(
        f'sends: no parameter {unknown[0]!r}; choose from {", ".join([*SENDS, *RENAMED])}'
      )
    for name in ('concurrency', 'tries'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    for name in ('requests_per_minute', 'tokens_per_minute', 'timeout', 'deadline'):
      if not getattr(self, name) > 0:
        raise ValueError(f'{name}={getattr(self, name)} must be above 0')

  def read_key(self) -> str:
    """The API key, '' if no variable is named. Raises ValueError if the variable has no key."""
    if not self.key_env:
      return ''
    key = os.environ.get(self.key_env, '').strip()
    if not key or not key.isascii() or not key.isprintable() or ' ' in key:
      raise ValueError(f'the environment variable {self.key_env} holds no API key: export it')
    return key


class Failed(Exception):
  """A request without an answer after all its tries; the message is one line.

  `whole` is more of what the server has said; it may hold the API key, and is not for display.
  """

  def __init__(self, fault: str, tries: int, whole: str = ''):
    super().__init__(fault)
    self.fault, self.tries, self.whole = fault, tries, whole


def cause(fault: str) -> str:
  """Returns the one of `CAUSES` that a fault has."""
  found = re.split(r'\W', fault)[0]
  return found if found in CAUSES else 'other'


class NoAnswer(Exception):
  """The server has answered, and another try would bring no more; raised by `read` of `ask`."""


class _Fault(Exception):
  """The fault of one try, whether to retry, and the wait that the server asks for, in seconds."""

  def __init__(self, text: str, *, again: bool = True, wait: int | float = 0.0):
    super().__init__(text)
    self.again, self.wait = again, wait


class Connection:
  """A connection to an endpoint for one event loop: `async with Connection(endpoint) as it`."""

  def __init__(self, endpoint: Endpoint):
    self.endpoint = endpoint
    self._key = endpoint.read_key()
    self._requests = rate_limit.Pace(endpoint.requests_per_minute)
    self.tokens = rate_limit.Pace(endpoint.tokens_per_minute)
    self._client = httpx2.AsyncClient(
      verify=endpoint.url.startswith('https'),  # certificates take a while to load
      timeout=httpx2.Timeout(endpoint.timeout, connect=min(30.0, endpoint.timeout), pool=None),
      limits=httpx2.Limits(max_connections=endpoint.concurrency),
      headers={'Content-Type': 'application/json'}
      | ({'Authorization': f'Bearer {self._key}'} if self._key else {}),
    )

  async def __aenter__(self) -> 'Connection':
    return self

  async def __aexit__(self, *error) -> None:
    await self._client.aclose()

  async def ask(
    self, path: str, payload: Any, read: Callable[[Any], Any], *, num_tokens: int | float = 0.0
  ) -> tuple[Any, int]:
    """`read` of the JSON answer to a POST, and the number of tries.

    Args:
      path: appended to the endpoint's url.
      payload: a JSON value. It is sent as ASCII, so that half of a surrogate pair is allowed.
      read: raises ValueError if the answer is malformed; then the request is retried. Raises
        NoAnswer if it is none, and would not be another time.
      num_tokens: taken from the budget for every try.

    Raises:
      Failed: no answer after all tries.
    """
    body = json.dumps(payload, allow_nan=False).encode('ascii')
    left = float(self.endpoint.deadline)
    for attempt in range(1, self.endpoint.tries + 1):
      await self.tokens.take(num_tokens)
      await self._requests.take(1)
      began = time.monotonic()
      try:
        async with asyncio.timeout(left):
          return await self._once(path, body, read), attempt
      except TimeoutError:
        fault = f'deadline: no whole answer in {self.endpoint.deadline:g} seconds'
        raise Failed(fault, attempt) from None
      except _Fault as fault:
        text = str(fault)
        left -= time.monotonic() - began
        if not fault.again or attempt == self.endpoint.tries or left <= 0:
          raise Failed(self._clean(text), attempt, text) from None
        wait = self.endpoint.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
        if fault.wait:
          self._requests.hold(fault.wait)  # the server is busy, so other requests wait too
        await asyncio.sleep(min(_LONGEST_WAIT, max(wait, fault.wait)))
    raise AssertionError('unreachable')

  async def _once(self, path: str, body: bytes, read: Callable[[Any], Any]) -> Any:
    url = self.endpoint.url.rstrip('/') + path
    try:
      async with self._client.stream('POST', url, content=body) as response:
        data = bytearray()
        async for part in response.aiter_bytes():
          data += part
          if len(data) > _MAX_BYTES:
            raise _Fault(f'garbage: an answer of more than {_MAX_BYTES >> 20} MiB', again=False)
    except httpx2.TimeoutException as error:
      raise _Fault(f'timeout: {type(error).__name__}') from None
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
      raise _Fault(f'connection: {type(error).__name__}: {error}') from None
    status = response.status_code
    if status != 200:
      again = status in _AGAIN or status >= 500
      said = bytes(data[: 4 * _SHOWN]).decode(errors='replace').strip()
      wait = _retry_after(response.headers)
      too_long = status in (400, 413, 422) and _TOO_LONG.search(said)
      name = 'request too long' if too_long else f'http {status}'
      raise _Fault(f'{name}: {said}', again=again, wait=wait)
    try:
      whole = bytes(data)
      return read(sse.merge(whole) if sse.is_stream(whole) else json.loads(whole))
    except NoAnswer as none:
      raise _Fault(str(none), again=False) from None
    except (ValueError, RecursionError) as error:
      raise _Fault(f'garbage: {error}') from None

  def _clean(self, text: str) -> str:
    """The text as one short line, without the API key if the server has repeated it."""
    if self._key:
      text = text.replace(self._key, '***')
    return ' '.join(text.split())[:_SHOWN]


def _retry_after(headers: Mapping[str, str]) -> float:
  """The seconds in Retry-After-Ms, or in Retry-After, a number or a date; 0 if it is neither."""
  value, unit = headers.get('retry-after-ms', ''), 1_000.0
  if not re.fullmatch(r'\s*\d+(?:\.\d+)?\s*', value):
    value, unit = headers.get('retry-after', ''), 1.0
  try:
    seconds = float(value) / unit
  except ValueError:
    try:
      seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
      return 0.0
  return min(_LONGEST_WAIT, max(0.0, seconds)) if math.isfinite(seconds) else 0.0


def post(
  endpoint: Endpoint, payload: Any, read: Callable[[Any], Any] = lambda answer: answer
) -> Any:
  """`read` of the JSON answer of any endpoint to one JSON payload, with the same retries.

  A reward server: `post(Endpoint('http://host:9000/score'), {'pairs': [...]})['scores']`.

  Raises Failed if there is no answer after all tries: the caller masks its samples; ValueError if
  the API key is missing, or the payload is not JSON.
  """

  async def ask():
    async with Connection(endpoint) as connection:
      return (await connection.ask('', payload, read))[0]

  return asyncio.run(ask())
