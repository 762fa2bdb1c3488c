"""LongBench-Write: the judge's six dimensions, with the length score, by type and length."""

import functools
import json
from typing import Any

import numpy as np
from etils import epath

from lwz.evals import arena, lengths, longbench, offline, standings
from lwz.judge import benchmarks
from lwz.judge import judge as judge_lib
from lwz.report import number
from lwz.store import atomic, record


def make(c) -> list[dict[str, Any]]:
  """Held-out titles in the schema of the benchmark."""
  rows = benchmarks.titles(c)
  return [
    {'index': r['idx'], 'prompt': r['question'], 'type': r['type'], 'length': r['length']}
    for r in rows
  ]


def load(c, path: epath.Path) -> benchmarks.Loaded:
  """Reads longbench_write.jsonl: prompt, type, length; or its folder, with judge.txt."""
  file = path / 'longbench_write.jsonl' if path.is_dir() else path
  loaded = benchmarks.tasks(c, file)
  return loaded._replace(content=(loaded.content, *longbench.prompt(path)))


def report(c, folder, content, names, answered, kept) -> dict[str, Any]:
  """Returns S_q, S_l and their mean S by system, type and length."""
  tasks, prompt, source = content
  asked = [(name, task) for name in names for task in tasks if task.idx in answered[name]]
  questions = [_question(prompt, task, answered[name][task.idx]) for name, task in asked]
  again = judge_lib.ask_in(longbench.FORM)
  judged = judge_lib.ask(c, questions, longbench.read, kept, again=again)
  lines = [
    {
      **{'index': task.idx, 'prompt': task.question, 'system': name, 'scores': scores},
      **{'reply': judged.replies[i], 'fault': judged.faults.get(i, '')},
      'answers': benchmarks.digest(answered[name][task.idx]),
    }
    for i, ((name, task), scores) in enumerate(zip(asked, judged.values, strict=True))
  ]
  atomic.write_text(folder / benchmarks.JUDGEMENTS, ''.join(map(record.encode, lines)))
  found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in names}
  for (name, task), scores in zip(asked, judged.values, strict=True):
    if scores:
      found[name][task.idx] = scores
  results: dict[str, Any] = {}
  rows, plot = [], []
  for name in names:
    for group, inside in _groups(tasks).items():
      scores = _scores(inside, found[name], answered[name], c.seed)
      results.setdefault(name, {})[group] = scores
      between = number.interval(scores['low'], scores['high'])
      dimensions = (scores[dimension] for dimension in longbench.DIMENSIONS)
      means = (scores['S'], scores['S_l'], scores['S_q'])
      rows.append((name, group, *means, between, scores['judged'], *dimensions))
    whole = results[name]['all']
    plot.append((name, whole['S_q'], whole['low'], whole['high']))
  header = ('system', 'group', 'S', 'S_l', 'S_q', '95 % of S_q', 'judged', *longbench.DIMENSIONS)
  return {
    'facts': {
      'prompt of the judge': source,
      'sampling of the judge': ', '.join(f'{k} {v}' for k, v in judge_lib.sampling(c).items()),
      **judged.counts('judgements'),
    },
    'scores': results,
    'faults': sorted(set(judged.faults.values())),
    'tables': [('LongBench-Write', header, rows)],
    'plot': plot,
    'unit': 'quality score S_q, 0 to 100, 95 % interval over requests',
    'covers': (0.0, 100.0),
  }


def _question(prompt: str, task: arena.Task, answer: str) -> judge_lib.Question:
  by_rules = functools.partial(_by_rules, task.question, answer, task.length)
  worst = dict.fromkeys(longbench.DIMENSIONS, longbench.LOWEST)
  messages = longbench.messages(prompt, task.question, answer)
  return judge_lib.Question(messages, by_rules, given=None if answer.strip() else worst)


def _by_rules(question: str, answer: str, length: int) -> str:
  value = offline.quality(question, answer, length, judge_lib.RULES)
  return json.dumps(dict.fromkeys(longbench.DIMENSIONS, 1 + round(4 * value)))


def _groups(tasks: list[arena.Task]) -> dict[str, list[arena.Task]]:
  """Returns the tasks by group: all, each type, each of LongBench-Write's groups of lengths."""
  groups = {'all': tasks}
  for task in tasks:
    groups.setdefault(f'type: {task.kind}', []).append(task)
  for task in sorted(tasks, key=lambda task: task.length):
    groups.setdefault(f'words: {standings.length_group(task.length)}', []).append(task)
  return groups


def _scores(tasks, found, answers, seed) -> dict[str, float]:
  """Returns the scores of a group: S = (S_l + S_q) / 2, each a mean over what it has."""
  scores = [found[task.idx] for task in tasks if task.idx in found]
  asked = {task.idx: task.length for task in tasks}
  out = longbench.quality(scores)
  inside = {idx: text for idx, text in answers.items() if idx in asked}
  out['S_l'] = lengths.metrics(asked, inside)['S_l']
  out |= {'S': (out['S_l'] + out['S_q']) / 2, 'judged': len(scores)}
  means = np.array([25 * (np.mean(list(of.values())) - 1) for of in scores])
  _, out['low'], out['high'] = standings.clustered_mean(means, range(len(means)), seed)
  return out
