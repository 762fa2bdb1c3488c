"""Files of any folder: what is read, what is named as not read, what is refused at once."""

import contextlib
import gzip
import json
import os
import resource
import time

import pytest
from absl import logging

from lwz import jsonl
from lwz.data import corpus, files, preferences, prompts
from lwz.data.funnel import sources

TEXT = json.dumps({'title': 'Lakes', 'text': 'They stay where they are.'}).encode()


@contextlib.contextmanager
def cheaply(seconds=20, memory=700):
  """Fails if the body computes longer, or raises the peak memory of the process by more (MB)."""
  before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
  yield
  assert time.process_time() - began < seconds
  assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < memory


@pytest.fixture
def noted(monkeypatch):
  said = []
  monkeypatch.setattr(logging, 'warning', lambda form, *values: said.append(form % values))
  files._note.cache_clear()
  return said


def sparse(path, gigabytes):
  with path.open('wb') as file:
    file.truncate(gigabytes << 30)


def test_a_corpus_is_read_in_all_forms_and_the_rest_is_named(tmp_path, noted):
  (tmp_path / 'a.txt.gz').write_bytes(gzip.compress(b'Rivers\n\nThey flow.'))
  (tmp_path / 'b.TXT').write_text('Seas\n\nThey are salt.')
  (tmp_path / 'c.jsonl.gz').write_bytes(gzip.compress(TEXT))
  (tmp_path / 'd.e.md').write_text('A text with no title.')
  (tmp_path / 'f.json').write_text('{}')
  (tmp_path / 'g.tar.gz').write_text('')
  for hidden in ('._a.txt', '.DS_Store', '.cache/x.txt'):
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_bytes(b'\0\xff')
  found = [d.title for d in corpus.stream(tmp_path)]
  assert found == ['Rivers', 'Seas', 'Lakes', 'd.e']
  assert [d.title for d in corpus.stream(tmp_path)] == found
  assert noted == [f'{tmp_path}: 2 files not read: f.json, g.tar.gz']


def test_nothing_but_other_formats_are_named(tmp_path):
  (tmp_path / 'a.pdf').touch()
  with pytest.raises(FileNotFoundError, match=r'no text in it; .*\.txt.*; 1 file .*: a\.pdf'):
    [*corpus.stream(tmp_path)]


def test_what_is_no_file_is_passed_over_and_named(tmp_path, noted):
  (tmp_path / 'a.txt').write_text('Rivers flow.')
  (tmp_path / 'x.txt').mkdir()
  (tmp_path / 'x.txt' / 'b.txt').write_text('Lakes stay.')
  os.mkfifo(tmp_path / 'pipe.txt')
  (tmp_path / 'zero.txt').symlink_to('/dev/zero')
  (tmp_path / 'gone.txt').symlink_to('nowhere.txt')
  (tmp_path / 'self.txt').symlink_to('self.txt')
  for name in 'pqrs':  # each level would hold the whole folder four times again
    (tmp_path / name).symlink_to(tmp_path)
  with cheaply():
    assert [d.title for d in corpus.stream(tmp_path)] == ['a', 'b']
    assert [p.name for p in files.find(tmp_path, ('.txt',))] == ['a.txt', 'b.txt']
  assert noted == [f'{tmp_path}: 4 files not read: gone.txt, pipe.txt, self.txt, zero.txt']


@pytest.mark.parametrize(
  'name, data, fault',
  [
    ('x.txt', b'caf\xe9', 'not UTF-8 .*byte 3.*iconv'),
    ('x.txt', 'Rivers'.encode('utf-16'), 'not UTF-8'),
    ('x.txt', 'Rivers'.encode('utf-16-le'), 'NUL at byte 1'),
    ('x.txt.gz', gzip.compress(b'Rivers flow.' * 99)[:-20], 'damaged gzip'),
    ('x.txt.gz', b'Rivers', 'damaged gzip'),
    ('x.jsonl.gz', gzip.compress(TEXT)[:-9], 'damaged gzip'),
    ('x.jsonl', b'[' * 100_000, ':1: not JSON'),
    ('x.jsonl', b'{"text": ' + b'9' * 400 + b'}', ':1: .text. has more than 64 bits'),
    ('x.jsonl', b'{"text": "\0"}', ':1: not JSON'),
    ('x.jsonl', TEXT.decode().encode('utf-16'), ':1: not JSON'),
  ],
  ids=map(str, range(10)),  # bytes make no names
)
def test_a_damaged_file_of_a_corpus_is_named(tmp_path, name, data, fault):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(ValueError, match=rf'{name}.*{fault}'):
    [*corpus.stream(tmp_path)]


