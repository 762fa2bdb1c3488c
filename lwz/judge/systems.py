"""Systems: a run, a Hugging Face model, a model behind an endpoint, or a file of answers.

All but the file have one interface, `Write`: a function from requests to replies, in order of
arrival, see `judge.client`.
"""

import contextlib
import dataclasses
import functools
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from lwz.data import templates, tokenizer
from lwz.evals import answers as answers_lib
from lwz.judge import client
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import rollout as rollout_program
from lwz.report import terminal
from lwz.rollout import local, sampler, scheduler, shapes
from lwz.rollout import spec as spec_lib
from lwz.runtime import engine_spec, keys, setup, tokenizers
from lwz.store import model_source
from lwz.store import run as run_lib

READS = (
  *('runs_dir', 'seed', 'mesh', 'data.template', 'eval.style', 'eval.slots', *setup.COMPUTED),
  *('rollout.attention', 'rollout.block', 'rollout.exact', 'rollout.int8', 'rollout.weights'),
  *('judge.cache', 'judge.concurrency', 'judge.price_in', 'judge.price_out', 'judge.timeout'),
  *('judge.deadline', 'judge.stream'),
  *('judge.requests_per_minute', 'judge.tokens_per_minute', 'judge.tries'),
)

Write = Callable[[Iterable[client.Request]], Generator[client.Reply]]


@dataclasses.dataclass(frozen=True)
class System:
  """A model under evaluation; `identity` tells apart two versions of the same name."""

  name: str
  source: str
  style: str  # 'think', 'direct', or 'chat': the question as a user's message; '' of a file
  template: str
  identity: str

  def request(self, question: str, sampling: Mapping) -> client.Request:
    """The request that asks this system a question."""
    if self.style == 'chat':
      return client.Request([{'role': 'user', 'content': question}], sampling)
    return client.Request(templates.render(question, self.style, self.template), sampling)


def is_endpoint(source: str) -> bool:
  """Whether a source has the form MODEL@http://host/v1."""
  return '@http://' in source or '@https://' in source


def is_file(source: str) -> bool:
  """Whether a source is a file of answers."""
  return source.endswith(('.jsonl', '.json')) and not is_endpoint(source)


def name(c, source: str) -> str:
  """The name of a system: that of NAME=SOURCE, or the last part of its run's or model's name.

  Raises ValueError for an address without a model.
  """
  alias, source = keys.alias(source)
  if model_source.is_address(source):
    raise ValueError(f'{source}: name the model that it serves, too, as MODEL@{source}')
  if alias:
    return alias
  if is_file(source):
    return epath.Path(source).stem.removeprefix('answers-')  # as `answers.keep` names it
  if is_endpoint(source):
    return source.partition('@')[0].rpartition('/')[2]
  return epath.Path(setup.reference(c, source)).name


def describe(c, source: str) -> System:
  """The system of a source; reads no weights.

  Raises FileNotFoundError or ValueError if there is none, or the run is not finished.
  """
  named = name(c, source)
  _, source = keys.alias(source)
  if is_file(source):
    if not epath.Path(source).exists():
      raise FileNotFoundError(f'{source}: no such file; expected answers, one JSON object a line')
    return System(named, source, '', '', source)
  if is_endpoint(source):
    model, _, url = source.partition('@')
    client.Endpoint(url, model)
    return System(named, source, c.eval.style, c.data.template, source)
  folder = setup.reference(c, source)
  model_source.config(folder)
  if not model_source.is_run(folder):
    return System(named, source, c.eval.style, c.data.template, folder)
  opened = run_lib.Run(epath.Path(folder))
  identity = f'{name(c, source)} {opened.read_done()["time"]}'
  style, template = opened.settings('data', 'style', 'template')
  return System(named, source, style, template, identity)


def endpoint(c, source: str, group) -> client.Endpoint:
  """The endpoint of MODEL@URL with the limits of `c.judge`, where 0 is no limit.

  `group`, `c.judge` or `c.eval`, names the API key and the parameters that it knows.
  """
  model, _, url = source.partition('@')
  return client.Endpoint(
    url,
    model,
    key_env=group.key_env,
    concurrency=c.judge.concurrency,
    requests_per_minute=c.judge.requests_per_minute or float('inf'),
    tokens_per_minute=c.judge.tokens_per_minute or float('inf'),
    timeout=c.judge.timeout,
    deadline=c.judge.deadline,
    sends=tuple(group.sends),
    stream=c.judge.stream,
    tries=c.judge.tries,
    price_in=c.judge.price_in,
    price_out=c.judge.price_out,
  )


def connect(c, source: str, group, **sampling) -> Write:
  """The function that sends requests to a source; see `endpoint` for `group`.

  `sampling` is for our own engine; requests to an endpoint carry their own, and their replies are
  cached in `judge.cache`.
  """
  if not is_endpoint(source):
    return by_engine(c, source, **sampling)
  asked = endpoint(c, source, group)
  return lambda requests: client.write(asked, requests, cache=cache(c))


