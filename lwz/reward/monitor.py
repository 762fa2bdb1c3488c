"""What a step's texts and scores say, as figures and as records to look at."""

from collections.abc import Sequence

import numpy as np

from lwz import types
from lwz.reward import compose, length


def measure(
  samples: Sequence[compose.Sample], scores: types.Scores, names: Sequence[str]
) -> dict[str, float]:
  """Figures of a step, by name.

  `reward/NAME` is the mean over all judged samples, those of broken structure included, at their
  floors; `valid_only/NAME` that over samples of valid structure. `spread/NAME` is the share of
  groups in which the component differs at all: only those teach it. `fault/NAME` is the share of
  samples with that fault. Figures of valid samples are absent where there are none.
  """
  R = len(names)
  judged_B = scores.valid.reshape(-1)
  values_BR = scores.values.reshape(-1, R)
  valid_B = np.array([s.parsed.valid for s in samples])
  words_B = np.array([length.count_words(s.parsed.answer) for s in samples])
  low_PR = np.where(scores.valid[:, :, None], scores.values, np.inf).min(axis=1)
  high_PR = np.where(scores.valid[:, :, None], scores.values, -np.inf).max(axis=1)
  out = {
    'valid_format': float(valid_B.mean()),
    'judge_failures': float(1.0 - judged_B.mean()),
    'words/lower': float(np.mean([s.prompt.lower for s in samples])),
    'words/upper': float(np.mean([s.prompt.upper for s in samples])),
  }
  for r, name in enumerate(names):
    if judged_B.any():
      out[f'reward/{name}'] = float(values_BR[judged_B, r].mean())
    if (judged_B & valid_B).any():
      out[f'valid_only/{name}'] = float(values_BR[judged_B & valid_B, r].mean())
    out[f'spread/{name}'] = float((high_PR[:, r] > low_PR[:, r]).mean())
  if 'valid_only/format' in out:
    out['redundancy'] = 1.0 - out['valid_only/format']
  if valid_B.any():
    out['words/answer'] = float(words_B[valid_B].mean())
    thoughts = [length.count_words(s.parsed.think) for s in samples if s.parsed.valid]
    out['words/think'] = float(np.mean(thoughts))
  for fault in sorted({s.parsed.fault for s in samples} - {''}):
    out[f'fault/{fault}'] = float(np.mean([s.parsed.fault == fault for s in samples]))
  return out


def show(
  samples: Sequence[compose.Sample], scores: types.Scores, names: Sequence[str], *, num: int
) -> list[dict]:
  """`num` samples, spread evenly over the step, as records for files and reports.

  The rewards of a sample that a judge failed on are None.
  """
  values_BR = scores.values.reshape(-1, len(names))
  judged_B = scores.valid.reshape(-1)
  num = min(num, len(samples))
  chosen = [i * len(samples) // num for i in range(num)]
  return [
    {
      'prompt': samples[b].prompt.text,
      'think': samples[b].parsed.think or None,
      'answer': samples[b].parsed.answer,
      'text': samples[b].text,
      'valid': samples[b].parsed.valid,
      'fault': samples[b].parsed.fault,
      'words': length.count_words(samples[b].parsed.answer),
      'lower': samples[b].prompt.lower,
      'upper': samples[b].prompt.upper,
      'rewards': {
        name: float(values_BR[b, r]) if judged_B[b] else None for r, name in enumerate(names)
      },
    }
    for b in chosen
  ]
