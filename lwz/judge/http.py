"""A server that takes JSON and gives JSON, and how much patience it is met with.

A request is tried again where another try may help: no connection, a timeout, a broken or half
answer, 408, 409, 425, 429 and 5xx. Waits double, with jitter, and Retry-After is honoured. Keys are
read from the environment when a request leaves, and stand in no file, log or message.
"""

import asyncio
import dataclasses
import email.utils
import json
import math
import os
import random
import time
from collections.abc import Callable
from typing import Any

import httpx2

from lwz.judge import rate_limit

_AGAIN = frozenset({408, 409, 425, 429})  # and 5xx
_LONGEST_WAIT = 120.0  # seconds between two tries, whatever the server asks for
_MAX_BYTES = 64 << 20  # of one answer; more is no answer
_SHOWN = 200  # characters of a server's complaint


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where a model answers, and within which budgets.

  `Endpoint('http://localhost:8000/v1', 'Qwen/QwQ-32B', key_env='JUDGE_KEY', concurrency=64)`
  """

  url: str  # up to and with /v1: '/chat/completions' is added
  model: str = ''
  key_env: str = ''  # the environment variable that holds the API key; '' sends none
  concurrency: int = 16  # requests in flight
  requests_per_minute: int | float = math.inf
  tokens_per_minute: int | float = math.inf  # read and written together
  timeout: int | float = 600.0  # seconds without a byte, after which a try has failed
  tries: int = 6  # per request, the first included
  backoff: int | float = 1.0  # seconds before the second try; then twice as long each time
  price_in: int | float = 0.0  # per million tokens read
  price_out: int | float = 0.0  # per million tokens written

  def __post_init__(self):
    try:
      url = httpx2.URL(self.url)
    except (httpx2.InvalidURL, TypeError) as error:
      raise ValueError(f'url={self.url!r} is no address: {error}') from None
    if url.userinfo or url.query:
      raise ValueError('url: no password or query belongs there; name the variable as key_env')
    if url.scheme not in ('http', 'https') or not url.host:
      raise ValueError(f'url={self.url!r} should read http://host:port/v1')
    for name in ('concurrency', 'tries'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    for name in ('requests_per_minute', 'tokens_per_minute', 'timeout'):
      if not getattr(self, name) > 0:
        raise ValueError(f'{name}={getattr(self, name)} must be above 0')

  def read_key(self) -> str:
    """The API key, '' where none is named. Raises ValueError where the variable has none."""
    if not self.key_env:
      return ''
    key = os.environ.get(self.key_env, '').strip()
    if not key or not key.isascii() or not key.isprintable() or ' ' in key:
      raise ValueError(f'the environment variable {self.key_env} holds no API key: export it')
    return key


class Failed(Exception):
  """A request that got no answer within its tries; the message says why, in a line."""

  def __init__(self, fault: str, tries: int):
    super().__init__(fault)
    self.fault, self.tries = fault, tries


class _Fault(Exception):
  """What was wrong with one try, whether another may help, and the seconds asked for."""

  def __init__(self, text: str, *, again: bool = True, wait: int | float = 0.0):
    super().__init__(text)
    self.again, self.wait = again, wait


class Line:
  """An open line to an endpoint, used from one event loop: `async with Line(endpoint) as line`."""

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

  async def __aenter__(self) -> 'Line':
    return self

  async def __aexit__(self, *error) -> None:
    await self._client.aclose()

  async def ask(
    self, path: str, payload: Any, read: Callable[[Any], Any], *, num_tokens: int | float = 0.0
  ) -> tuple[Any, int]:
    """`read` of the JSON answer to a POST, and how many tries it took.

    Args:
      path: added to the endpoint's url.
      payload: what JSON can hold. It travels as ASCII, so that half a character is no obstacle.
      read: raises ValueError where the answer is not what was asked for; that is tried again.
      num_tokens: booked in the budget for every try.

    Raises:
      Failed: no answer.
    """
    body = json.dumps(payload, allow_nan=False).encode('ascii')
    for attempt in range(1, self.endpoint.tries + 1):
      await self.tokens.take(num_tokens)
      await self._requests.take(1)
      try:
        return await self._once(path, body, read), attempt
      except _Fault as fault:
        text = str(fault)
        if not fault.again or attempt == self.endpoint.tries:
          raise Failed(self._clean(text), attempt) from None
        wait = self.endpoint.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
        if fault.wait:
          self._requests.hold(fault.wait)  # it is the server that is busy, not this request
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
      wait = _retry_after(response.headers.get('retry-after', ''))
      raise _Fault(f'http {status}: {said}', again=again, wait=wait)
    try:
      return read(json.loads(bytes(data)))
    except (ValueError, RecursionError) as error:
      raise _Fault(f'garbage: {error}') from None

  def _clean(self, text: str) -> str:
    """One short line without the key, should the server have repeated it."""
    if self._key:
      text = text.replace(self._key, '***')
    return ' '.join(text.split())[:_SHOWN]


def _retry_after(value: str) -> float:
  """Seconds, of a number or a date; 0 where there is neither."""
  try:
    seconds = float(value)
  except ValueError:
    try:
      seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
      return 0.0
  return min(_LONGEST_WAIT, max(0.0, seconds)) if math.isfinite(seconds) else 0.0


def post(endpoint: Endpoint, payload: Any, path: str = '') -> Any:
  """The JSON answer of any endpoint to one JSON payload, with the same patience.

  A reward server: `post(Endpoint('http://host:9000/score'), {'pairs': [...]})['scores']`.

  Raises:
    Failed: no answer within the tries. Let the caller mask its samples.
    ValueError: the key is missing, or the payload is no JSON.
  """

  async def ask():
    async with Line(endpoint) as line:
      return (await line.ask(path, payload, lambda answer: answer))[0]

  return asyncio.run(ask())