def cache(c) -> str | None:
  """The file of the cache of replies; None where there is no local disk, which SQLite needs."""
  path = c.judge.cache or f'{c.runs_dir}/.replies.sqlite'
  return None if '://' in path else path


def answers(c, source: str, requests: Sequence[client.Request], temperature: float) -> list[str]:
  """Returns our own engine's answer to each request, without thoughts; '' where there is none."""
  write = by_engine(c, source, temperature=temperature, max_tokens=c.rollout.max_tokens)
  texts = [''] * len(requests)
  label = f'answers at temperature {temperature:g}'
  with (
    terminal.Progress(len(requests), label=label, quiet=jax.process_index() != 0) as bar,
    contextlib.closing(write(requests)) as replies,
  ):
    for done, reply in enumerate(replies, start=1):
      texts[reply.index] = '' if reply.fault else answers_lib.final(reply.text)
      bar.update(done)
  return texts


def by_engine(
  c,
  source: str,
  *,
  max_tokens: int,
  temperature: float = 1.0,
  top_p: float = 1.0,
  top_k: int = 0,
  stops: Sequence[str] = (),
  params: Callable[[], qwen.Params] | None = None,
) -> Write:
  """`connect` for our own engine; `params` returns those of each call, where they move.

  They are as an engine's `reshard` returns them.
  """
  folder = setup.reference(c, source)
  config = setup.computed(c, model_source.config(folder))
  mesh = setup.mesh(c)
  tok = tokenizers.load(folder)
  sampling = engine_spec.sampling(tok, config, folder, temperature, top_p, top_k)
  decode = tokenizer.decoder(tok, sampling.stop_ids)
  room = config.num_positions - max_tokens

  @functools.cache
  def engine_for(num_tokens: int) -> scheduler.Engine:
    return rollout_program.engine(spec(c, config, mesh, sampling, num_tokens, max_tokens))

  if params is None:
    loaded = engine_for(1).reshard(setup.load_params(c, folder, config, mesh))
  current = params or (lambda: loaded)

  def write(requests: Iterable[client.Request]) -> Generator[client.Reply]:
    requests = list(requests)
    prompts = _prompt_ids(tok, requests)
    fits: dict[int, list[int]] = {}  # by the room of the engine that is asked
    longest = max((len(ids) for ids in prompts if len(ids) <= room), default=0)
    for i, ids in enumerate(prompts):
      if not 1 <= len(ids) <= room:
        yield client.Reply(
          i, '', f'request too long: {len(ids)} tokens, and room for {max(room, 0)}'
        )
        continue
      # In exact runs no bit of a reply may depend on the other requests.
      least = len(ids) if c.rollout.exact else longest
      fits.setdefault(next(n for n in shapes.buckets(room) if n >= least), []).append(i)
    now = current() if fits else None
    for size, indices in fits.items():
      yield from ask(engine_for(size), now, requests, prompts, indices)

  def ask(
    engine: scheduler.Engine,
    now: qwen.Params,
    requests: Sequence[client.Request],
    prompts: Sequence[np.ndarray],
    fits: Sequence[int],
  ) -> Generator[client.Reply]:
    # Keys depend on prompt and sample, not on the index among the requests, for resumed runs.
    keys_B2 = sampler.trajectory_keys(
      c.seed,
      0,
      jnp.array([zlib.crc32(prompts[i].tobytes()) >> 1 for i in fits], jnp.int32),
      jnp.array([requests[i].sample for i in fits], jnp.int32),
    )
    asked = [
      scheduler.Request(prompts[i], key, max_tokens)
      for i, key in zip(fits, np.asarray(keys_B2), strict=True)
    ]
    for reply in local.stream(engine, now, asked, decode=decode, stops=stops):
      i = fits[reply.index]
      yield client.Reply(
        i,
        reply.text,
        tokens_in=len(prompts[i]),
        tokens_out=len(reply.ids),
        finished=reply.finished,
      )

  return write


def spec(
  c,
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh,
  sampling: sampler.Sampling,
  num_tokens: int,
  max_tokens: int,
) -> spec_lib.EngineSpec:
  """Returns the engine for prompts of up to `num_tokens`."""
  limits = {'max_prompt_tokens': num_tokens, 'max_tokens': max_tokens}
  return engine_spec.from_config(c, config, mesh, sampling, num_slots=c.eval.slots, **limits)


def _prompt_ids(tok, requests: Sequence[client.Request]) -> list[np.ndarray]:
  """The ids of requests; messages go through the model's chat template, if it has one."""

  def plain(prompt) -> str:
    return '\n\n'.join(message['content'] for message in prompt) + '\n\n'

  prompts = [
    r.messages if isinstance(r.messages, str) or tok.chat_template else plain(r.messages)
    for r in requests
  ]
  return [np.array(ids, np.int32) for ids in templates.ids(tok, prompts)]
