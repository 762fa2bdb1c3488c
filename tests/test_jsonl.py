"""JSON lines: what is broken, where, and which of it is skipped."""

import re

import pytest

from lwz import jsonl

GOOD, OTHER = b'{"a": 0}', '{"a": "\u2028 写"}'.encode()
BROKEN = [
  (b'{"a": 1', 'not JSON: Expecting'),
  (b'{"a": "\xe4\xbd', 'not JSON: .*decode'),
  (b'\x00\x00\x00', 'not JSON: Expecting value'),
  (b'[' * 100_000, 'not JSON: .*recursion'),
  (b'{"a": ' + b'9' * 5000 + b'}', 'not JSON: .*digits'),
  (b'[1]', 'expected a JSON object, found list'),
  (b'null', 'expected a JSON object, found NoneType'),
]


def test_lines_are_records(tmp_path):
  (tmp_path / 'f').write_bytes(b'\xef\xbb\xbf' + GOOD + b'\r\n\r\n \n' + OTHER)
  records = [{'a': 0}, {'a': '\u2028 写'}]
  assert jsonl.read(tmp_path / 'f') == (records, 0)
  assert list(jsonl.parsed(tmp_path / 'f')) == records
  assert [line.number for line in jsonl.scan((tmp_path / 'f').read_bytes().split(b'\n'))] == [1, 4]
  jsonl.write(tmp_path / 'new' / 'g', records)
  assert jsonl.read(tmp_path / 'new' / 'g') == (records, 0)


@pytest.mark.parametrize('line, fault', BROKEN)
def test_a_broken_line_is_named_or_skipped(tmp_path, line, fault):
  path = tmp_path / 'f.jsonl'
  for lines, skip in (
    ([GOOD, line, GOOD], 'none'),
    ([GOOD, line, GOOD], 'last'),
    ([GOOD, line], 'none'),
  ):
    path.write_bytes(b'\n'.join(lines) + b'\n')
    with pytest.raises(ValueError, match=rf'f\.jsonl:2: {fault}.*mend or delete the record'):
      jsonl.read(path, skip=skip)
  with pytest.raises(ValueError, match=rf'f\.jsonl:2: {fault}'):
    list(jsonl.parsed(path))
  assert jsonl.read(path, skip='last') == ([{'a': 0}], 1)
  path.write_bytes(b'\n'.join([line, GOOD, line]))
  assert jsonl.read(path, skip='all') == ([{'a': 0}], 2)


def test_what_the_caller_refuses_is_broken_too(tmp_path):
  (tmp_path / 'f').write_bytes(GOOD + b'\n' + OTHER)

  def parse(record):
    return jsonl.field(record, 'a', int)

  with pytest.raises(ValueError, match=re.escape("f:2: 'a' should be int, found str")):
    jsonl.read(tmp_path / 'f', parse)
  assert jsonl.read(tmp_path / 'f', parse, skip='all') == ([0], 1)


def test_an_empty_file_has_no_records_and_a_missing_one_is_named(tmp_path):
  (tmp_path / 'f').touch()
  assert jsonl.read(tmp_path / 'f') == ([], 0)
  with pytest.raises(FileNotFoundError, match='g: no such file; expected one JSON object per line'):
    jsonl.read(tmp_path / 'g')


@pytest.mark.parametrize(
  'record, said',
  [
    ({'title': 'No text'}, "no field 'text'; there are ['title']"),
    ({'text': None, 'title': 'x'}, "'text' is null"),
    ({'text': 3}, "'text' should be str, found int"),
    ({'text': False}, "'text' should be str, found bool"),
  ],
)
def test_absent_and_null_are_told_apart(record, said):
  with pytest.raises(ValueError, match=re.escape(said)):
    jsonl.field(record, 'text', str)


def test_a_field_that_may_be_absent_may_be_null_and_may_be_empty():
  given = [{}, {'title': None}, {'title': ''}, {'title': 'x'}]
  assert [jsonl.field(g, 'title', str, 'none') for g in given] == ['none', 'none', '', 'x']
  assert [jsonl.field(g, 'n', int, 0) for g in ({'n': None}, {'n': 0}, {'n': 2})] == [0, 0, 2]


def test_what_is_missing_is_said_of_the_first_field_that_is_there():
  given = [{}, {'b': None}, {'a': ' '}, {'a': []}, {'b': 3}]
  assert [jsonl.missing(record, 'a', 'b') for record in given] == [
    "no field 'a'; there are []",
    "'b' is null",
    "'a' is empty",
    "'a' is empty",
    "'b' is no text but int",
  ]
