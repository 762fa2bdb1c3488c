"""Benchmark files as they come: arrays, lines, and what is broken in them."""

import json

import pytest

from lwz.evals import records

ROWS = [{'query': '写一首诗', 'index': 1}, {'query': 'b', 'index': 2}]


@pytest.mark.parametrize(
  'text',
  [
    json.dumps(ROWS),
    json.dumps(ROWS, indent=2, ensure_ascii=False),
    '\ufeff' + json.dumps(ROWS),
    '\n'.join(map(json.dumps, ROWS)),
    '\r\n\r\n'.join(map(json.dumps, ROWS)) + '\r\n',
    '[\n' + ',\n'.join(map(json.dumps, ROWS)) + ',\n]',  # a trailing comma: no JSON, yet lines
    json.dumps({'data': ROWS, 'version': 1}),
    json.dumps({'data': ROWS}, indent=1),
  ],
)
def test_every_form_holds_the_same_records(tmp_path, text):
  (tmp_path / 'f').write_text(text, encoding='utf-8')
  found, rejects = records.read(tmp_path / 'f')
  assert [record for _, record in found] == ROWS and not rejects


def test_one_record_is_a_file_too(tmp_path):
  (tmp_path / 'f').write_text(json.dumps({'query': 'a', 'criteria': [{'name': 'b'}]}, indent=1))
  found, _ = records.read(tmp_path / 'f')
  assert [record['query'] for _, record in found] == ['a']


def test_each_reject_is_where_it_was_and_why(tmp_path):
  deep = b'[' * 100_000
  lines = [
    b'{"query": "a"}',
    b'{"query": "b"',
    b'\xff\xfe',
    b'[1, 2]',
    b'null',
    deep,
    b'{"index": ' + b'9' * 5000 + b'}',
    b'{"query": "' + b'x' * 3_000_000 + b'"}',
  ]
  (tmp_path / 'f').write_bytes(b'\n'.join(lines))
  found, rejects = records.read(tmp_path / 'f')
  assert [len(record['query']) for _, record in found] == [1, 3_000_000]
  where = sorted(int(reject.where.rpartition(':')[2]) for reject in rejects)
  assert where == [2, 3, 4, 5, 6, 7]
  assert all(reject.reason and len(reject.reason) <= 200 for reject in rejects)


def test_each_reject_of_an_array_is_named_by_its_element(tmp_path):
  text = json.dumps([*ROWS, 3, {'query': 'c'}], indent=1).replace('"c"', "'c'")
  (tmp_path / 'f').write_text(text)
  found, rejects = records.read(tmp_path / 'f')
  assert found == [(f'{tmp_path}/f:{i + 1}', row) for i, row in enumerate(ROWS)]
  assert [reject.where for reject in rejects] == [f'{tmp_path}/f:3', f'{tmp_path}/f:4']
  assert rejects[0].reason == 'expected a JSON object, found int'
  (tmp_path / 'f').write_text(text[:-1])
  with pytest.raises(ValueError, match='f: not a JSON array: it has no end; mend it'):
    records.read(tmp_path / 'f')


def test_an_empty_file_and_a_missing_one(tmp_path):
  (tmp_path / 'f').write_bytes(b'')
  assert records.read(tmp_path / 'f') == ([], [])
  with pytest.raises(FileNotFoundError, match='no such file'):
    records.read(tmp_path / 'g')


@pytest.mark.parametrize(
  'value, number',
  [
    (2000, 2000),
    (2000.0, 2000),
    ('2000', 2000),
    ('about 2,000 words', 2000),
    ('2，000字', 2000),
    (-5, None),
    ('-5', None),
    (True, None),
    (2.5, None),
    (None, None),
    (float('nan'), None),
    (float('inf'), None),
    ([200], None),
    ('9' * 400, None),
    (10**400, None),
    (1e300, None),
    ('many', None),
  ],
)
def test_numbers(value, number):
  assert records.number(value) == number


def test_half_a_character_becomes_a_whole_one():
  assert records.text({'a': ' \ud83d ok '}, 'a') == '\ufffd ok'.encode().decode()
  assert records.text({'a': 3, 'b': ' ', 'c': 'x'}, 'a', 'b', 'c') == 'x'


def test_nested_lists_are_flat():
  assert list(records.flat([1, [2, [[3]], []], 'ab'])) == [1, 2, 3, 'ab']
