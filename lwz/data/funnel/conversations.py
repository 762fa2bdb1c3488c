"""Rows of conversation data sets: the first request of each, its language and its flags."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from etils import epath

from lwz import jsonl
from lwz.data import prompts
from lwz.data.funnel import transcripts

# Fields of a request in known data sets: a list of turns, or a text.
TURNS = (
  *('conversation', 'messages', 'conversations', 'conversation_a', 'items', 'turns', 'dialog'),
  *('dialogue', 'data', 'prompt', 'chosen', 'chat', 'contents', 'input'),
)
TEXTS = (
  *('prompt', 'query', 'question', 'instruction', 'text', 'inputs', 'input', 'chosen'),
  *('request', 'chat'),
)
BODIES = ('body', 'params', 'request')  # of requests to a server
ADDED = ('input', 'context')  # to an instruction
USERS = ('user', 'human', 'prompter', 'usr', '用户')  # roles of the user
_OTHERS = ('assistant', 'gpt', 'bot', 'model', '助手')
MEDIA = ('image', 'images', 'video', 'audio')
IDS = ('conversation_hash', 'conversation_id', 'id', 'idx', 'index', 'custom_id')
NOTHING = 'no turn of a user, and no text'  # the most common fault
_IMAGE = 'an image, a sound or a film belongs to the request'
_MEDIUM = re.compile(r'<(?:image|video|audio|imagehere)(?:[_ ]?\d+)?>', re.I)
_NO_INPUT = ('', 'n/a', 'none', 'nan', 'null', '<noinput>', 'noinput')
_SHOWN = 160  # characters of the fault of a broken line


class Paths(NamedTuple):
  """Dotted paths of a record's fields ('prompt.0.content', 'range.1'); '' is guessed."""

  text: str = ''
  language: str = ''
  lower: str = ''
  upper: str = ''
  criteria: str = ''  # nothing is guessed of these two
  references: str = ''


GUESSED = Paths()


class Row(NamedTuple):
  """A row of a source: a request, or `fault`, the reason why it cannot be read."""

  file: str
  number: int  # of the line or element, from 1; of a row of Parquet, from 0
  text: str = ''
  key: str = ''  # id in the data set
  language: str = ''  # tag of the data set
  held: str = ''  # 'flagged' or 'redacted' in the data set, else ''
  more: dict[str, Any] | None = None  # what `Paths` names of `prompts.MORE`
  lower: int = 0  # words, if the data set has a range; else 0 and 0
  upper: int = 0
  fault: str = ''


def from_record(record: Any, file: str, number: int, paths: Paths = GUESSED) -> Row:
  """The request of one record, in the schema of a set that is known (WildChat-1M), or of `paths`.

  A conversation is a list of turns (`role` and `content`, or `from` and `value`), itself perhaps as
  JSON text or in a request to a server; the first turn of a user with a text counts. A row is
  'flagged' where it, or any of its turns, is `toxic` or has a moderation record with `flagged`; it
  is 'redacted' where that turn or the row says so. Never raises: an error becomes `fault`, and so
  does a message of an assistant, an answer to one, or a part of a request with an image.
  """
  if not isinstance(record, dict):
    return Row(file, number, fault=f'no object but {type(record).__name__}')
  for body in (record.get(name) for name in BODIES):
    record = {**record, **body} if isinstance(body, dict) else record
  turns = turns_of(record)
  turn = next(filter(asks, turns), {})
  key = next((str(record[k]) for k in IDS if isinstance(record.get(k), str | int)), '')
  key = '' if half_character(key) else key
  guessed = content_of(turn) if turns else _alone(record)
  text = dig(record, paths.text) if paths.text else guessed
  if not isinstance(text, str):
    fault = f'no text at {paths.text!r}' if paths.text else _why_not(record)
    return Row(file, number, key=key, fault=fault)
  text = transcripts.first(text)
  shown = _MEDIUM.search(text) or _has_media(turn) or any(record.get(name) for name in MEDIA)
  fault = half_character(text) or (_IMAGE if shown else '' if text.strip() else _why_not(record))
  if fault:
    return Row(file, number, key=key, fault=fault)
  tags = [dig(record, paths.language or 'language'), record.get('language')]
  tags += [turn.get('language'), record.get('lang'), dig(record, 'prompt.lang')]
  lower, upper = _range(record, paths)
  named = [name for name in prompts.MORE if getattr(paths, name)]
  try:
    more = prompts.more({name: dig(record, getattr(paths, name)) for name in named})
  except ValueError as error:
    return Row(file, number, key=key, fault=str(error)[:_SHOWN])
  return Row(
    file=file,
    number=number,
    text=text,
    key=key,
    language=next((tag for tag in tags if isinstance(tag, str) and tag), ''),
    held=_held(record, turns, turn),
    lower=lower,
    upper=upper,
    more=more or None,
  )


