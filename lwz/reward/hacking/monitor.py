"""Monitoring of a step's texts and scores: metrics, alarms, and records to look at."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lwz import types
from lwz.reward import components, length
from lwz.reward.hacking import alarms as alarms_lib
from lwz.reward.hacking import keyword_lift, signals

EDGE = 0.05  # of a range's width at either end: its edge
MANY = 16  # samples below which a correlation is chance
CROWD = 4  # samples below which lengths gather nowhere


@dataclasses.dataclass(frozen=True)
class Observation:
  """The monitor's results for a step.

  `metrics` has every metric by name, and `alarm/NAME` 1.0 for each alarm; `keywords` are the words
  that rose most, with their rise; `state` goes into the next step's `observe`. `new_alarms` are
  those that were not raised in the step before. `beyond` names the rules that each sample breaks.
  """

  metrics: dict[str, float]
  alarms: list[alarms_lib.Alarm]
  new_alarms: list[alarms_lib.Alarm]
  keywords: list[tuple[str, float]]
  state: dict[str, Any]
  beyond: list[tuple[str, ...]]


def observe(
  samples: Sequence[components.Sample],
  scores: types.Scores,
  names: Sequence[str],
  *,
  state: Mapping[str, Any],
  finished_B: np.ndarray | None = None,
  heldout_B: np.ndarray | None = None,
  heldout_of: str = '',
  rules: Sequence[alarms_lib.Rule] = alarms_lib.RULES,
) -> Observation:
  """Returns `measure`, the signals of cheating in the texts, and the alarms.

  `state` is that of the step before, JSON for a checkpoint; `{}` begins a run. Without
  `finished_B`, whether each text ended by itself, `cap_hit` is absent. `heldout_B` are rewards in
  [0, 1] of a reward model that trains nothing, NaN where it failed, compared with the reward
  `heldout_of`: their gap, against that of the first steps, is how far the policy exploits the
  reward model in use.
  """
  words_B = np.array([length.count_words(s.parsed.answer) for s in samples], np.float64)
  values_BR = np.where(scores.valid[:, :, None], scores.values, np.nan).reshape(-1, len(names))
  reward_by = dict(zip(names, values_BR.T.astype(np.float64), strict=True))
  lifted = keyword_lift.update(state.get('lift', {}), _favourites(samples, scores))
  keywords = keyword_lift.risen(lifted)
  if heldout_B is not None:  # broken samples have the floor of both
    heldout_B = np.where([s.parsed.valid for s in samples], heldout_B, np.nan)
  heldout, kept = _heldout(reward_by.get(heldout_of), heldout_B, state.get('heldout', {}))

  signals_by = signals.measure(samples)
  metrics = measure(samples, scores, names) | heldout
  metrics |= _edges(samples, words_B)
  for name, reward_B in reward_by.items():
    if (value := correlation(reward_B, words_B)) is not None:
      metrics[f'length_correlation/{name}'] = value
      signals_by[f'length_correlation/{name}'] = words_B
  if finished_B is not None:
    signals_by |= {'eos': np.asarray(finished_B, np.float64)}
    signals_by |= {'cap_hit': 1.0 - signals_by['eos']}
  if keywords:
    metrics['keyword_lift'] = keywords[0][1]
    signals_by['keyword_lift'] = _uses(samples, [word for word, _ in keywords[:3]])
  for name, signal_B in signals_by.items():
    if name not in metrics and np.isfinite(signal_B).any():
      metrics[name] = float(np.nanmean(signal_B))
  raised = alarms_lib.raised(metrics, signals_by, rules)
  metrics |= {f'alarm/{alarm.rule.name}': 1.0 for alarm in raised}
  before = state.get('rung', {})  # steps in a row, by alarm
  rung = {alarm.rule.name: before.get(alarm.rule.name, 0) + 1 for alarm in raised}
  new = [alarm for alarm in raised if rung[alarm.rule.name] == 1]
  state = {'lift': lifted, 'heldout': kept, 'rung': rung}
  beyond = alarms_lib.beyond(signals_by, rules)
  return Observation(metrics, raised, new, keywords, state, beyond)


def correlation(a_B: np.ndarray, b_B: np.ndarray) -> float | None:
  """Returns Pearson's correlation of the finite pairs; None below MANY pairs or without spread."""
  both_B = np.isfinite(a_B) & np.isfinite(b_B)
  a_B, b_B = a_B[both_B], b_B[both_B]
  if len(a_B) < MANY or np.ptp(a_B) < 1e-9 or np.ptp(b_B) < 1e-9:
    return None
  return float(np.corrcoef(a_B, b_B)[0, 1])


