"""Server-sent events: a streamed answer as the answer that is not streamed."""

import json
from collections.abc import Iterator
from typing import Any

_THOUGHTS = ('reasoning_content', 'reasoning')


def is_stream(data: bytes) -> bool:
  """Whether the body of an answer is a stream: no JSON begins like this."""
  return data.lstrip()[:6].startswith((b'data:', b'event:', b'id:', b'retry:', b':'))


def merge(data: bytes) -> dict[str, Any]:
  """Returns the answer whose parts are streamed; its text is null if no part has one.

  Raises ValueError if the stream breaks off, a part is no object, or the server sends an error.
  """
  message: dict[str, Any] = {'content': None}
  reason, usage, ended = None, None, False
  for event in _events(data):
    if event == '[DONE]':
      ended = True
      break
    part = json.loads(event)
    if not isinstance(part, dict) or part.get('error'):
      raise ValueError(f'the server says {part.get("error") if isinstance(part, dict) else part}')
    usage = part.get('usage') or usage
    choices = part.get('choices')
    for choice in choices if isinstance(choices, list) else ():
      if not isinstance(choice, dict) or choice.get('index', 0) != 0:
        continue
      delta = choice.get('delta') or choice.get('message') or {'content': choice.get('text')}
      if not isinstance(delta, dict):
        raise ValueError(f'a delta that is {type(delta).__name__}')
      for name in ('content', 'refusal', *_THOUGHTS):
        if (text := _text(delta.get(name))) is not None:
          message[name] = (message.get(name) or '') + text
      reason = choice.get('finish_reason') or reason
  if not ended and reason is None:
    raise ValueError('a stream that breaks off')
  return {'choices': [{'message': message, 'finish_reason': reason}], 'usage': usage}


def _text(value: Any) -> str | None:
  """The text of a field: itself, or that of its parts."""
  if isinstance(value, list):
    parts = [part.get('text') for part in value if isinstance(part, dict)]
    return ''.join(part for part in parts if isinstance(part, str))
  return value if isinstance(value, str) else None


def _events(data: bytes) -> Iterator[str]:
  """The data of each event; comments, which keep a connection alive, are skipped."""
  lines: list[str] = []
  text = data.decode(errors='replace').replace('\r\n', '\n').replace('\r', '\n')
  for line in [*text.split('\n'), '']:
    if line.startswith('data:'):
      lines.append(line.removeprefix('data:').removeprefix(' '))
    elif not line and lines:
      yield '\n'.join(lines)
      lines = []
