"""The ruler asks for the same texts at growing lengths, in a form that others read."""

import json

from lwz.data.funnel import stated_length
from lwz.evals import arena, ruler


def test_32_requests_from_100_to_30000_words(tmp_path):
  records = ruler.records()
  assert len(records) == 32
  assert {r['length'] for r in records} == set(ruler.LENGTHS)
  assert (records[0]['length'], records[-1]['length']) == (100, 30_000)
  path = tmp_path / 'ruler.jsonl'
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  tasks, rejects = arena.load(path)
  assert not rejects and [task.length for task in tasks] == [r['length'] for r in records]


def test_each_request_states_its_length_in_its_language():
  for record in ruler.records():
    found = stated_length.find(record['prompt'])
    assert found and found.low <= record['length'] <= found.high


def test_fewer_are_evenly_spaced():
  assert [r['length'] for r in ruler.records((10, 20, 40, 80), num=4)] == [10, 20, 40, 80]
