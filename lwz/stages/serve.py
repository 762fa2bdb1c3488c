"""Serves a policy over HTTP, in the form of OpenAI's API, with a page to write with.

1. read the model, and how it is asked                    runtime.policy
2. write for everybody who asks, in one rollout           serving.writer, rollout.scheduler
3. answer in OpenAI's form, streamed or whole             serving.app, serving.protocol
4. rank the choices of a reply, where it is asked for     rl.registry, rl.best_of

Needs `pip install "lwz[serve]"`. It keeps nothing, so it has no folder.
"""

import copy
import functools
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from lwz.data import templates
from lwz.rl import best_of, registry
from lwz.rollout import scheduler
from lwz.runtime import policy, setup
from lwz.store import gguf_header

READS = (*policy.READS, *registry.READS, 'serve')
_EXTRA = ('prometheus_client', 'pydantic', 'starlette', 'uvicorn')
# Seconds and tries of a reward server, as a client waits; without an answer there are no marks.
_PATIENCE = {'timeout': 60, 'deadline': 60, 'tries': 2}
_RANKERS = 16  # replies that a reward server ranks at a time; our own model ranks one
_CONNECTIONS = 256  # that may be open beside those of waiting requests


def check(c) -> None:
  for name in _EXTRA:
    try:
      importlib.import_module(name)
    except ModuleNotFoundError:
      raise ValueError(f'a server needs {name}: pip install "lwz[serve]"') from None
  from lwz.serving import http  # here, since every stage can be imported without the extra

  http.check_address(c.serve.host, _key(c))
  policy.check(c)
  if c.reward.model:
    registry.check_rewards(c)
  if not c.rollout.slots:
    raise ValueError('rollout.slots=0: a server needs a number of replies that it writes at a time')
  if c.serve.choices > c.serve.queue:
    raise ValueError(
      f'serve.choices={c.serve.choices} exceeds serve.queue={c.serve.queue}: so many choices never '
      'find room; lower the first, or raise the second'
    )
  http.bind(c.serve.host, c.serve.port).close()


def run(c) -> None:
  from lwz.serving import app, http, metrics, prompts, protocol, writer

  # A block takes milliseconds, and Python's own 5 would pass until the thread that writes may go on
  # while the one that serves computes.
  sys.setswitchinterval(0.0005)
  bound = http.bind(c.serve.host, c.serve.port)
  model = policy.describe(c)
  name = c.serve.model or epath.Path(model.source).name.removesuffix(gguf_header.SUFFIX)
  limits = protocol.Limits(
    model=name,
    temperature=c.rollout.temperature,
    top_p=c.rollout.top_p,
    top_k=c.rollout.top_k,
    max_tokens=c.rollout.max_tokens,
    max_prompt_tokens=c.rollout.max_prompt_tokens,
    max_choices=c.serve.choices,
    max_messages=c.serve.messages,
    ranks=bool(c.reward.model),
  )
  rendered_by = prompts.Prompts(model.tok, model.style, model.template)
  shortest = np.array(rendered_by.ids([('user', 'Write.')]), np.int32)
  engine, params = policy.engine(c, model, policy.load(c, model), c.rollout.slots)
  # What a short request needs is compiled before the first client comes.
  warm_up = scheduler.Request(shortest, np.zeros(2, np.uint32), max_tokens=1)
  list(scheduler.run(engine, params, [warm_up]))
  decode = model.decoder(copy.deepcopy(model.tok))  # its own, since `encode` changes a tokenizer
  measured = metrics.Metrics(c.rollout.slots)
  written_by = writer.Writer(
    engine,
    params,
    decode=decode,
    stops=templates.STOPS,
    min_tokens=c.rollout.min_tokens,
    limit=c.serve.queue,
    measured=measured,
  )
  rank = None
  if c.reward.model:
    rank = _rank(c, rendered_by.request, written_by.between_blocks)
  facts = {
    'created': int(time.time()),
    'style': model.style,
    'template': model.template,
    'temperature': limits.temperature,
    'max_tokens': limits.max_tokens,
    'max_prompt_tokens': limits.max_prompt_tokens,
    'best_of': limits.max_choices if limits.ranks else 1,
  }
  server = app.Server(
    written_by,
    limits,
    rendered_by,
    measured,
    spell=lambda token: decode([token]),
    rank=rank,
    facts=facts,
    seed=c.seed,
    key=_key(c),
    max_body=c.serve.body,
    rankers=_RANKERS if registry.is_server(c.reward.model) else 1,
  )
  connections = c.serve.queue + c.rollout.slots + _CONNECTIONS
  served = http.Http(server.app(), written_by, deadline=c.serve.deadline, connections=connections)
  http.listen(bound)
  written_by.start()
  url = http.url(bound)
  print(f'{name}: the page to write with is {url}, the API {url}/v1; Ctrl-C stops', flush=True)
  try:
    served.serve_at(bound)
  finally:
    server.close()


def _rank(c, request: Callable[[Any], str], between_blocks: Callable) -> Callable:
  """Returns what gives the marks of texts that answer a prompt, by `reward.model`."""
  scorer = registry.scorer(c, setup.mesh(c), c.reward.model, **_PATIENCE)
  marks = functools.partial(best_of.marks, scorer)
  is_ours = not registry.is_server(c.reward.model)
  if is_ours:
    marks([('Write.', 'A text.')])  # compiled before the first client comes

  def rank(prompt: Any, texts: Sequence[str]) -> list[float]:
    pairs = [(request(prompt), text) for text in texts]
    return between_blocks(lambda: marks(pairs)) if is_ours else marks(pairs)

  return rank


def _key(c) -> str:
  """Returns the API key. Raises ValueError if its environment variable is named, and not set.

  Without the line end of the file that it may come from: no client could send it.
  """
  key = os.environ.get(c.serve.key_env, '').strip() if c.serve.key_env else ''
  if c.serve.key_env and not key:
    raise ValueError(
      f'serve.key_env={c.serve.key_env}: this environment variable is not set; set it to the key'
    )
  return key
