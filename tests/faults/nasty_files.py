"""Files and answers that nobody means, each given to the code that reads its kind."""

import contextlib
import functools
import io
import json
import os
import pathlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lwz.data import corpus, preferences, prompts, tokenizer
from lwz.data.funnel import sources
from lwz.evals import arena, marks, people, verdicts, writingbench
from lwz.judge import client, http
from lwz.judge import journal as replies
from lwz.model import qwen
from lwz.report import curves, summary
from lwz.reward import writing
from lwz.store import behind, journal, lock, metrics, run, samples
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import config as hf_config
from tests import fakes
from tests.faults import nasty_values
from tests.rollout import scripted

DEEP = '[' * 100_000 + ']' * 100_000
VALUES: tuple[Any, ...] = (
  *(None, True, -1, 0, 2.5, 10**30, 10**400, float('nan'), float('inf'), '2', '', 'no', [], {}),
  *([[]], [None], {'a': {}}, '\ud800', '\x00', 'x' * 100_000, [1, 'a'], 'ＮＵＬＬ'),
)
RECORDS: dict[str, list[dict[str, Any]]] = {
  'prompts': [
    {'id': f'{i}', 'text': f'Write {i} words.', 'lower': 5, 'upper': 9, 'language': 'en'}
    for i in range(3)
  ],
  'preferences': [
    {'prompt': f'Ode {i}', 'chosen': 'The sea.', 'rejected': 'Sea sea.', 'margin': 0.5}
    for i in range(3)
  ],
  'corpus': [{'title': f'On {i}', 'text': f'The {i} seas are wide. ' * 9} for i in range(3)],
  'conversations': [
    {'conversation': [{'role': 'user', 'content': 'Write a novel of 900 words.'}], 'language': 'x'}
  ],
  'Arena-Write': [
    {'idx': i, 'question': 'Ode', 'type': 'a', 'length': 9, 'baseline_response': {'m': 'The sea.'}}
    for i in range(2)
  ],
  'WritingBench': [
    {
      **{'index': i, 'query': 'Ode', 'domain1': 'a', 'domain2': 'b', 'lang': 'en'},
      'checklist': [
        {'name': f'n{k}', 'criteria_description': 'd'} | dict.fromkeys(('1-2', '3-4', '5-6'), 'x')
        for k in range(5)
      ],
    }
    for i in range(2)
  ],
  'metrics': [{'step': i, 'seconds': 1.0, 'time': 'x', 'loss': 0.5} for i in range(3)],
}
REPLIES = (
  *('{"score": 7, "reason": "plain"}', '```json\n{"score": 7}\n```', 'Rating: 7/10', '[[A>B]]'),
  *(r'\boxed{B}', 'Assistant A is better', '{"score": 7', '{"score": [7]}', '回答B更好'),
)


@functools.cache
def _model() -> pathlib.Path:
  """A small model with its tokenizer."""
  folder = pathlib.Path(tempfile.mkdtemp())
  tok = tokenizer.train(['the sea is wide'] * 3, 300)
  config = fakes.config(vocab_size=len(tok), num_hidden_layers=1)
  hf.save(folder, config, fakes.params(config), tok)
  return folder


def _damaged(good: bytes, draw: random.Random) -> bytes:
  """Bytes with one fault."""
  at, end = sorted(draw.choices(range(len(good) + 1), k=2))
  return draw.choice(
    [
      lambda: good[:at],
      lambda: good[:at] + good[end:],
      lambda: good[:at] + b'\x00' * 9 + good[at:],
      lambda: good[:end] + good[at:],
      lambda: good[:at] + bytes(draw.choices(range(256), k=5)) + good[at + 5 :],
      lambda: good[:at] + DEEP.encode() + good[at:],
      lambda: good[:at] + b'9' * 400 + good[at:],
    ]
  )()


def _changed(good: Any, draw: random.Random) -> Any:
  """A copy of a JSON value in which one value is another."""
  new = json.loads(json.dumps(good))
  at = new
  while True:
    places = list(at) if isinstance(at, dict) else list(range(len(at)))
    place = draw.choice(places)
    if isinstance(at[place], dict | list) and at[place] and draw.random() < 0.8:
      at = at[place]
      continue
    at[place] = draw.choice(VALUES)
    return new


def _encoded(value: Any) -> bytes:
  return json.dumps(value).encode()


