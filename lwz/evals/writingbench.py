"""WritingBench: its queries, and the prompts for its critic.

Records have `index`, `domain1`, `domain2`, `query`, `lang` and, in the first version (March 2025),
five `criteria`, in later ones a `checklist`. Scores of the two versions are not comparable, so
every table names the version.

The critic was fine-tuned on the prompt in the benchmark's prompt.py. If that file is in the folder
of the benchmark it is used, word for word; else a prompt of our own with the same task.
"""

import ast
import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from lwz.evals import records

FIELDS = {'v1': 'criteria', 'later': 'checklist'}
BANDS = ('1-2', '3-4', '5-6', '7-8', '9-10')
DOMAINS = (  # D1 to D6 in the paper's tables
  'Academic & Engineering',
  'Finance & Business',
  'Politics & Law',
  'Literature & Arts',
  'Education',
  'Advertising & Marketing',
)
REQUIREMENTS = ('style', 'format', 'length')
_LEVELS = 6  # of folders that are searched: links may lead back
_SLOTS = ('criteria', 'query', 'response')

_SYSTEM = 'You are an experienced judge of writing, who scores answers to requests by criteria.'
_ASK = """\
Judge the response to the query by one criterion.

Criterion:
```{criteria}```

Query:
```{query}```

Response:
```{response}```

The criterion once more:
```{criteria}```

"""
_REASONS = 'Give reasons that name strengths and faults, and quote the passages they rest on.\n'
_STRICT = """\
How scores are given: 1-2, critical faults, the purpose is missed; 3-4, below average, faults that \
weigh; 5-6, average, the essentials are met and no more; 7-8, above average, small faults only; \
9-10, exceptional, without a flaw.

Be very strict. Neither format nor length is a merit in itself. Look for content that is made up, \
and count it as a fault. A response that is but an introduction or an overview has failed.

"""
_FORMAT = """\
The score is an integer from 1 to 10. Reply with this JSON and nothing else:
```json
{{"score": an integer from 1 to 10, "reason": "why, with passages of the text"}}
```"""
OWN = {'v1': _ASK + _REASONS + _FORMAT, 'later': _STRICT + _REASONS + _ASK + _FORMAT}


