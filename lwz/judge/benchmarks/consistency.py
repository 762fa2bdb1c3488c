"""Contradictions per 10,000 words, in two passes of the judge; see `evals.consistency`."""

import collections
import functools
import json
from typing import Any

import numpy as np
from etils import epath

from lwz import text as texts
from lwz.evals import arena, consistency, position, ratings, statements
from lwz.judge import benchmarks
from lwz.judge import judge as judge_lib
from lwz.report import number
from lwz.store import atomic, record

CONFLICTS = 'conflicts.jsonl'
FORMS = ('{"facts": [...]} as asked', '{"conflicts": [...]} as asked')
SHOWN = 50  # conflicts in the report


def make(c) -> list[dict[str, Any]]:
  return benchmarks.titles(c)


def load(c, path: epath.Path) -> benchmarks.Loaded:
  return benchmarks.tasks(c, path)


def report(c, folder, tasks: list[arena.Task], names, answered, kept) -> dict[str, Any]:
  """Returns the density by class; conflicts.jsonl has every pair of quotations with its places."""
  texts_of = {
    (name, task.idx): answered[name][task.idx]
    for name in names
    for task in tasks
    if task.idx in answered[name]
  }
  found, read, stats = _find(c, texts_of, kept)
  words = {key: len(texts.words(text)) for key, text in texts_of.items()}
  lines = []
  for (name, idx), conflicts in found.items():
    for one in conflicts:
      both = {'first': one.first._asdict(), 'second': one.second._asdict()}
      lines.append({'system': name, 'index': idx, 'class': one.kind, 'why': one.why, **both})
  atomic.write_text(folder / CONFLICTS, ''.join(map(record.encode, lines)))
  results, rows, plot = {}, [], []
  for name in names:
    keys = [key for key in found if key[0] == name]
    nums = np.array([len(found[key]) for key in keys], float)
    of_words = np.array([read[key] for key in keys], float)
    low, high = _interval(nums, of_words, c.seed)
    kinds = collections.Counter(one.kind for key in keys for one in found[key])
    total = int(of_words.sum())
    by_class = {kind: consistency.density(kinds[kind], total) for kind in consistency.CLASSES}
    mean = consistency.density(int(nums.sum()), total)
    pairs = [(one, words[key]) for key in keys for one in found[key]]
    at = [
      _median([one.first.before / num for one, num in pairs]),
      _median([one.second.before / num for one, num in pairs]),
    ]
    results[name] = {
      **{'density': mean, 'low': low, 'high': high, 'words': total, 'texts': len(keys)},
      **{
        'conflicts': int(nums.sum()),
        'by class': by_class,
        'fact at': at[0],
        'conflict at': at[1],
      },
    }
    interval = number.interval(low, high)
    rows.append((name, mean, interval, int(nums.sum()), len(keys), total, *by_class.values(), *at))
    plot.append((name, mean, low, high))
  header = ('system', 'per 10,000 words', '95 %', 'conflicts', 'texts', 'words read')
  quoted = [
    (r['system'], r['index'], r['class'], r['first']['quotation'], r['second']['quotation'])
    for r in lines[:SHOWN]
  ]
  columns = (*header, *consistency.CLASSES, 'fact at', 'contradicted at')
  return {
    'facts': stats['facts'],
    'scores': results,
    'faults': stats['faults'],
    'tables': [
      ('contradictions', columns, rows),
      ('what contradicts what', ('system', 'index', 'class', 'first', 'then'), quoted),
    ],
    'plot': plot,
    'unit': 'contradictions per 10,000 words, 95 % interval over texts',
    'covers': (0.0, 2.0),
    'lower_is_better': True,
  }


def _find(
  c, texts_of, kept
) -> tuple[dict[Any, list[consistency.Conflict]], collections.Counter, dict[str, Any]]:
  """Both passes over all texts, and the words of each that were asked about.

  A text of which a question has no verdict is masked.
  """
  windows = [
    (key, window)
    for key, text in texts_of.items()
    for window in position.windows(text, consistency.SIZE, consistency.MOST)
  ]
  read: collections.Counter = collections.Counter()
  for key, window in windows:
    read[key] += window.words
  questions = [
    judge_lib.Question(
      consistency.fact_messages(window), functools.partial(_facts_by_rules, window.text)
    )
    for _, window in windows
  ]
  again = [judge_lib.ask_in(form) for form in FORMS]
  first = judge_lib.ask(c, questions, consistency.read_facts, kept, again=again[0])
  facts: dict[Any, list[consistency.Fact]] = {key: [] for key in texts_of}
  lost, dropped = set(), 0
  for (key, window), said in zip(windows, first.values, strict=True):
    if said is None:
      lost.add(key)
      continue
    inside, out = consistency.located(window, said)
    facts[key], dropped = facts[key] + inside, dropped + out
  batches = [(key, b) for key, of in facts.items() for b in consistency.batches(of)]
  questions = [
    judge_lib.Question(
      consistency.conflict_messages(batch), functools.partial(_conflicts_by_rules, batch)
    )
    for _, batch in batches
  ]
  second = judge_lib.ask(c, questions, consistency.read_conflicts, kept, again=again[1])
  found: dict[Any, list[consistency.Conflict]] = {key: [] for key in texts_of}
  for (key, batch), said in zip(batches, second.values, strict=True):
    if said is None:
      lost.add(key)
    else:
      found[key] += consistency.conflicts(batch, said)
  counts = [said.counts('questions') for said in (first, second)]
  facts_of = {name: counts[0][name] + counts[1][name] for name in counts[0]}
  facts_of |= {
    'facts': sum(map(len, facts.values())),
    'quotations that do not stand in the text': dropped,
    'texts without a verdict': len(lost),
  }
  faults = sorted({*first.faults.values(), *second.faults.values()})
  kept_texts = {key: of for key, of in found.items() if key not in lost}
  return kept_texts, read, {'facts': facts_of, 'faults': faults}


def _facts_by_rules(text: str) -> str:
  return _said('facts', statements.facts(text)[: consistency.FACTS])


def _conflicts_by_rules(batch) -> str:
  return _said('conflicts', statements.conflicts(batch)[: consistency.CONFLICTS])


def _said(name: str, found: list[dict[str, str]]) -> str:
  """Returns the reply of rules, of no more than is read: a longer one would be endless."""
  return json.dumps({name: found}, ensure_ascii=False)


def _interval(nums: np.ndarray, words: np.ndarray, seed: int) -> tuple[float, float]:
  """The 95 % interval of all conflicts over all words, from a bootstrap over texts."""
  if len(nums) < 2:
    return float('nan'), float('nan')
  samples = ratings.resample(len(nums), 1000, seed)
  totals = np.maximum(words[samples].sum(1), 1.0)
  low, high = ratings.interval(10_000 * nums[samples].sum(1) / totals)
  return float(low), float(high)


def _median(places: list[float]) -> float:
  return float(np.median(places)) if places else float('nan')
