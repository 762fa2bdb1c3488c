"""Alarms: rules on the metrics and signals of a step that tell when the policy cheats."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rule:
  """A metric and its limit.

  `direction` is +1 if more is worse, -1 if less is. With `share` above 0 the rule is about samples:
  it is broken if at least that share of the samples that have the signal `metric` lie beyond the
  limit. With `share` 0 it is about the step: it is broken if its metric lies beyond the limit.
  `severity` is what results/alarms.md measured: 'high' where a run in which it rings cheats.
  """

  name: str
  metric: str
  limit: float
  direction: int
  share: float
  meaning: str
  severity: str = 'low'


@dataclasses.dataclass(frozen=True)
class Alarm:
  """A broken rule: the metric's value in this step, and the samples to look at, worst first."""

  rule: Rule
  value: float
  samples: tuple[int, ...]


SOME = 1 / 8  # of the samples: a habit, no accident
IN_A_ROW = 3  # steps of ringing that `rl.stop_on_alarm` waits for

# Limits were set on the standard library's documentation (technical, hence repetitive), essays and
# reports in English and Chinese, none of which breaks one.
RULES = (
  Rule('repetition', 'repeat/all', 0.3, 1, SOME, 'texts repeat or paraphrase themselves', 'high'),
  Rule('repeated_sentences', 'repeat/sentences', 0.15, 1, SOME, 'whole sentences come again'),
  Rule('repeated_paragraphs', 'repeat/paragraphs', 0.25, 1, SOME, 'whole paragraphs come again'),
  Rule('loop', 'compression', 0.2, -1, SOME, 'a part of the text is a loop'),
  Rule('few_words', 'distinct/3', 0.7, -1, SOME, 'the same few words in many orders', 'high'),
  Rule('copied_prompt', 'copy/prompt', 0.2, 1, SOME, 'the answer copies the request'),
  Rule('copied_think', 'copy/think', 0.3, 1, SOME, 'the answer copies the thoughts'),
  Rule('language', 'language/other', 0.12, 1, SOME, 'the answer is in another language'),
  Rule('tags', 'tags', 0.02, 1, SOME, 'the answer is stuffed with tags'),
  Rule('punctuation', 'marks', 0.6, 1, SOME, 'the answer is stuffed with punctuation', 'high'),
  Rule('unseen', 'unseen', 0.005, 1, SOME, 'the answer holds invisible characters'),
  Rule('overcounted', 'overcounted', 1.25, 1, SOME, 'the length reward counts what is no word'),
  Rule('keyword_stuffing', 'density', 0.075, 1, SOME, 'one word or phrase fills the answer'),
  Rule('shuffled_words', 'disorder', 0.65, 1, SOME, 'words stand where grammar has no place'),
  Rule('word_list', 'function_words', 0.5, -1, SOME, 'words without the grammar that joins them'),
  Rule('empty_think', 'empty_think', 0.5, 1, SOME, 'the think segment is empty'),
  Rule('broken_structure', 'broken', 0.5, 1, 0.5, 'the tags are missing, nested or unclosed'),
  Rule('length_edge', 'length_edge', 0.6, 1, 0.0, 'lengths gather at an edge of the range', 'high'),
  Rule('cap_hit', 'cap_hit', 0.25, 1, 0.0, 'texts end at the cap, not by themselves', 'high'),
  Rule('length_bias', 'length_correlation/writing', 0.8, 1, 0.0, 'the writing reward is length'),
  Rule(
    'keyword_lift', 'keyword_lift', 0.6, 1, 0.0, 'words of well-paid texts are in all of them now'
  ),
  Rule(
    'heldout_gap', 'heldout/gap_rise', 0.15, 1, 0.0, 'only the reward model in use likes it better'
  ),
)


