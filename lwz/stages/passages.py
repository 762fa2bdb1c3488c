"""Passages that a model writes itself: documents to learn from where there is no corpus.

1. take the writing requests of `data.prompts`, without those of evaluations  runtime.setup
2. have `init` answer each as it learnt to chat, without our format           judge.systems
3. keep of each the opening that has the words its request asks for           data.corpus
4. and shorter ones, with requests for the words that they have               data.formatted
5. leave out those that repeat themselves                                     reward.format

A model that follows instructions, but never saw our output format, learns it from these: with plans
made of them, as thoughts. Reward models prefer them to damaged copies, and to a policy's answers.
A small model hardly heeds the length that a request states; whoever learns from texts of any other
length learns that the statement means nothing, and whoever sees each request with one length alone
need not read it. A small model's longest answers end in loops, which are quickly learnt.
"""

import json
from collections.abc import Iterator

import numpy as np

from lwz import text as words
from lwz import types
from lwz.data import corpus, formatted
from lwz.judge import client, systems
from lwz.reward import format as format_lib
from lwz.runtime import keys, setup, sources, validation
from lwz.store import atomic

READS = (
  *(*setup.READS, *setup.MESH, *setup.COMPUTED, 'init', 'pairs', 'data.prompts', 'data.tested'),
  'data.lower',
  *('eval.slots', 'rollout.exact'),
  *('rollout.max_tokens', 'rollout.block', 'rollout.int8', 'rollout.attention'),
  'rollout.weights',
)


def check(c) -> None:
  keys.check(c)
  if c.init == 'random':
    raise ValueError("init='random' has learnt nothing: name a model that follows instructions")
  if not c.data.prompts:
    raise ValueError('data.prompts is empty: name a file of writing requests')
  if not setup.is_experiment(c.data.prompts):
    sources.writing_prompts(c)
  validation.decoding(c, c.init)


def run(c) -> None:
  opened = setup.open_run(c, READS)
  asked = sources.writing_prompts(c)
  temperatures = np.linspace(c.pairs.coldest, c.pairs.hottest, c.pairs.temperatures).tolist()
  found: dict[str, dict[str, str]] = {}
  for number, temperature in enumerate(temperatures):
    requests = [
      client.Request([{'role': 'user', 'content': prompt.text}], sample=number) for prompt in asked
    ]
    texts = systems.answers(c, c.init, requests, temperature)
    for prompt, answer in zip(asked, texts, strict=True):
      for request, text in _openings(c, prompt, answer):
        if not format_lib.redundancy(text):
          found.setdefault(text, {'title': prompt.text, 'request': request, 'text': text})
  if len(found) < 2:
    raise ValueError(
      f'{len(found)} of {len(asked) * len(temperatures)} answers of {c.init} open with as many '
      f'words as {c.data.prompts} asks for and repeat nothing: raise rollout.max_tokens, or name '
      'another model'
    )
  lines = ''.join(json.dumps(record, ensure_ascii=False) + '\n' for record in found.values())
  folder = opened.folder / setup.RESULTS['data.folder']
  folder.mkdir(exist_ok=True)
  atomic.write_text(folder / 'passages.jsonl', lines)
  opened.mark_done({'requests': len(asked), 'passages': len(found)})
  print(f'{setup.run_name(c)}: {len(found)} passages for {len(asked)} requests')


def _openings(c, prompt: types.Prompt, answer: str) -> Iterator[tuple[str, str]]:
  """Yields the opening of an answer that its prompt asks for, and shorter ones, with requests.

  None if the answer has too few words; the first alone if the prompt cannot be restated.
  """
  document = types.Document(prompt.id, answer, c.init, prompt.text)
  longest = corpus.passage(document, prompt.lower, prompt.upper)
  if not longest:
    return
  yield prompt.text, longest
  least = max(c.data.lower, formatted.LEAST_STATED)
  for text in corpus.beginnings(longest, c.pairs.openings, least):
    request = formatted.restated(prompt, words.count_words(text))
    if request and text != longest:
      yield request, text
