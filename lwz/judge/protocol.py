"""The protocol of OpenAI-compatible endpoints: bodies of requests, answers, and complaints."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lwz.judge import http as http_lib

_UNKNOWN = re.compile(
  r'unsupported|(?:not|n.t) (?:\w+ )?(?:supported|permitted|allowed|known)|unknown|unrecogni[sz]ed|'
  r'unexpected|invalid (?:parameter|argument)|extra (?:inputs?|fields?)|instead',
  re.I,
)
_FIXED = frozenset({'model', 'messages', 'prompt'})
# Left out for a server that does not know them; max_tokens is renamed.
ADAPTED = frozenset({'stream_options', 'stream', 'top_k', 'max_tokens'})
_CUT = ('length', 'max_tokens', 'model_length')  # a finish_reason at the limit of tokens
_ENDED = ('stop', 'eos', 'eos_token', 'end_turn', 'stop_sequence')  # by the model itself
_CHARACTERS = 3  # per token, a low estimate for the budget before the server has counted


def payload(
  endpoint: http_lib.Endpoint,
  messages: Sequence[Mapping[str, Any]] | str,
  given: Mapping[str, Any],
) -> tuple[str, dict[str, Any]]:
  """The path and body of a request, without the sampling parameters that are not to be sent."""
  names = {name: http_lib.RENAMED.get(name, name) for name in endpoint.sends}
  sampling = {
    name: given[source] for name, source in names.items() if given.get(source) is not None
  }
  if isinstance(messages, str):
    return '/completions', {'model': endpoint.model, 'prompt': messages, **sampling}
  chat = [dict(message) for message in messages]
  return '/chat/completions', {'model': endpoint.model, 'messages': chat, **sampling}


def known(body: dict[str, Any], refused: Collection[str]) -> dict[str, Any]:
  """The body for a server that does not know the `refused` parameters."""
  gone = {*refused, 'stream_options'} if 'stream' in refused else refused
  found = {name: value for name, value in body.items() if name not in gone}
  if 'max_tokens' in refused and 'max_tokens' in body:
    found['max_completion_tokens'] = body['max_tokens']
  return found


def num_tokens(body: dict[str, Any]) -> float:
  """An estimate of the tokens of a request and its reply."""
  contents = [m.get('content') for m in body.get('messages', [])] + [body.get('prompt')]
  size = sum(len(text) for text in contents if isinstance(text, str))
  return size / _CHARACTERS + limit(body)


def limit(body: Mapping[str, Any]) -> int:
  """The largest number of tokens of the reply; 0 if the request states none."""
  cap = body.get('max_tokens', body.get('max_completion_tokens', 0))
  return cap if isinstance(cap, int) else 0


def refused(failed: http_lib.Failed, sent: Mapping[str, Any]) -> set[str]:
  """The parameters of a request that the server says it does not know.

  `max_tokens` is among them only where the server asks for `max_completion_tokens`.
  """
  if not re.match('http 4(?:00|22)', failed.fault) or not _UNKNOWN.search(failed.whole):
    return set()
  names = set(re.findall(r'\b[a-z]+(?:_[a-z]+)*\b', failed.whole)) & (sent.keys() - _FIXED)
  return names if 'max_completion_tokens' in failed.whole else names - {'max_tokens'}


def read(answer: Any) -> dict[str, Any]:
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
    text, reason = said.get('content'), choice.get('finish_reason')  # null, or left out
  except (AttributeError, KeyError, IndexError, TypeError):
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
    if reason in _CUT:
      raise http_lib.NoAnswer(f'nothing at the limit: finish_reason {reason}; raise max_tokens')
    if not isinstance(text, str):
      raise ValueError(f'content is {"null" if text is None else type(text).__name__}')
    if reason not in _ENDED:
      raise ValueError(f'an empty text, finish_reason {reason}')
  usage = answer.get('usage') or {}
  return {
    'text': text,
    'tokens_in': _count(usage, 'prompt_tokens'),
    'tokens_out': _count(usage, 'completion_tokens'),
    'finished': reason not in _CUT,
  }


def _count(usage: Any, name: str) -> int:
  value = usage.get(name) if isinstance(usage, dict) else None
  return value if isinstance(value, int) and 0 <= value < 2**40 else 0
