"""The protocol of OpenAI's API: bodies of requests, checked, and errors in its form.

What a policy cannot do, or was not trained on, is refused in a sentence, never dropped.
"""

import dataclasses
import json
import re
from typing import Any, Literal

import pydantic

# Also one that never ends, so that the search of a hostile body stays linear.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb'[\[\]{}]')
_MAX_DEPTH = 32
_MAX_STOPS = 4  # as many as OpenAI allows
_TYPES = {401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error'}


class Refused(Exception):
  """A request that is answered with an error: a status from 400 on, and a sentence."""

  def __init__(self, status: int, message: str, *, param: str = '', code: str = '', **headers: str):
    super().__init__(message)
    self.status, self.headers = status, headers
    kind = _TYPES.get(status, 'invalid_request_error' if status < 500 else 'server_error')
    error = {'message': message, 'type': kind, 'param': param or None, 'code': code or None}
    self.body = {'error': error}


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of one request, and how all of them are sampled."""

  model: str
  temperature: float
  top_p: float
  top_k: int
  max_tokens: int
  max_prompt_tokens: int
  max_choices: int
  max_messages: int
  ranks: bool = False  # whether there is a reward model, so that `best_of` is served


class _Part(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(extra='forbid', strict=True)
  type: Literal['text']
  text: str


class _Message(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(extra='forbid', strict=True)
  role: Literal['system', 'developer', 'user', 'assistant']
  content: str | list[_Part]
  name: str | None = None
  # Of a reply that a client sends back. Thoughts of earlier turns are no part of a prompt.
  reasoning_content: str | None = None
  refusal: None = None
  annotations: Any = None
  tool_calls: None = None
  audio: None = None
  function_call: None = None


class _Stream(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(extra='forbid', strict=True)
  include_usage: bool = False
  include_obfuscation: bool = False


class _Body(pydantic.BaseModel):
  """The fields of both endpoints. Labels of OpenAI's service change nothing, and may be sent."""

  model_config = pydantic.ConfigDict(extra='forbid', strict=True)
  model: str | None = None
  n: int | None = pydantic.Field(None, ge=1)
  best_of: int | None = pydantic.Field(None, ge=1)
  seed: int | None = pydantic.Field(None, ge=0, lt=2**32)
  stop: str | list[str] | None = None
  stream: bool | None = None
  stream_options: _Stream | None = None
  max_tokens: int | None = pydantic.Field(None, ge=1)
  temperature: float | None = None
  top_p: float | None = None
  top_k: int | None = None
  presence_penalty: float | None = None
  frequency_penalty: float | None = None
  logit_bias: dict[str, float] | None = None
  user: str | None = None


class _Completion(_Body):
  prompt: str | list[str] | list[int]
  logprobs: int | None = None
  echo: bool | None = None
  suffix: str | None = None


class _Chat(_Body):
  messages: list[_Message]
  logprobs: bool | None = None
  top_logprobs: int | None = None
  max_completion_tokens: int | None = pydantic.Field(None, ge=1)
  response_format: dict[str, Any] | None = None
  tools: list[Any] | None = None
  tool_choice: Any = None
  parallel_tool_calls: bool | None = None
  metadata: dict[str, Any] | None = None
  store: bool | None = None
  service_tier: str | None = None
  safety_identifier: str | None = None
  prompt_cache_key: str | None = None


@dataclasses.dataclass(frozen=True)
class Asked:
  """A request in our own terms. `prompt` is messages (role, text), a raw text, or its ids."""

  prompt: tuple[tuple[str, str], ...] | str | tuple[int, ...]
  choices: int
  seed: int | None
  stops: tuple[str, ...]
  max_tokens: int
  logprobs: bool
  stream: bool
  usage: bool  # as the last part of a stream
  best: int = 0  # number of the best choices that are returned, ranked; 0: all, as they come


def parse(body: bytes) -> Any:
  """Returns the JSON of a body. Raises Refused if it is none, or too deep."""
  depth = deepest = 0
  for bracket in _BRACKET.findall(_STRING.sub(b'', body)):
    depth += 1 if bracket in b'[{' else -1
    deepest = max(deepest, depth)
  if deepest > _MAX_DEPTH:
    raise Refused(400, f'the body is nested deeper than {_MAX_DEPTH} levels')
  try:
    found = json.loads(body.decode(), parse_constant=_no_number)
    json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no character
  except (ValueError, RecursionError) as error:
    raise Refused(400, f'the body is no JSON in UTF-8: {error}'[:200]) from None
  return found


def chat(body: Any, limits: Limits) -> Asked:
  """Returns what a body of /v1/chat/completions asks for. Raises Refused."""
  given = _validated(_Chat, body)
  if not 1 <= len(given.messages) <= limits.max_messages:
    raise Refused(
      400, f'messages: send 1 to {limits.max_messages}, not {len(given.messages)}', param='messages'
    )
  if given.max_tokens is not None and given.max_completion_tokens is not None:
    raise Refused(400, 'send max_completion_tokens or max_tokens, not both', param='max_tokens')
  _only(given, 'response_format', (None, {'type': 'text'}), 'this policy writes plain text')
  _only(given, 'tools', (None, []), 'this policy calls no tools')
  _only(given, 'tool_choice', (None, 'none', 'auto'), 'this policy calls no tools')
  _only(given, 'top_logprobs', (None, 0), 'log-probabilities are those of the sampled tokens alone')
  messages = []
  for message in given.messages:
    content = message.content
    text = content if isinstance(content, str) else ''.join(part.text for part in content)
    messages.append(('system' if message.role == 'developer' else message.role, text))
  most = given.max_completion_tokens or given.max_tokens
  return _asked(given, tuple(messages), most, bool(given.logprobs), limits)


def completion(body: Any, limits: Limits) -> Asked:
  """Returns what a body of /v1/completions asks for. Raises Refused."""
  given = _validated(_Completion, body)
  _only(given, 'echo', (None, False), 'the prompt is not repeated')
  _only(given, 'suffix', (None, ''), 'this policy writes on, it fills no gap')
  _only(given, 'logprobs', (None, 0), 'log-probabilities are those of the sampled tokens alone')
  prompt: Any = given.prompt
  if isinstance(prompt, list):
    if len(prompt) == 1 and isinstance(prompt[0], str):
      prompt = prompt[0]
    elif any(isinstance(one, str) for one in prompt):
      raise Refused(400, f'prompt: send one text, not {len(prompt)}', param='prompt')
    else:
      prompt = tuple(prompt)
  return _asked(given, prompt, given.max_tokens, given.logprobs is not None, limits)


def _asked(given, prompt, max_tokens: int | None, logprobs: bool, limits: Limits) -> Asked:
  if given.model is not None and given.model != limits.model:
    raise Refused(
      404,
      f'there is no model {given.model[:80]!r} here; this server has {limits.model!r}',
      param='model',
      code='model_not_found',
    )
  for name in ('temperature', 'top_p', 'top_k'):
    served = getattr(limits, name)
    _only(given, name, (None, served), f'this server samples all replies with {name}={served:g}')
  for name in ('presence_penalty', 'frequency_penalty'):
    _only(given, name, (None, 0), 'this server samples without penalties')
  _only(given, 'logit_bias', (None, {}), 'this server samples without biases')
  choices, best = _choices(given, limits)
  most = max_tokens or limits.max_tokens
  if most > limits.max_tokens:
    raise Refused(
      400,
      f'max_tokens={most}: this server writes at most {limits.max_tokens} tokens',
      param='max_tokens',
    )
  stops = [given.stop] if isinstance(given.stop, str) else given.stop or []
  if len(stops) > _MAX_STOPS or not all(0 < len(stop) <= 256 for stop in stops):
    raise Refused(
      400, f'stop: send at most {_MAX_STOPS} texts of 1 to 256 characters', param='stop'
    )
  if given.stream_options is not None and not given.stream:
    raise Refused(400, 'stream_options: send them with stream=true', param='stream_options')
  usage = given.stream_options is not None and given.stream_options.include_usage
  stream = bool(given.stream)
  return Asked(prompt, choices, given.seed, tuple(stops), most, logprobs, stream, usage, best)


def _choices(given, limits: Limits) -> tuple[int, int]:
  """Returns the number of choices that are written, and of the best that are returned, or 0."""
  n, best_of = given.n or 1, given.best_of or 0
  for name, number in (('n', n), ('best_of', best_of)):
    if number > limits.max_choices:
      message = f'{name}={number}: ask for at most {limits.max_choices} choices'
      raise Refused(400, message, param=name)
  if 0 < best_of < n:
    message = f'best_of={best_of}: of so many there are no n={n} best'
    raise Refused(400, message, param='best_of')
  is_ranked = limits.ranks and not given.stream
  if best_of <= 1 or (best_of == n and not is_ranked):  # all are returned: nothing is to be chosen
    return n, 0
  if not limits.ranks:
    message = 'best_of: this server has no reward model to rank by; it is started with reward.model'
    raise Refused(400, message, param='best_of', code='value_not_served')
  _only(given, 'stream', (None, False), 'choices are ranked once all are written: no best_of')
  return best_of, n


def _validated(model: type[_Body], body: Any) -> Any:
  try:
    return model.model_validate(body)
  except pydantic.ValidationError as error:
    # Of alternatives, the one that came nearest; their names ('str', 'list[str]') say nothing.
    errors = error.errors(include_url=False, include_input=False)
    first = max(errors, key=lambda one: len(one['loc']))
    where = [name for name in map(str, first['loc']) if re.fullmatch(r'(?!str$)\w{1,40}', name)]
    told = 'send an object' if first['type'] == 'model_type' else first['msg']
    message = f'{".".join(where) or "the body"}: {told}'
    raise Refused(400, message[:300], param=where[0] if where else '') from None


def _only(given, name: str, allowed: tuple, reason: str) -> None:
  value = getattr(given, name)
  if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
    raise Refused(400, f'{name}: {reason}', param=name, code='value_not_served')


def _no_number(name: str):
  raise ValueError(f'{name} is no number of JSON')