def _contents(good: bytes, records: list | dict | None, draw, number: int) -> Iterator[bytes]:
  """Mutations of a file: those that every kind has, then `number` drawn ones."""
  yield from (b'', b'\x00' * 64, good.decode('latin-1').encode('utf-16'), b'\xff\xfe' + good)
  yield from (DEEP.encode(), b'[]', b'null', b'{}', b'"a"', b'9' * 400, b'{"a": NaN}', good[:-1])
  for _ in range(number):
    if records is None or draw.random() < 0.3:
      yield _damaged(good, draw)
    elif isinstance(records, dict):
      yield _encoded(_changed(records, draw))
    else:
      yield b'\n'.join(map(_encoded, _changed(records, draw)))


def _odd(path: pathlib.Path) -> list[tuple[str, Callable[[], None]]]:
  """Things at a path that are no file."""
  return [
    ('FIFO', lambda: os.mkfifo(path)),
    ('link to itself', lambda: path.symlink_to(path.name)),
    ('/dev/zero', lambda: path.symlink_to('/dev/zero')),
    ('folder', lambda: path.mkdir()),
    ('missing', lambda: None),
  ]


def _file_cases(kind, name, good, records, read, draw, number, start=None) -> Iterator:
  """Cases of a file `name` in a folder that `start` has filled; `read` gets the folder."""

  def act(folder, put):
    if start:
      start(folder)
    path = folder / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path)
    read(folder)

  for n, data in enumerate(_contents(good, records, draw, number)):
    put = functools.partial(pathlib.Path.write_bytes, data=data)
    label = f'{name} {n}: {data[:60]!r}'
    yield nasty_values.Case(kind, label, functools.partial(act, put=put), _names(name), False)
  for label, _ in _odd(pathlib.Path(name)):
    put = functools.partial(_put_odd, label=label)
    label = f'{name}: {label}'
    yield nasty_values.Case(kind, label, functools.partial(act, put=put), _names(name), False)


def _put_odd(path: pathlib.Path, label: str) -> None:
  dict(_odd(path))[label]()


def _names(name: str) -> tuple[str, ...]:
  return name, pathlib.Path(name).name, '/tmp'


def _lines(records) -> bytes:
  return b''.join(_encoded(record) + b'\n' for record in records)


def _copy(folder: pathlib.Path) -> None:
  shutil.copytree(_model(), folder, dirs_exist_ok=True)


def _read_config(folder) -> None:
  config, _ = hf_config.read(folder / 'config.json')
  hf_config.end_ids([folder / 'config.json'])
  qwen.num_params(config)


def _read_tokenizer(folder) -> None:
  tok = tokenizer.load(folder)
  tokenizer.num_ids(tok)
  tokenizer.decoder(tok)(tokenizer.encode(tok, ['The sea <|im_end|>.'], end=True)[0])


def _read_metrics(folder) -> None:
  records = metrics.read(folder)
  summary.first_last(records, ['loss'])
  curves.draw(records, ['loss'], title='loss')
  samples.read(folder)


def _read_run(folder) -> None:
  identity = run.Identity(lambda key: True, lambda flat: dict(flat), {})
  opened = run.Run(folder)
  opened.settings('data', 'style')
  opened.read_done()
  run.is_complete(folder, {'data': {'style': 'think'}}, identity, goal='data.style')
  with contextlib.suppress(ValueError):  # another run's config
    run.check_identity(folder, {'data': {'style': 'think'}}, identity)


def _ask(answer: bytes, _) -> None:
  with scripted.serve(lambda n, asked: scripted.status(200, answer)) as server:
    endpoint = client.Endpoint(server.url, 'm', tries=1, timeout=5, backoff=0.01)
    found = list(client.write(endpoint, [client.Request('a text')]))
    assert [type(reply.text) for reply in found] == [str]
    post = functools.partial(http.post, endpoint)
    writing.remote(post, faults=(http.Failed,))([('a', 'b')])


def _read_reply(text: str, _) -> None:
  verdicts.read(text)
  mark = marks.read(text)
  assert mark is None or 1 <= mark.score <= 10, mark


def cases(seed: int = 0, share: float = 1.0) -> Iterator[nasty_values.Case]:
  """All kinds; those of `seed` are the same everywhere."""
  draw = random.Random(seed)
  for case in _all(draw):
    if draw.random() < share:
      yield case


