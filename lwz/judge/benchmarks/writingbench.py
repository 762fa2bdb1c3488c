"""WritingBench (paper, Table 1): answers marked from 1 to 10 by the criteria of each query."""

import functools
from typing import Any

import numpy as np
from etils import epath

from lwz.data import heldout_tasks
from lwz.data.funnel import stated_length
from lwz.evals import marks, offline, standings, writingbench
from lwz.judge import benchmarks
from lwz.judge import judge as judge_lib
from lwz.report import number
from lwz.store import atomic, record

# How the critic of each version is sampled, as published; a value in the config comes first.
CRITIC = {'v1': {'temperature': 0.7, 'top_p': 0.8}, 'later': {'temperature': 1.0, 'top_p': 0.95}}


def make(c) -> list[dict[str, Any]]:
  return benchmarks.titles(c, heldout_tasks.writingbench)


def load(c, path: epath.Path) -> benchmarks.Loaded:
  """Raises ValueError if the file or folder holds no benchmark."""
  bench = writingbench.load(path)
  queries = bench.queries[: c.eval.prompts or None]
  prompts = {query.index: query.text for query in queries}
  left_out = len(bench.queries) - len(queries)
  asked = {index: benchmarks.asked_words(text) for index, text in prompts.items()}
  return benchmarks.Loaded(bench, prompts, list(bench.rejects), left_out, set(), asked)


def report(c, folder, bench, names, answered, kept) -> dict[str, Any]:
  """Returns scores by system, and writes the score files in the benchmark's own schema."""
  c = c.copy_and_resolve_references()
  for key, value in CRITIC[bench.version].items():
    if c.judge[key] is None:
      c.judge[key] = value
  asked = [
    (name, query, criterion)
    for name in names
    for query in bench.queries
    if query.index in answered[name]
    for criterion in query.criteria
  ]

  def question(name: str, query: writingbench.Query, criterion) -> judge_lib.Question:
    text = answered[name][query.index]
    stated = stated_length.find(query.text)
    words = stated.high if stated else 0
    by_rules = functools.partial(offline.mark, query.text, text, words, judge_lib.RULES)
    given = None if text.strip() else marks.Mark(1, 'the answer is empty')
    messages = writingbench.messages(bench, query, criterion, text)
    return judge_lib.Question(messages, by_rules, given=given)

  again = judge_lib.ask_in('{"score": an integer from 1 to 10, "reason": "one sentence"}')
  questions = [question(*item) for item in asked]
  judged = judge_lib.ask(c, questions, marks.read, kept, again=again)
  scores: dict[str, dict[int, dict[str, marks.Mark]]] = {name: {} for name in names}
  for (name, query, criterion), mark in zip(asked, judged.values, strict=True):
    if mark:
      scores[name].setdefault(query.index, {})[criterion['name']] = mark
  lines = [
    {
      **{'index': query.index, 'prompt': query.text, 'system': name},
      **{'criterion': criterion['name'], 'score': mark.score if mark else None},
      **{'reply': judged.replies[i], 'fault': judged.faults.get(i, '')},
      'answers': benchmarks.digest(answered[name][query.index]),
    }
    for i, ((name, query, criterion), mark) in enumerate(zip(asked, judged.values, strict=True))
  ]
  atomic.write_text(folder / benchmarks.JUDGEMENTS, ''.join(map(record.encode, lines)))
  scores_of, intervals = {}, {}
  for name in names:
    lines = [
      {'index': i, 'scores': {n: [mark._asdict()] for n, mark in named.items()}}
      for i, named in scores[name].items()
    ]
    atomic.write_text(folder / f'scores-{name}.jsonl', ''.join(map(record.encode, lines)))
    plain = {i: {n: m.score for n, m in named.items()} for i, named in scores[name].items()}
    scores_of[name] = marks.aggregate(bench, plain)
    every = [(score, i) for i, named in plain.items() for score in named.values()]
    failed = sum(asked[i][0] == name for i in judged.faults)
    intervals[name] = _interval(every, c.seed) | {'marks': len(every), 'failed': failed}
  columns = [
    key for key in scores_of[names[0]] if key != 'overall' and not key.startswith('domain2/')
  ]
  table = [
    (
      *(name, scores_of[name]['overall'], number.interval(there['low'], there['high'])),
      *(there['marks'], there['failed'], *(scores_of[name][key] for key in columns)),
    )
    for name, there in intervals.items()
  ]
  header = ('system', 'overall', '95 %', 'marks', 'failed', *columns)
  return {
    'facts': {
      'version': bench.version,
      'prompt of the critic': bench.prompt_source,
      'sampling of the critic': ', '.join(f'{k} {v}' for k, v in judge_lib.sampling(c).items()),
      **judged.counts('marks'),
    },
    'scores': {name: scores_of[name] | intervals[name] for name in names},
    'faults': sorted(set(judged.faults.values())),
    'tables': [(f'WritingBench, {bench.version}', header, table)],
    'plot': [
      (name, scores_of[name]['overall'], there['low'], there['high'])
      for name, there in intervals.items()
    ],
    'unit': 'mean over criterion scores, 1 to 10, 95 % interval over queries',
    'covers': (1.0, 10.0),
  }


def _interval(scores: list[tuple[int, int]], seed: int) -> dict[str, float]:
  """The 95 % interval of the mean of (score, query), from a bootstrap over queries."""
  values = np.array([score for score, _ in scores], float)
  _, low, high = standings.clustered_mean(values, [query for _, query in scores], seed)
  return {'low': low, 'high': high}
