"""Preference pairs whose worse side a policy wrote: what the policy does is what must not be paid.

1. take requests about titles that it was not trained on, with their passages  runtime.setup
2. write answers at several temperatures, in both styles                       judge.systems
3. keep passage and answer as a pair, where there is an answer                 data.preferences

The pairs of titles that are kept for evaluations go into a file of their own.
"""

import numpy as np

from lwz import text as words_lib
from lwz import types
from lwz.data import corpus, formatted, preferences, templates
from lwz.judge import client, systems
from lwz.runtime import keys, setup, sources, validation

READS = (
  *(*setup.READS, *setup.MESH, *setup.DOCUMENTS, *setup.COMPUTED, 'init'),
  *('pairs.temperatures', 'pairs.coldest', 'pairs.hottest'),
  *('data.lower', 'data.upper', 'data.template', 'data.tested', 'eval.slots'),
  *('rollout.max_prompt_tokens', 'rollout.max_tokens', 'rollout.exact', 'rollout.block'),
  *('rollout.int8', 'rollout.weights', 'rollout.attention'),
)

MIN_WORDS = 5  # of an answer: less is no text to learn from


def check(c) -> None:
  keys.check(c)
  if c.init == 'random':
    raise ValueError("init='random' has learnt nothing: name a run or a model")
  validation.decoding(c, c.init)
  for documents in () if setup.is_experiment(c.data.folder) else sources.heldout(c):
    if not _openings(c, documents):
      raise ValueError(
        f'data.folder={c.data.folder}: no held-out document opens with data.lower={c.data.lower} '
        f'to data.upper={c.data.upper} words; add documents, or change data.heldout, data.tested'
      )


def run(c) -> None:
  opened = setup.open_run(c, READS)
  temperatures = np.linspace(c.pairs.coldest, c.pairs.hottest, c.pairs.temperatures).tolist()
  parts = [_openings(c, documents) for documents in sources.heldout(c)]
  num_trained = len(parts[0])
  openings = [*parts[0], *parts[1]]  # together: the engine is loaded once for each temperature
  texts = [_written(c, openings, number, t) for number, t in enumerate(temperatures)]
  counts = {}
  for name, part in zip(
    preferences.WRITTEN, (slice(num_trained), slice(num_trained, None)), strict=True
  ):
    pairs = [
      types.Preference(request, passage, text, preferences.MODEL)
      for written in texts
      for (request, passage), text in zip(openings[part], written[part], strict=True)
      if text and text != passage
    ]
    preferences.save(opened.folder / name, pairs)
    counts[name] = len(pairs)
  opened.mark_done(counts)
  print(f'{setup.run_name(c)}: {counts} pairs')


def _openings(c, documents: list[types.Document]) -> list[tuple[str, str]]:
  """Returns (request, passage) of each document whose opening has the length of an answer."""
  found = corpus.openings(documents, c.data.lower, c.data.upper)
  return [(formatted.request(document, text), text) for document, text in found]


def _written(c, openings: list[tuple[str, str]], number: int, temperature: float) -> list[str]:
  """Returns an answer to each request, '' where there is none; styles alternate."""
  styles = [types.STYLES[(i + number) % len(types.STYLES)] for i in range(len(openings))]
  asked = [
    client.Request(templates.render(request, style, c.data.template), sample=number)
    for (request, _), style in zip(openings, styles, strict=True)
  ]
  texts = systems.answers(c, c.init, asked, temperature)
  return [text if len(words_lib.words(text)) >= MIN_WORDS else '' for text in texts]
