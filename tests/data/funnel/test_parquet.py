"""Parquet: rows are those of their records, and broken files are rows with a fault."""

import copy

import numpy as np
import pytest

from lwz import types
from lwz.data import parquet as generic
from lwz.data.funnel import conversations, embedded_conversations, parquet, sources

pa = pytest.importorskip('pyarrow')
pq = pytest.importorskip('pyarrow.parquet')

DOCUMENTS = [types.Document(f'title {i}', f'text {i} ' * 40, 's') for i in range(20)]


def made(num):
  records = list(embedded_conversations.records(DOCUMENTS, num))
  for i, record in enumerate(records):
    turns = record['conversation']
    if i % 7 == 1:
      record['conversation'] = []
    elif i % 7 == 2:
      record['conversation'] = None
    elif i % 7 == 3:
      turns.insert(0, {**turns[1], 'content': 'system', 'role': 'system'})
    elif i % 7 == 4:
      turns[0]['content'] = None
    elif i % 7 == 5:
      record['language'] = record['toxic'] = record['openai_moderation'] = None
      turns[0]['redacted'] = None
      record['redacted'] = i % 2 == 0
    elif i % 7 == 6:
      turns[0]['role'] = 'USER'
      record['openai_moderation'] = [None, {'flagged': None}]
      turns.append({**turns[0], 'toxic': True})
  return records


def expected(records, name):
  return [conversations.from_record(r, name, i) for i, r in enumerate(records)]


def lmsys(records):
  """The other schema: fewer fields, and the moderation of all turns."""
  records = copy.deepcopy(records)
  for record in records:
    record['conversation_id'] = record.pop('conversation_hash')
    record.pop('toxic')
    for turn in record['conversation'] or []:
      for field in ('language', 'redacted', 'toxic', 'turn_identifier'):
        turn.pop(field)
  return records


@pytest.mark.parametrize('schema', [list, lmsys])
@pytest.mark.parametrize('large', [False, True])
def test_rows_are_those_of_the_records(tmp_path, monkeypatch, schema, large):
  records = schema(made(500))
  table = pa.Table.from_pylist(records)
  if large:
    old = table.schema.field('conversation').type.value_type
    new = [(f.name, pa.large_string() if f.type == pa.string() else f.type) for f in old]
    place = table.schema.get_field_index('conversation')
    kind = pa.large_list(pa.struct(new))
    table = table.set_column(place, 'conversation', table['conversation'].cast(kind))
  path = tmp_path / 'p.parquet'
  pq.write_table(table, path, row_group_size=130)
  monkeypatch.setattr(generic, '_ROWS', 50)
  want = expected(records, 'p.parquet')
  assert list(parquet.read(path)) == want
  assert {row.held for row in want} == {'', 'flagged', 'redacted'}
  assert any(row.fault for row in want) and any(row.text for row in want)


def test_rows_of_two_schemas_in_one_table(tmp_path):
  turns = [{'role': 'user', 'content': 'Write of rivers.'}]
  records = [
    {'messages': turns, 'prompt': None, 'instruction': None, 'input': None},
    {'messages': None, 'prompt': 'Write of seas.', 'instruction': None, 'input': None},
    {'messages': None, 'prompt': None, 'instruction': 'Write of', 'input': 'lakes.'},
  ]
  pq.write_table(pa.Table.from_pylist(records), tmp_path / 'p.parquet')
  found = list(parquet.read(tmp_path / 'p.parquet'))
  assert found == expected(records, 'p.parquet')
  assert [row.text for row in found] == ['Write of rivers.', 'Write of seas.', 'Write of\n\nlakes.']


def test_any_schema(tmp_path):
  records = [{'prompt': f'Write {i}', 'range': [100, 200]} for i in range(5)]
  pq.write_table(pa.Table.from_pylist(records), tmp_path / 'p.parquet')
  assert list(parquet.read(tmp_path / 'p.parquet')) == expected(records, 'p.parquet')
  paths = conversations.Paths(text='x.0.y')
  pq.write_table(pa.Table.from_pylist([{'x': [{'y': 'A'}]}]), tmp_path / 'q.parquet')
  assert [row.text for row in parquet.read(tmp_path / 'q.parquet', paths)] == ['A']


def test_text_that_is_no_utf8_is_a_fault_of_its_row(tmp_path):
  broken = pa.array([b'fine', b'\xff\xfe', '写'.encode()]).view(pa.string())
  role = pa.array(['user'] * 3)
  turns = pa.StructArray.from_arrays([broken, role], names=['content', 'role'])
  lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), turns)
  pq.write_table(pa.table({'conversation': lists}), tmp_path / 'p.parquet')
  rows = list(parquet.read(tmp_path / 'p.parquet'))
  assert [r.text for r in rows] == ['fine', '', '写']
  assert [r.fault[:22] for r in rows] == ['', "unreadable row: 'utf-8", '']


@pytest.mark.parametrize('share', [0.0, 0.3, 0.99])
def test_a_file_that_breaks_off_is_one_row(tmp_path, share):
  path = tmp_path / 'p.parquet'
  pq.write_table(pa.Table.from_pylist(made(50)), path)
  path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
  (row,) = sources.read(path)
  assert row.fault.startswith('unreadable file')


def test_a_spoilt_row_group_costs_its_rows_alone(tmp_path):
  path = tmp_path / 'p.parquet'
  records = [{'text': f'request number {i}'} for i in range(300)]
  pq.write_table(pa.Table.from_pylist(records), path, row_group_size=100, compression='zstd')
  column = pq.ParquetFile(path).metadata.row_group(1).column(0)
  data = bytearray(path.read_bytes())
  start = column.dictionary_page_offset or column.data_page_offset
  data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
  path.write_bytes(data)
  rows = list(parquet.read(path))
  assert [row.number for row in rows] == list(range(300))
  assert [bool(row.fault) for row in rows] == [100 <= i < 200 for i in range(300)]


def test_random_damage_never_raises(tmp_path):
  path = tmp_path / 'p.parquet'
  pq.write_table(pa.Table.from_pylist(made(60)), path, row_group_size=20)
  whole = np.frombuffer(path.read_bytes(), np.uint8)
  rng = np.random.default_rng(0)
  for _ in range(60):
    spoilt = whole.copy()
    spoilt[rng.integers(4, len(whole), 8)] ^= rng.integers(1, 256, 8).astype(np.uint8)
    path.write_bytes(spoilt.tobytes())
    rows = list(parquet.read(path))
    assert rows and all(isinstance(row.text, str) for row in rows)