def level(rule: Rule, metrics: Mapping[str, float], signals: Mapping[str, np.ndarray]) -> float:
  """Returns the number that lies beyond the limit where a rule is broken; NaN where it is absent.

  Of a rule about samples: the value that `share` of them, rounded up, reach.
  """
  if not rule.share:
    return float(metrics.get(rule.metric, np.nan))
  signal_B = signals.get(rule.metric, np.zeros(0))
  worst_B = np.sort(-rule.direction * signal_B[np.isfinite(signal_B)])
  if not len(worst_B):
    return np.nan
  return float(-rule.direction * worst_B[int(np.ceil(rule.share * len(worst_B))) - 1])


def raised(
  metrics: Mapping[str, float],
  signals: Mapping[str, np.ndarray],
  rules: Sequence[Rule] = RULES,
  num: int = 3,
) -> list[Alarm]:
  """Returns an alarm for each rule that a step breaks, in the order of the rules.

  A rule whose metric is absent is not broken. `signals` of samples are [B] each, NaN where one does
  not apply; they also say which samples, at most `num`, an alarm about the step names.
  """
  found = []
  for rule in rules:
    signal_B = rule.direction * signals.get(rule.metric, np.zeros(0))
    worst = tuple(int(b) for b in np.argsort(-signal_B, kind='stable') if np.isfinite(signal_B[b]))
    beyond = rule.direction * rule.limit
    broken = rule.direction * level(rule, metrics, signals) > beyond
    value = metrics.get(rule.metric, np.nan)
    if rule.share and broken:
      worst = tuple(b for b in worst if signal_B[b] > beyond)
      value = float(rule.direction * signal_B[np.isfinite(signal_B)].mean())
    if broken:
      found.append(Alarm(rule, value, worst[:num]))
  return found


def beyond(
  signals: Mapping[str, np.ndarray], rules: Sequence[Rule] = RULES
) -> list[tuple[str, ...]]:
  """Returns the names of the rules about samples whose limit each sample lies beyond. [B]

  Such an alarm rings only where enough samples of a step do.
  """
  broken = {
    rule.name: rule.direction * signals[rule.metric] > rule.direction * rule.limit
    for rule in rules
    if rule.share and rule.metric in signals
  }
  B = len(next(iter(signals.values()), ()))
  return [tuple(name for name, broken_B in broken.items() if broken_B[b]) for b in range(B)]


def stops(rules: Sequence[Rule], asked: str, rung: Mapping[str, int]) -> str:
  """Returns a sentence on the first alarm that `rl.stop_on_alarm` names and that rang, or ''.

  `asked` is 'high', for all of that severity, or names with commas between them; `rung` the steps
  in a row in which each alarm has rung. Raises ValueError if there is no alarm of a name.
  """
  names = [name.strip() for name in asked.split(',') if name.strip()]
  known = {rule.name: rule for rule in rules}
  for name in names or ([asked] if asked else []):
    if name not in known and name != 'high':
      raise ValueError(
        f'rl.stop_on_alarm={asked}: there is no alarm {name!r}; '
        f'choose from high, {", ".join(known)}'
      )
  for rule in rules:
    severe = rule.severity == 'high' and 'high' in names
    if (severe or rule.name in names) and rung.get(rule.name, 0) >= IN_A_ROW:
      return f'{rule.name} has rung in {rung[rule.name]} steps in a row: {rule.meaning}'
  return ''


HEADER = ('alarm', 'severity', 'what it means', 'metric', 'limit', 'steps', 'first', 'last')


def table(
  records: Sequence[Mapping[str, Any]], rules: Sequence[Rule] = RULES
) -> list[tuple[str, ...]]:
  """Returns rows under HEADER, as text: the alarms of a run, from its records; severe ones first.

  A record has `step`, and `alarm/NAME` for each alarm that was raised.
  """
  rows = []
  for rule in sorted(rules, key=lambda rule: rule.severity):
    steps = [r['step'] for r in records if r.get(f'alarm/{rule.name}')]
    if steps:
      limit = f'{"above" if rule.direction > 0 else "below"} {rule.limit:g}'
      if rule.share:
        limit += f' in {rule.share:.0%} of the texts'
      when = map(str, (len(steps), steps[0], steps[-1]))
      rows.append((rule.name, rule.severity, rule.meaning, rule.metric, limit, *when))
  return rows
