"""Small benchmarks of held-out titles are in the published schemas."""

import json

import pytest

from lwz import types
from lwz.data import heldout_tasks
from lwz.evals import arena, writingbench

DOCUMENTS = [
  types.Document(f'Title {i}', 'One two three four. ' * (5 if i % 2 else 500), f'source-{i % 3}')
  for i in range(20)
] + [types.Document('Title 1', 'Another text of the same title. ' * 5, 'twice')]


def made(make, num):
  limits = {'lower': 10, 'upper': 40}
  return make(DOCUMENTS, num=num, **limits)


def save(path, records):
  path.write_text('\n'.join(map(json.dumps, records)))
  return path


def test_an_arena_of_titles_is_read_whole(tmp_path):
  records = made(heldout_tasks.arena, 6)
  tasks, rejects = arena.load(save(tmp_path / 'a.jsonl', records))
  assert rejects == [] and [t.idx for t in tasks] == list(range(6))
  for task in tasks:
    words = len(task.baselines['passage'].split())
    assert 10 <= words <= 40 and abs(task.length - words) <= 5
    assert f'about {task.length} words' in task.question


def test_a_writingbench_of_titles_is_read_whole(tmp_path):
  records = made(heldout_tasks.writingbench, 0)
  bench = writingbench.load(save(tmp_path / 'w.jsonl', records))
  assert bench.version == 'v1' and bench.rejects == () and len(bench.queries) == 20
  assert {query.domain1 for query in bench.queries} == {'source-0', 'source-1', 'source-2'}


@pytest.mark.parametrize('num, count', [(0, 20), (6, 6), (99, 20)])
def test_as_many_as_asked_from_all_over(num, count):
  records = made(heldout_tasks.arena, num)
  assert len(records) == count
  assert len({record['question'] for record in records}) == count


def test_nothing_to_ask_for_is_no_record():
  assert heldout_tasks.arena([], lower=1, upper=2, num=3) == []