def _edges(samples: Sequence[components.Sample], words_B: np.ndarray) -> dict[str, float]:
  """Returns the shares of valid answers whose lengths lie at the lower and at the upper edge."""
  distances = [
    (abs(n - s.prompt.lower) <= reach, abs(n - s.prompt.upper) <= reach)
    for s, n in zip(samples, words_B, strict=True)
    if s.parsed.valid and s.prompt.upper > s.prompt.lower
    for reach in [max(1.0, EDGE * (s.prompt.upper - s.prompt.lower))]
  ]
  if len(distances) < CROWD:
    return {}
  lower, upper = np.mean(distances, axis=0).tolist()
  return {'edge/lower': lower, 'edge/upper': upper, 'length_edge': max(lower, upper)}


def _favourites(samples: Sequence[components.Sample], scores: types.Scores) -> list[set[str]]:
  """Returns, for each request with judged answers, the favourites of the better half of them."""
  found = []
  G = scores.values.shape[1]
  for p, (values_GR, judged_G) in enumerate(zip(scores.values, scores.valid, strict=True)):
    group = [(float(values_GR[g].mean()), samples[p * G + g]) for g in range(G) if judged_G[g]]
    group = [pair for pair in group if pair[1].parsed.answer.strip()]
    group.sort(key=lambda pair: -pair[0])
    best = [sample.parsed.answer for _, sample in group[: -(-len(group) // 2)]]
    if best:
      found.append(keyword_lift.favourites(samples[p * G].prompt.text, best))
  return found


def _uses(samples: Sequence[components.Sample], keywords: Sequence[str]) -> np.ndarray:
  """Returns the number of uses of the keywords in each answer."""
  return np.array([sum(s.text.lower().count(word) for word in keywords) for s in samples], float)


def _heldout(
  reward_B: np.ndarray | None, heldout_B: np.ndarray | None, state: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns the metrics of the gap between the two, and the gap of the first steps."""
  if reward_B is None or heldout_B is None:
    return {}, dict(state)
  both_B = np.isfinite(reward_B) & np.isfinite(heldout_B)
  if not both_B.any():
    return {}, dict(state)
  gap = float(np.mean(reward_B[both_B] - heldout_B[both_B]))
  metrics = {'heldout/mean': float(np.mean(heldout_B[both_B])), 'heldout/gap': gap}
  if (value := correlation(reward_B, heldout_B)) is not None:
    metrics['heldout/correlation'] = value
  steps, first = state.get('steps', 0), state.get('gap', 0.0)
  if steps:
    metrics['heldout/gap_rise'] = gap - first
  if steps < keyword_lift.START:
    return metrics, {'steps': steps + 1, 'gap': (first * steps + gap) / (steps + 1)}
  return metrics, dict(state)


def measure(
  samples: Sequence[components.Sample], scores: types.Scores, names: Sequence[str]
) -> dict[str, float]:
  """Returns the metrics of a step, by name.

  `reward/NAME` is the mean over all judged samples, those of broken structure included, at their
  floors; `valid_only/NAME` that over samples of valid structure. `spread/NAME` is the share of
  groups in which the reward differs at all: only those are informative. `fault/NAME` is the share
  of samples with that fault. Metrics of valid samples are absent if there are none.
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
  samples: Sequence[components.Sample], scores: types.Scores, names: Sequence[str], *, num: int
) -> list[dict]:
  """Returns `num` samples, spread evenly over the step, as records for files and reports.

  The rewards of a sample that a judge failed on are None.
  """
  num = min(num, len(samples))
  chosen = [i * len(samples) // num for i in range(num)]
  return [_record(samples[b], scores, names, b) for b in chosen]


def worst(
  samples: Sequence[components.Sample],
  scores: types.Scores,
  names: Sequence[str],
  alarms: Sequence[alarms_lib.Alarm],
) -> list[dict]:
  """Returns the samples that alarms name, as records of `show` with `alarms`, their names."""
  blamed: dict[int, list[str]] = {}
  for alarm in alarms:
    for b in alarm.samples:
      blamed.setdefault(b, []).append(alarm.rule.name)
  return [_record(samples[b], scores, names, b) | {'alarms': by} for b, by in blamed.items()]


def _record(
  sample: components.Sample, scores: types.Scores, names: Sequence[str], index: int
) -> dict[str, Any]:
  judged = bool(scores.valid.reshape(-1)[index])
  values_R = scores.values.reshape(-1, len(names))[index]
  return {
    'prompt': sample.prompt.text,
    'think': sample.parsed.think or None,
    'answer': sample.parsed.answer,
    'text': sample.text,
    'valid': sample.parsed.valid,
    'fault': sample.parsed.fault,
    'words': length.count_words(sample.parsed.answer),
    'lower': sample.prompt.lower,
    'upper': sample.prompt.upper,
    'rewards': {
      name: float(value) if judged else None for name, value in zip(names, values_R, strict=True)
    },
  }