@pytest.mark.parametrize('name', ['x.txt', 'x.jsonl', 'x.ndjson', 'x.md'])
def test_gigabytes_without_a_line_end_are_refused(tmp_path, name):
  sparse(tmp_path / name, 6)
  with cheaply(), pytest.raises(ValueError, match=rf'{name}.*more than'):
    [*corpus.stream(tmp_path)]


def test_a_line_without_an_end_is_no_torn_line(tmp_path):
  sparse(tmp_path / 'f.jsonl', 6)
  with cheaply(), pytest.raises(ValueError, match=r'f\.jsonl: a record of more than'):
    jsonl.read(tmp_path / 'f.jsonl', skip='last')
  os.rename(tmp_path / 'f.jsonl', tmp_path / 'f.json')
  with cheaply():
    (row,) = sources.read(tmp_path / 'f.json')
  assert 'more than' in row.fault


@pytest.mark.parametrize('name', ['x.txt.gz', 'x.jsonl.gz'])
@pytest.mark.parametrize('unit', [b'\0', b'\n', pytest.param(b'{}\n', marks=pytest.mark.slow)])
def test_gzip_bombs_are_refused(tmp_path, name, unit):
  part = gzip.compress(unit * (1 << 24))
  (tmp_path / name).write_bytes(part * (-(-(1 << 31) // len(unit * (1 << 24)))))
  with cheaply(), pytest.raises(ValueError, match=r'more than|expands|no field'):
    [*corpus.stream(tmp_path)]
  with cheaply():  # a row of the funnel with its fault, not an error
    rows = list(sources.read(tmp_path / 'x.jsonl.gz')) if 'jsonl' in name else []
  assert not any(row.text for row in rows)


def test_a_long_line_is_skipped_and_counted_and_the_next_one_read(tmp_path, monkeypatch):
  monkeypatch.setattr(jsonl, 'LARGEST', 1_000_000)
  path = tmp_path / 'p.jsonl'
  pair = json.dumps({'prompt': 'Write.', 'chosen': 'Good.', 'rejected': 'Bad.'}).encode()
  path.write_bytes(
    b'\n'.join([pair, b'"' + b'x' * 3_000_000, pair, b'x' * 1_000_001, b'x' * 1_000_001])
  )
  assert [pair.chosen for pair in preferences.load(path, skip_broken=True)[0]] == ['Good.'] * 2
  assert preferences.load(path, skip_broken=True)[1] == 3
  with pytest.raises(ValueError, match=r'p\.jsonl:2: a record of more than 1,000,000 bytes'):
    preferences.load(path)


def test_prompts_and_pairs_are_read_from_gzip_and_folders(tmp_path, noted):
  for i, name in enumerate(('a.jsonl', 'b.jsonl.gz')):
    line = json.dumps({'text': f'Write {i}.', 'lower': 1, 'upper': 2}).encode()
    (tmp_path / name).write_bytes(gzip.compress(line) if name.endswith('gz') else line)
  (tmp_path / 'c.csv').touch()
  assert [prompt.text for prompt in prompts.load(tmp_path)] == ['Write 0.', 'Write 1.']
  assert [prompt.text for prompt in prompts.load(tmp_path / 'b.jsonl.gz')] == ['Write 1.']
  assert [path.name for path in sources.files(tmp_path)] == ['a.jsonl', 'b.jsonl.gz']
  assert noted == [f'{tmp_path}: 1 file not read: c.csv']
  (tmp_path / 'a.jsonl').write_text('{"text": "Write.", "lower": 1, "upper": 1%s}' % ('0' * 399))
  with pytest.raises(ValueError, match=r"a\.jsonl:1: 'upper' has more than 64 bits"):
    prompts.load(tmp_path)


def test_a_json_array_is_read_as_its_elements_are(tmp_path):
  """WritingPreferenceBench is published as one."""
  sides = {'chosen': {'response': 'Good.', 'score': 3}, 'rejected': {'response': 'Bad.'}}
  rows = [{'prompt': f'Write {i}.', 'prompt_id': 'x', 'tag': 'Poem', **sides} for i in range(3)]
  path, paths = tmp_path / 'bench.json', ('prompt', 'chosen.response', 'rejected.response')
  for text in (json.dumps(rows, indent=1), '\ufeff' + json.dumps(rows), '\n ' + json.dumps(rows)):
    path.write_text(text)
    found, _ = preferences.load(path, paths=paths)
    assert [(p.prompt, p.chosen, p.rejected) for p in found] == [
      (f'Write {i}.', 'Good.', 'Bad.') for i in range(3)
    ]
  path.write_text(json.dumps([*rows, 'none']))
  with pytest.raises(ValueError, match=r'bench\.json:4: expected a JSON object, found str'):
    preferences.load(path, paths=paths)
  whole = path.read_text()
  path.write_text(whole.replace('Bad.', 'Bad.\\x', 1))
  with pytest.raises(ValueError, match=r'bench\.json:1: not JSON: .*; mend or delete the record'):
    preferences.load(path, paths=paths)
  path.write_text(json.dumps(rows)[:-1])
  with pytest.raises(ValueError, match=r'bench\.json: not a JSON array: .*; mend it'):
    preferences.load(path, paths=paths)
  path.write_text('\n'.join(map(json.dumps, rows)))  # lines, whatever their file is called
  assert len(preferences.load(path, paths=paths)[0]) == 3


def test_arrays_are_read_by_the_element_from_files_and_folders(tmp_path, noted, monkeypatch):
  monkeypatch.setattr(jsonl, 'LARGEST', 1_000)
  texts = [f'Write ["{i}", {{" \\ \\" \n {"我" * 50}.' for i in range(100)]
  rows = [{'text': text, 'title': f'{i}', 'lower': 1, 'upper': 2} for i, text in enumerate(texts)]
  for name, indent in (('a.json', None), ('b.JSON.gz', 1)):
    part = rows[:50] if name == 'a.json' else rows[50:]
    data = json.dumps(part, indent=indent, ensure_ascii=False).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith('gz') else data)
  (tmp_path / 'info.json').write_text('{"license": "mit"}')
  assert [prompt.text for prompt in prompts.load(tmp_path)] == texts
  assert [prompt.text for prompt in prompts.load(tmp_path / 'a.json')] == texts[:50]
  assert [document.title for document in corpus.stream(tmp_path)] == [f'{i}' for i in range(100)]
  assert noted == [f'{tmp_path}: 1 file not read: info.json']
  (tmp_path / 'a.json').write_text(json.dumps([rows[0], {'text': 'x' * 1_000}, rows[1]]))
  found = list(files.records(tmp_path / 'a.json'))
  assert [line.record for line in found] == [rows[0], {}, rows[1]] and found[1].number == 2
  assert found[1].fault == 'a record of more than 1,000 bytes'


@pytest.mark.parametrize('size', [1, 2, 3, 5, 8, 1 << 20])
def test_elements_are_whole_wherever_a_file_is_cut_into_parts(tmp_path, monkeypatch, size):
  rows = [{'a': '\\"]}[{,\\'}, {'b': [{'c': [1, [2]]}, '"', {}]}, {'d': '\\'}, {}]
  data = '\ufeff \n' + json.dumps(rows, indent=1)
  monkeypatch.setattr(
    jsonl,
    '_parts',
    lambda path: (data.encode()[i : i + size] for i in range(0, len(data.encode()), size)),
  )
  assert [line.record for line in jsonl.scan(jsonl._joined('f', jsonl._elements('f')))] == rows


def test_arrays_of_lines_and_records_with_a_list_are_no_array(tmp_path, noted):
  path = tmp_path / 'a.jsonl'
  turns = [{'role': 'user', 'content': 'Write.'}, {'role': 'user', 'content': 'Make it shorter.'}]
  path.write_text(f'{json.dumps(turns)}\n{json.dumps(turns)}\n')
  assert [line.fault for line in jsonl.records(path)] == ['expected a JSON object, found list'] * 2
  path.write_text(json.dumps({'text': 'Write of rivers.', 'criteria': [{'text': 'It has silt.'}]}))
  assert [row.text for row in sources.read(path)] == ['Write of rivers.']
  (tmp_path / 'languages.json').write_text('["en", "de"]')
  (tmp_path / 'b.json').write_text('[\n {"text": "It rains."}]')
  assert [p.name for p in files.find(tmp_path, files.LINES)] == ['a.jsonl', 'b.json']
  assert 'languages.json' in noted[0]


def test_parquet_is_read_or_its_package_named(tmp_path, monkeypatch):
  (tmp_path / 'a.parquet').write_bytes(b'PAR1')
  monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
  with pytest.raises(ModuleNotFoundError, match=r'a\.parquet: .* pip install "lwz\[data\]"'):
    [*corpus.stream(tmp_path)]


def test_parquet_rows_are_documents_prompts_and_pairs(tmp_path):
  pq = pytest.importorskip('pyarrow.parquet')
  import pyarrow as pa

  rows = [{'text': 'Rivers flow.', 'title': 'Rivers', 'lower': 1, 'upper': 3}]
  pq.write_table(pa.Table.from_pylist(rows), tmp_path / 'a.parquet')
  assert [d.text for d in corpus.stream(tmp_path)] == ['Rivers flow.']
  assert [prompt.upper for prompt in prompts.load(tmp_path / 'a.parquet')] == [3]
  (tmp_path / 'a.parquet').write_bytes(b'PAR1 and nothing else')
  with pytest.raises(ValueError, match=r'a\.parquet:0: unreadable file'):
    [*corpus.stream(tmp_path)]