def dig(record: Any, path: str) -> Any:
  """The value at a dotted path, or None: `dig({'range': [1, 2]}, 'range.1') == 2`."""
  for part in path.split('.'):
    if isinstance(record, dict):
      record = record.get(part)
    elif isinstance(record, list) and part.lstrip('-').isdigit():
      record = record[int(part)] if -len(record) <= int(part) < len(record) else None
    else:
      return None
  return record


def half_character(text: str) -> str:
  """The fault of a text that holds half of a surrogate pair, else ''."""
  try:
    text.encode()
  except UnicodeEncodeError as error:
    return f'half a character at {error.start}'
  return ''


def turns_of(record: dict[str, Any]) -> list[dict[str, Any]]:
  """The turns of the first field that holds a conversation; texts alone are turns by turns."""
  for key in TURNS:
    turns = record.get(key)
    if isinstance(turns, str) and key != 'input' and turns.lstrip()[:1] == '[':
      try:
        turns = json.loads(turns)
      except (ValueError, RecursionError):
        continue
    if not isinstance(turns, list):
      continue
    if turns and all(isinstance(turn, str) for turn in turns):
      if not any(isinstance(record.get(name), str) for name in TEXTS if name != key):
        return [{'role': ('user', 'assistant')[i % 2], 'text': t} for i, t in enumerate(turns)]
    elif any(isinstance(turn, dict) and role_of(turn) for turn in turns):
      return [turn for turn in turns if isinstance(turn, dict)]
  return _exported(record) or [record] * _is_turn(record)


def _exported(record: dict[str, Any]) -> list[dict[str, Any]]:
  """The messages of a conversation exported from ChatGPT, by time."""
  nodes = record.get('mapping')
  nodes = list(nodes.values()) if isinstance(nodes, dict) else []
  messages = [
    dig(node, 'message') for node in nodes if isinstance(dig(node, 'message.author'), dict)
  ]
  times = [message.get('create_time') for message in messages]
  times = [time if isinstance(time, int | float) else 0 for time in times]
  return [messages[i] for i in sorted(range(len(times)), key=times.__getitem__)]


def _is_turn(record: dict[str, Any]) -> bool:
  """Whether a record is itself a turn of a user, or one of a user and one of an assistant."""
  if not asks(record) or _answers(record):
    return False
  pair = any(isinstance(record.get(name), str) for name in _OTHERS)
  named = any(isinstance(record.get(name), str) for name in ('role', 'from'))
  return named or (pair and not any(name in record for name in TEXTS))


def role_of(turn: dict[str, Any]) -> str:
  role = turn.get('role', turn.get('from', dig(turn, 'author.role')))
  if role is None:  # {'human': ..., 'assistant': ...}: question and answer
    role = next((name for name in USERS if isinstance(turn.get(name), str)), '')
  return str(role).lower()


