"""WritingBench (paper, Table 1): answers marked from 1 to 10 by the criteria of each query."""

import functools
from typing import Any

from etils import epath

from lwz.data import heldout_tasks
from lwz.data.funnel import stated_length
from lwz.evals import marks, offline, writingbench
from lwz.judge import benchmarks
from lwz.judge import judge as judge_lib
from lwz.store import atomic, record

make = heldout_tasks.writingbench


def load(c, path: epath.Path) -> benchmarks.Loaded:
  """Raises ValueError if the file or folder holds no benchmark."""
  bench = writingbench.load(path)
  queries = bench.queries[: c.eval.prompts or None]
  prompts = {query.index: query.text for query in queries}
  left_out = len(bench.queries) - len(queries)
  return benchmarks.Loaded(bench, prompts, list(bench.rejects), left_out, set())


def report(c, folder, bench, names, answered, kept) -> dict[str, Any]:
  """Returns scores by system, and writes the score files in the benchmark's own schema."""
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
  scores_of = {}
  for name in names:
    lines = [
      {'index': i, 'scores': {n: [mark._asdict()] for n, mark in named.items()}}
      for i, named in scores[name].items()
    ]
    atomic.write_text(folder / f'scores-{name}.jsonl', ''.join(map(record.encode, lines)))
    plain = {i: {n: m.score for n, m in named.items()} for i, named in scores[name].items()}
    scores_of[name] = marks.aggregate(bench, plain)
  columns = [key for key in scores_of[names[0]] if not key.startswith('domain2/')]
  table = [(name, *(scores_of[name][key] for key in columns)) for name in names]
  return {
    'facts': {
      'version': bench.version,
      'prompt of the critic': bench.prompt_source,
      'failed marks': len(judged.faults),
      'cost': judged.usage.cost,
    },
    'scores': scores_of,
    'faults': sorted(set(judged.faults.values())),
    'tables': [(f'WritingBench, {bench.version}', ('system', *columns), table)],
    'plot': [(name, scores_of[name]['overall'], *[float('nan')] * 2) for name in names],
    'unit': 'mean over criterion scores, 1 to 10',
  }