@dataclasses.dataclass(frozen=True)
class Query:
  """A query of the benchmark. A criterion has `name`, `criteria_description` and score bands."""

  index: int
  domain1: str
  domain2: str
  text: str
  language: str
  criteria: tuple[Mapping[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """The contents of a file, or of a folder, of the benchmark's repository.

  `subsets[requirement]` maps the index of each query with that requirement to the names of its
  criteria about it: the R column averages over the queries, the C column over the criteria.
  """

  version: str
  queries: tuple[Query, ...]
  subsets: Mapping[str, Mapping[int, tuple[str, ...]]]
  system: str
  prompt: str
  prompt_source: str
  rejects: tuple[records.Reject, ...]


def load(path: epath.PathLike) -> Benchmark:
  """The benchmark in a file or a folder (benchmark_all.jsonl, *_subset(_C).jsonl, prompt.py).

  A record is rejected if it has no query, no criterion, no index, the index of an earlier one, or
  the criteria of another version than most.

  Raises FileNotFoundError if there is no such file, ValueError if no record can be used.
  """
  path = epath.Path(path)
  folder = path if path.is_dir() else None
  main = _find(path, ('benchmark_all.jsonl', 'benchmark_all.json')) if folder else path
  if main is None:
    raise FileNotFoundError(f'{path}: no benchmark_all.jsonl in this folder, nor below it')
  found, rejects = records.read(main)
  both = {v: sum(name in record for _, record in found) for v, name in FIELDS.items()}
  version = max(both, key=lambda v: both[v])
  queries: dict[int, Query] = {}
  for where, record in found:
    query = _query(record, version)
    if isinstance(query, str):
      rejects.append(records.Reject(where, query))
    elif query.index in queries:
      rejects.append(records.Reject(where, f'index {query.index} was there before'))
    else:
      queries[query.index] = query
  if not queries:
    raise ValueError(f'{main}: no usable query; the first reject: {rejects[0] if rejects else "-"}')
  subsets, more = _subsets(folder, version) if folder else ({}, [])
  script = _find(folder, ('prompt.py',)) if folder else None
  exact = _exact_prompt(script) if script else None
  system, prompt = exact or (_SYSTEM, OWN[version])
  return Benchmark(
    version,
    tuple(queries.values()),
    subsets,
    system,
    prompt,
    'the benchmark’s prompt.py' if exact else 'own wording',
    (*rejects, *more),
  )


def _query(record: Mapping[str, Any], version: str) -> Query | str:
  """The query of a record, or the reason for its rejection."""
  index = records.number(record.get('index'))
  text = records.text(record, 'query')
  criteria = _criteria(record.get(FIELDS[version]))
  if index is None:
    return f"'index' is {record.get('index')!r}, no whole number"[:200]
  if not text:
    return "no text under 'query'"
  if not criteria:
    return f'no criterion with a name under {FIELDS[version]!r}, the field of version {version}'
  unique = {c['name']: c for c in reversed(criteria)}
  language = records.text(record, 'lang').lower()[:2]
  if language not in ('zh', 'en'):
    language = 'zh' if re.search(r'[\u4e00-\u9fff]', text) else 'en'
  return Query(
    index,
    records.text(record, 'domain1') or 'unknown',
    records.text(record, 'domain2') or 'unknown',
    text,
    language,
    tuple(reversed(unique.values())),
  )


def _criteria(value: Any) -> list[dict[str, str]]:
  """The criteria in a (nested) list, a JSON text, or a mapping from names."""
  if isinstance(value, str):
    with contextlib.suppress(ValueError, RecursionError):  # otherwise it is a name
      value = json.loads(value)
  if isinstance(value, dict) and 'name' not in value:
    value = [{'name': n, **(v if isinstance(v, dict) else {})} for n, v in value.items()]
  return [c for c in map(_criterion, records.flat(value)) if c]


def _criterion(value: Any) -> dict[str, str] | None:
  """A criterion with its fields in the benchmark's order; a plain text is a name."""
  if isinstance(value, str) and value.strip():
    return {'name': records.clean(value)}
  if not isinstance(value, dict) or not records.text(value, 'name'):
    return None
  return {n: records.text(value, n) for n in ('name', 'criteria_description', *BANDS) if n in value}


def _find(folder: epath.Path, names: Sequence[str]) -> epath.Path | None:
  """The first file of one of these names in a folder or, breadth first, so far below it."""
  level = [folder]
  for _ in range(_LEVELS):
    for place in level:
      for name in names:
        if (place / name).exists():
          return place / name
    level = [
      child
      for place in level
      for child in sorted(place.iterdir())
      if child.is_dir() and not child.name.startswith('.')
    ]
  return None


def _subsets(folder, version: str):
  """Criteria names by requirement and index; a requirement without its file is absent."""
  subsets, rejects = {}, []
  for requirement in REQUIREMENTS:
    whole = _find(folder, (f'{requirement}_subset.jsonl',))
    if whole is None:
      continue
    found, bad = records.read(whole)
    rejects += bad
    indices = [records.number(record.get('index')) for _, record in found]
    names: dict[int, tuple[str, ...]] = {i: () for i in indices if i is not None}
    own = _find(folder, (f'{requirement}_subset_C.jsonl',))
    found, bad = records.read(own) if own is not None else ([], [])
    rejects += bad
    for _, record in found:
      index = records.number(record.get('index'))
      if index in names:
        names[index] = tuple(c['name'] for c in _criteria(record.get(FIELDS[version])))
    subsets[requirement] = names
  return subsets, rejects


def _exact_prompt(path: epath.Path) -> tuple[str, str] | None:
  """`evaluate_system` and `evaluate_prompt` of a prompt.py, which is parsed and never run."""
  texts = {}
  try:
    tree = ast.parse(path.read_text())
  except (SyntaxError, ValueError):
    return None
  for node in tree.body:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
      value = node.value
      if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        value = value.func.value  # '''...'''.strip()
      if isinstance(value, ast.Constant) and isinstance(value.value, str):
        texts[node.targets[0].id] = value.value.strip()
  prompt = texts.get('evaluate_prompt', '')
  if not all(f'{{{slot}}}' in prompt for slot in _SLOTS):
    return None
  return texts.get('evaluate_system', _SYSTEM), prompt


def messages(
  benchmark: Benchmark, query: Query, criterion: Mapping[str, str], response: str
) -> list[dict[str, str]]:
  """The chat that asks the critic about one criterion of one response.

  The criterion is in Python's notation, as in the data on which the critic was fine-tuned.
  """
  slots = {'criteria': str(dict(criterion)), 'query': query.text, 'response': response}
  text = re.sub(
    r'\{\{|\}\}|\{(criteria|query|response)\}',
    lambda m: slots[m[1]] if m[1] else m[0][0],
    benchmark.prompt,
  )
  return [{'role': 'system', 'content': benchmark.system}, {'role': 'user', 'content': text}]
