"""Admission of a request before it is read: its key, its origin, the size of its body."""

import asyncio
import hmac
import ipaddress
import re

from starlette import requests

from lwz.serving import protocol

_HOST = re.compile(r'(\[[^\]]*\]|[^:]*)(?::\d+)?')
_BODY_SECONDS = 60  # in which a body must have come


def is_loopback(host: str) -> bool:
  """Whether an address is this machine's own; a name is only if it is 'localhost'."""
  try:
    return ipaddress.ip_address(host.strip('[]')).is_loopback
  except ValueError:
    return host.lower() == 'localhost'


def admit(request: requests.Request, key: str) -> None:
  """Raises Refused for a wrong key, or, where there is none, for a name that is not our own.

  A page of a stranger could otherwise point a name of its own at this machine (DNS rebinding).
  """
  if key:
    kind, _, sent = request.headers.get('authorization', '').partition(' ')
    sent_bytes = sent.strip().encode('latin-1')  # as it came
    if kind.lower() != 'bearer' or not hmac.compare_digest(sent_bytes, key.encode()):
      message = 'wrong API key: send it as "Authorization: Bearer KEY"'
      raise protocol.Refused(401, message, code='invalid_api_key', www_authenticate='Bearer')
    return
  found = _HOST.fullmatch(request.headers.get('host', ''))
  if found is None or not is_loopback(found[1]):
    raise protocol.Refused(403, 'this server answers to 127.0.0.1 and localhost alone')


async def body(request: requests.Request, limit: int) -> bytes:
  """Returns the body. Raises Refused if it is no JSON by its name, too large or too slow.

  No page of another site can send JSON without asking first, which is not granted.
  """
  kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
  if kind != 'application/json':
    raise protocol.Refused(415, 'send JSON, with "Content-Type: application/json"')
  too_large = protocol.Refused(413, f'the body is larger than {limit:,} bytes')
  stated = request.headers.get('content-length', '0')
  if not stated.isdigit() or int(stated) > limit:
    raise too_large
  found = bytearray()
  try:
    async with asyncio.timeout(_BODY_SECONDS):
      async for part in request.stream():
        found += part
        if len(found) > limit:
          raise too_large
  except TimeoutError:
    raise protocol.Refused(408, f'the body did not come within {_BODY_SECONDS} s') from None
  return bytes(found)
