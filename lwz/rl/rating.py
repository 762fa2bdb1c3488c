"""Metrics of the answers of an evaluation: their rating by the judge, and what needs no judge."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lwz.evals import anchors, answers, arena, plan, position, standings
from lwz.judge import contest, diversity, inside, journal
from lwz.reward import format as format_lib
from lwz.reward import length
from lwz.rl import referee

_BY_MODELS = {  # (the sign of what is worse, title)
  'referee': (-1, 'score of each window by the referee'),
  'surprise': (1, 'nats per token, by the first model'),
}
MEASURES = {**inside.MEASURES, 'plan': inside.PLAN}
POSITIONS = {name: measure.title for name, measure in MEASURES.items()}
POSITIONS |= {name: title for name, (_, title) in _BY_MODELS.items()}


def of(
  c,
  tasks: Sequence[arena.Task],
  answered: Mapping[str, Mapping[int, Mapping[str, Any]]],
  kept: journal.ReplyJournal,
) -> tuple[dict[str, dict[str, float]], float]:
  """Returns the ratings of each mode against the baselines, and the share of failed questions."""
  texts = {
    _player(mode): {idx: answers.final(reply['text']) for idx, reply in replies.items()}
    for mode, replies in answered.items()
  }
  fixed = _fixed(c, tasks, kept)
  met, judged = contest.judge(c, tasks, texts, kept, rivals=False, quiet=True)
  found, _ = standings.pairings(met, judged.values)
  rated = {mode: anchors.rate(found, _player(mode), fixed, c.seed) for mode in answered}
  return rated, len(judged.faults) / max(len(met), 1)


def _player(mode: str) -> str:
  return f'policy, {mode}'


def _fixed(c, tasks: Sequence[arena.Task], kept) -> dict[str, float]:
  """Returns the rating of each baseline, from comparisons among them alone; their mean is 1000."""
  names = list(dict.fromkeys(name for task in tasks for name in task.baselines))
  if len(names) < 2:
    return dict.fromkeys(names, 1000.0)
  texts = {n: {t.idx: t.baselines[n] for t in tasks if n in t.baselines} for n in names}
  alone = [dataclasses.replace(task, baselines={}) for task in tasks]
  matches, judged = contest.judge(c, alone, texts, kept, rivals=True, quiet=True)
  found, _ = standings.pairings(matches, judged.values)
  return {row['player']: row['rating'] for row in standings.rate(found, names, c.seed)}


def described(
  answered: Mapping[int, Mapping[str, Any]], prompts: Mapping[int, str], style: str
) -> dict[str, Any]:
  """Returns the metrics of answers that need no judge, `judge.diversity`'s among them."""
  replies = list(answered.values())
  parsed = [format_lib.parse(reply['text'], style) for reply in replies]
  words = [length.count_words(answers.final(reply['text'])) for reply in replies]
  finished = [num for num, reply in zip(words, replies, strict=True) if reply['finished']]
  return {
    'words': float(np.mean(words)),
    'words_finished': float(np.mean(finished)) if finished else float('nan'),
    'think': float(np.mean([length.count_words(p.think) for p in parsed])),
    'finished': len(finished) / len(words),
    'plan': referee.mean(np.array([plan.following(p.think, p.answer) for p in parsed if p.valid])),
    'valid_format': float(np.mean([p.valid for p in parsed])),
    **diversity.measure({i: answers.final(r['text']) for i, r in answered.items()}, prompts),
  }


def within(
  c,
  answered: Mapping[int, Mapping[str, Any]],
  prompts: Mapping[int, str],
  by_models: Mapping[str, Mapping[int, position.Scored]],
) -> dict[str, Any]:
  """Returns `eval/fall/MEASURE` of each of `POSITIONS`, and their means over position.

  `by_models` is of `Referee.within`, {} without one: then its measures are left out. A measure that
  no answer has is left out of `positions`.
  """
  texts = {i: answers.final(reply['text']) for i, reply in answered.items()}
  thoughts = {i: answers.thought(reply['text']) for i, reply in answered.items()}
  given = answers.Answers(texts, {}, thoughts=thoughts)
  found: dict[str, Any] = {'positions': {}}
  scored_by: dict[str, tuple[Mapping[int, position.Scored], int]] = {
    name: (inside.scored(given, measure, c.eval.window, prompts), measure.worse)
    for name, measure in MEASURES.items()
  }
  scored_by |= {name: (of, _BY_MODELS[name][0]) for name, of in by_models.items()}
  for name, (scored, worse) in scored_by.items():
    found[f'eval/fall/{name}'] = position.fall(scored, worse, c.seed).value
    means = position.means(scored.values())
    if np.isfinite(means).any():
      found['positions'][name] = means
  return found