def content_of(turn: dict[str, Any]) -> Any:
  names = ('content', 'value', 'text', 'parts', role_of(turn))
  content = next((turn[name] for name in names if turn.get(name) is not None), None)
  content = content.get('parts') if isinstance(content, dict) else content
  if isinstance(content, list):  # content in parts
    parts = [part.get('text') if isinstance(part, dict) else part for part in content]
    return '\n'.join(part for part in parts if isinstance(part, str))
  return content


def asks(turn: dict[str, Any]) -> bool:
  """Whether a turn is a user's, with a text."""
  content = content_of(turn)
  return role_of(turn) in USERS and isinstance(content, str) and bool(content.strip())


def _has_media(turn: dict[str, Any]) -> bool:
  parts = turn.get('content')
  parts = parts.get('parts') if isinstance(parts, dict) else parts
  parts = parts if isinstance(parts, list) else []
  kinds = [p.get('type', p.get('content_type')) for p in parts if isinstance(p, dict)]
  return any(str(kind).startswith((*MEDIA, 'input_image', 'input_audio')) for kind in kinds)


def _alone(record: dict[str, Any]) -> Any:
  """The text of a record without turns: of its first field that holds one."""
  if _answers(record):
    return None
  for name in TEXTS:
    text = record.get(name)
    text = text.get('text') if isinstance(text, dict) else text  # the root of a tree
    if isinstance(text, str) and (name != 'chosen' or transcripts.USER.match(text)):
      added = [str(record.get(more) or '') for more in ADDED] if name == 'instruction' else []
      return '\n\n'.join([text, *(m for m in added if m.strip().lower() not in _NO_INPUT)])
  return None


def _why_not(record: dict[str, Any]) -> str:
  """The reason why a record holds no first request."""
  named = next((name for name in (*TURNS, *TEXTS) if name in record), '')
  what = jsonl.missing(record, named) if named and not record[named] else NOTHING
  return _answers(record) or what


def _answers(record: dict[str, Any]) -> str:
  """The reason why a record that is one message is not the first; else ''."""
  role = record.get('role', record.get('from') if 'value' in record else None)
  if isinstance(role, str) and role and role.lower() not in USERS:
    return f'a message of the {role.lower()}'
  return 'a later turn of a conversation' if role and record.get('parent_id') else ''


def _held(record: dict[str, Any], turns: list[dict[str, Any]], turn: dict[str, Any]) -> str:
  moderation = record.get('openai_moderation')
  moderation = moderation if isinstance(moderation, list) else [moderation]
  flags = [record.get('toxic'), *(t.get('toxic') for t in turns)]
  flags += [m.get('flagged') for m in moderation if isinstance(m, dict)]
  if any(flag is True for flag in flags):
    return 'flagged'
  return 'redacted' if True in (record.get('redacted'), turn.get('redacted')) else ''


def _range(record: dict[str, Any], paths: Paths) -> tuple[int, int]:
  """The range of words in a record; (0, 0) if it has none, or an invalid one."""
  if paths.lower or paths.upper:
    ends = [dig(record, paths.lower), dig(record, paths.upper)]
  elif isinstance(record.get('range'), list):
    ends = record['range']
  else:
    ends = [record.get('lower'), record.get('upper')]
  if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
    return 0, 0
  lower, upper = ends
  return (int(lower), int(upper)) if 1 <= lower <= upper < 1e6 else (0, 0)


def read(path: epath.PathLike, paths: Paths = GUESSED) -> Iterator[Row]:
  """The rows of a file of JSON lines, of one JSON array, or of an object that holds one.

  What is no JSON object is a row with a `fault`; so is the rest of a truncated file.
  """
  path = epath.Path(path)
  number = 0
  try:
    for line in jsonl.records(path, lambda record: turns_of(record) or _alone(record)):
      number = line.number
      if line.fault:
        yield Row(path.name, number, fault=line.fault[:_SHOWN])
      else:
        yield from_record(line.record, path.name, number, paths)
  except (OSError, ValueError) as error:
    yield Row(path.name, number + 1, fault=f'unreadable from here on: {error}'[:_SHOWN])