def _all(draw: random.Random) -> Iterator[nasty_values.Case]:
  model = _model()
  raw = {name: (model / name).read_bytes() for name in ('config.json', 'tokenizer.json')}
  for name, read, number in (
    ('config.json', _read_config, 60),
    ('tokenizer.json', _read_tokenizer, 40),
    ('tokenizer_config.json', _read_tokenizer, 30),
    ('model.safetensors', hf.load, 40),
  ):
    good = raw.get(name) or (model / name).read_bytes()
    record = json.loads(good) if name.endswith('.json') else None
    kind = {'config.json': 'model config', 'model.safetensors': 'safetensors'}.get(
      name, 'tokenizer'
    )
    yield from _file_cases(kind, name, good, record, read, draw, number, _copy)
  for kind, name, read in (
    ('prompts', 'p.jsonl', lambda folder: prompts.load(folder / 'p.jsonl')),
    ('preferences', 'p.jsonl', lambda folder: preferences.load(folder / 'p.jsonl')),
    ('corpus', 'a.jsonl', lambda folder: [*corpus.stream(folder)]),
    ('conversations', 'c.jsonl', lambda folder: list(sources.read(folder / 'c.jsonl'))),
    ('conversations', 'c.json', lambda folder: list(sources.read(folder / 'c.json'))),
    ('Arena-Write', 'a.jsonl', lambda folder: arena.load(folder / 'a.jsonl')),
    ('WritingBench', 'w.jsonl', lambda folder: writingbench.load(folder / 'w.jsonl')),
    ('metrics', 'metrics.jsonl', _read_metrics),
  ):
    records = RECORDS[kind]
    yield from _file_cases(kind, name, _lines(records), records, read, draw, 30)
  config = {'config': {'data': {'style': 'think'}}, 'hash': 'x', 'versions': {}, 'command': []}
  config |= {'created': 'x', 'history': []}
  done = {'summary': {}, 'time': 'x', 'config': config['config']}

  def start(folder) -> None:
    (folder / 'config.json').write_bytes(_encoded(config))
    (folder / 'DONE').write_bytes(_encoded(done))

  for name, record in (('config.json', config), ('DONE', done)):
    yield from _file_cases('run folder', name, _encoded(record), record, _read_run, draw, 25, start)
  owner = {'host': 'other', 'pid': 1, 'token': 'x', 'beat': 1}
  yield from _file_cases(
    *('lock', 'LOCK', _encoded(owner), owner),
    lambda folder: lock.acquire(folder / 'LOCK', patience=0.1).release(),
    *(draw, 15),
  )
  export = {'page': 'p', 'annotator': 'x', 'judgements': [{'id': '1', 'choice': 'left'}]}
  for n in range(30):
    yield nasty_values.Case(
      *('judgements of people', f'{n}'),
      functools.partial(_read_export, _changed(export, draw)),
      *(('a.json',), False),
    )
  kept = [{'key': 'a', 'text': 'b'}] * 2
  yield from _file_cases(
    *('journals', 'answers.jsonl', _lines(kept), kept),
    lambda folder: replies.ReplyJournal(folder / 'answers.jsonl').close(),
    *(draw, 10),
  )
  buffer = io.BytesIO()
  np.savez(buffer, ids=np.arange(3), policy=np.uint32(1))
  yield from _file_cases(
    *('journals', 'journal/step-000000/trajectory-00000.npz', buffer.getvalue(), None),
    lambda folder: journal.TrajectoryJournal(folder, 0, 1, behind.Writer()).read(),
    *(draw, 15),
  )
  for n in range(60):
    good = draw.choice(REPLIES).encode()
    text = _damaged(_damaged(good, draw), draw).decode(errors='replace')
    yield nasty_values.Case(
      'judge replies', f'{n}: {text[:60]!r}', functools.partial(_read_reply, text), (), False
    )
  answer = scripted.completion('The sea.')
  for n, data in enumerate(_contents(_encoded(answer), answer, draw, 40)):
    act = functools.partial(_ask, data)
    yield nasty_values.Case('endpoint answers', f'{n}: {data[:60]!r}', act, ('server',), False)


def _read_export(export: Any, _) -> None:
  people.read([('a.json', export)], {'page': 'p', 'items': {'1': {}}})
