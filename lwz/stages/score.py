"""Scores texts by the rewards of a config, without a policy: to try a reward, or see why it is 0.

1. read recorded texts, or take held-out passages, also damaged   data.preferences
2. compute each reward                                                 rl.registry
3. print a row for each text                                           report.table

It keeps nothing, so it has no folder. Of any experiment that names rewards:

  python -m lwz.launch --config=experiments/grpo_think.py:micro --config.stage=score
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl, types
from lwz import text as words
from lwz.data import formatted, preferences, templates
from lwz.data import prompts as prompt_lib
from lwz.report import table
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.rl import judged, registry
from lwz.runtime import setup, sources

READS = (
  *(*setup.READS, *setup.MESH, *setup.DOCUMENTS, *registry.READS, 'score', 'data.tested'),
  *('data.lower', 'data.upper', 'data.slack', 'data.style', *setup.COMPUTED, 'train.micro_rows'),
)


def check(c, rewards: registry.Given = None) -> None:
  registry.check_rewards(c, rewards)
  judged.check_prompts(c, [sample.prompt for _, sample in _texts(c)])


def run(c, rewards: registry.Given = None) -> None:
  mesh, (names, samples) = setup.mesh(c), zip(*_texts(c), strict=True)
  values = [_values(reward, samples) for reward in registry.rewards(c, mesh, rewards).values()]
  rows = [
    (
      *(name, words.count_words(sample.parsed.answer)),
      *(f'{sample.prompt.lower} to {sample.prompt.upper}', sample.parsed.fault or 'valid'),
      *map(float, rewards),
    )
    for name, sample, *rewards in zip(names, samples, *values, strict=True)
  ]
  header = ('text', 'words', 'asked', 'structure', *c.reward.weights)
  print(table.markdown('rewards; – where a judge failed', header, rows))


def _values(reward: components.Reward, samples: Sequence[components.Sample]) -> np.ndarray:
  """Returns a reward of every sample; siblings are those that answer the same prompt."""
  if reward.reads != 'group':
    return reward.values(samples, 1)
  values = np.zeros(len(samples))
  for prompt in {sample.prompt.text for sample in samples}:
    group = [i for i, sample in enumerate(samples) if sample.prompt.text == prompt]
    values[group] = reward.values([samples[i] for i in group], len(group))
  return values


def _texts(c) -> list[tuple[str, components.Sample]]:
  """Returns (name, sample) of each text of `score.texts`, or of held-out passages."""
  if not c.score.texts:
    return [(name, _sample(c, prompt, text)) for name, prompt, text in _passages(c)]
  path = epath.Path(c.score.texts)
  files = sorted(path.glob('samples/step-*.jsonl')) if path.is_dir() else [path]
  found = []
  for file in files:
    samples, _ = jsonl.read(file, functools.partial(_from_record, c))
    found += [(f'{file.stem}:{i}', sample) for i, sample in enumerate(samples, start=1)]
  if not found:
    raise ValueError(
      f'score.texts={path}: no texts; name a JSONL file, or the folder of a GRPO run, which keeps '
      'samples/step-*.jsonl'
    )
  return found


def _from_record(c, record: dict[str, Any]) -> components.Sample:
  lower, upper = (jsonl.field(record, name, int, c.data[name]) for name in ('lower', 'upper'))
  if not 0 < lower <= upper:
    raise ValueError(f'expected 0 < lower <= upper, in words, not {lower} and {upper}')
  prompt = types.Prompt(
    id='',
    text=jsonl.field(record, 'prompt', str, ''),
    lower=lower,
    upper=upper,
    criteria=prompt_lib.criteria(record),
    references=prompt_lib.references(record),
  )
  return _sample(c, prompt, jsonl.field(record, 'text', str))


def _sample(c, prompt: types.Prompt, text: str) -> components.Sample:
  return components.Sample(prompt, text, format_lib.parse(text, c.data.style))


def _passages(c) -> list[tuple[str, types.Prompt, str]]:
  """Returns held-out passages as answers in the output format, and damaged: once in each way."""
  documents, limits = sources.heldout(c)[0], {'lower': c.data.lower, 'upper': c.data.upper}
  asked = judged.guided(c, prompt_lib.from_documents(documents, **limits, slack=c.data.slack))
  prompts = {prompt.text: prompt for prompt in asked}
  pairs = preferences.from_documents(documents, **limits, seed=c.seed)
  # Of two documents with one title only the first has a prompt.
  chosen = {pair.source: pair for pair in reversed(pairs) if pair.prompt in prompts}
  found = []
  for kind, pair in sorted(chosen.items()):
    plan = formatted.plan(pair.chosen)
    for name, answer in (('original', pair.chosen), (kind, pair.rejected)):
      text = templates.completion(plan, answer, c.data.style)
      found.append((name, prompts[pair.prompt], text))
  _, prompt, text = found[0]
  return [*found, ('half of the text', prompt, text[: len(text) // 2]), ('no text', prompt, '')]
