"""Samples of a step, as JSON lines for programs and as Markdown for readers."""

import re
from typing import Any

from etils import epath

from lwz import jsonl
from lwz.store import atomic, record

KEYS = ('prompt', 'think', 'answer', 'text', 'valid', 'fault', 'words', 'lower', 'upper', 'rewards')


def write(folder: epath.PathLike, step: int, samples: list[dict[str, Any]]) -> None:
  """Writes `samples/step-000010.jsonl` and `.md` in the run's folder, replacing earlier ones.

  A sample has the keys `KEYS`: prompt, think (None in direct style), answer, text (the whole
  trajectory), valid, fault, words, lower, upper, and rewards, a dict from reward to score. Others
  are kept in the jsonl; `step` is added.

  Raises ValueError if a key is missing.
  """
  records = []
  for index, sample in enumerate(samples):
    if missing := [key for key in KEYS if key not in sample]:
      raise ValueError(f'sample {index} of step {step} has no {", ".join(missing)}')
    records.append(record.plain({**sample, 'step': int(step)}))
  target = epath.Path(folder) / 'samples'
  target.mkdir(parents=True, exist_ok=True)
  name = f'step-{step:06d}'
  pages = [_page(number, sample) for number, sample in enumerate(records, start=1)]
  atomic.write_text(target / f'{name}.md', '\n\n'.join([f'# Step {step}', *pages]) + '\n')
  atomic.write_text(target / f'{name}.jsonl', ''.join(map(record.encode, records)))


def read(folder: epath.PathLike) -> dict[int, list[dict[str, Any]]]:
  """Returns the samples of every step, steps in order."""
  found = {}
  target = epath.Path(folder) / 'samples'
  for path in target.iterdir() if target.exists() else ():
    if match := re.fullmatch(r'step-(\d+)\.jsonl', path.name):
      found[int(match[1])] = jsonl.read(path, skip='last')[0]
  return dict(sorted(found.items()))


def read_step(folder: epath.PathLike, step: int) -> list[dict[str, Any]]:
  """Returns the samples of a step, [] where it has none."""
  path = epath.Path(folder) / 'samples' / f'step-{step:06d}.jsonl'
  return jsonl.read(path, skip='last')[0] if path.exists() else []


def _page(number: int, sample: dict[str, Any]) -> str:
  verdict = 'valid' if sample['valid'] else f'not valid: {sample["fault"]}'
  title = f'{number}. {verdict}; {sample["words"]} words, asked for {sample["lower"]} to '
  parts = [f'## {title}{sample["upper"]}', _table(sample['rewards'])]
  parts += ['**Prompt**', sample['prompt']]
  if sample['think']:
    parts += ['**Think**', '\n'.join(f'> {line}'.rstrip() for line in sample['think'].splitlines())]
  # Without an answer (a broken structure) the whole text is shown.
  parts += ['**Answer**', sample['answer']] if sample['answer'] else ['**Text**', sample['text']]
  return '\n\n'.join(parts)


def _table(rewards: dict[str, float | None]) -> str:
  scores = ['-' if score is None else f'{score:.4f}' for score in rewards.values()]
  rows = [list(rewards), ['---'] * len(rewards), scores]
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)
