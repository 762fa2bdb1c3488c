"""A server without a model: a `Typist` writes, everything else is real."""

import contextlib
import functools

import numpy as np

from lwz.data import templates, tokenizer
from lwz.serving import app, metrics, prompts, protocol, writer
from tests.rollout import typist

WORDS = ('sea', 'river', 'stone', 'bridge', 'lamp', 'winter', 'garden, and', 'then the', 'boat.')
MODEL = 'policy'


@functools.cache
def tok():
  tags = '<think> </think> <answer> </answer> Write in <|user|>: <|assistant|>: '
  return tokenizer.train([tags + ' '.join(WORDS) + ' é 写'] * 9, 420)


def text(prompt, key, words=12):
  """A reply that the prompt and the key determine."""
  rng = np.random.default_rng([*prompt, *key])
  plan, told = (' '.join(rng.choice(WORDS, words)) for _ in range(2))
  return f'<think>{plan}</think>\n<answer>{told}, é写.</answer>'


def write(prompt, key, **more):
  return [*tok().encode(text(prompt, key, **more)), tok().eos_token_id]


@contextlib.contextmanager
def server(
  *, write=write, key='', queue=64, start=True, decode=None, rank=None, rankers=1, **settings
):
  """Yields the ASGI application, its writer and its typist."""
  clerk = typist.Typist(write, end=tok().eos_token_id, **settings)
  measured = metrics.Metrics(clerk.num_slots)
  decode = decode or tokenizer.decoder(tok(), [tok().eos_token_id])
  written_by = writer.Writer(
    clerk.engine(400),
    None,
    decode=decode,
    stops=templates.STOPS,
    min_tokens=0,
    limit=queue,
    measured=measured,
  )
  limits = protocol.Limits(MODEL, 0.8, 1.0, 0, 400, clerk.longest, 4, 6, rank is not None)
  served = app.Server(
    written_by,
    limits,
    prompts.Prompts(tok(), 'think', 'pocket'),
    measured,
    spell=lambda token: decode([token]),
    rank=rank,
    facts={'created': 0, 'style': 'think', 'temperature': 0.8, 'max_tokens': 400},
    seed=0,
    key=key,
    max_body=10_000,
    rankers=rankers,
  )
  if start:
    written_by.start()
  try:
    yield served.app(), written_by, clerk
  finally:
    served.close()
    clerk.gate.set()
    written_by.close(0)
    if start:
      assert written_by.join(10)
