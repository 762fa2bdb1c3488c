"""Reading, splitting and cutting documents."""

import concurrent.futures
import itertools
import json
import os
import pathlib
import sysconfig
import time

import pytest

from lwz import text, types
from lwz.data import corpus, embedded, prose


@pytest.fixture(scope='module')
def found():
  return [*corpus.stream()]


def test_the_embedded_corpus_is_a_corpus(found):
  # Python 3.11 has some 2,900 documents and 196,000 words; other versions a few more or less.
  assert len(found) > 1500
  assert sum(len(document.text.split()) for document in found) > 100_000
  assert {document.source for document in found} == {'reference', 'stdlib'}
  titles = {document.title for document in found}
  assert {'str.join', 'Boolean operations', 'textwrap.dedent'} <= titles
  assert len({document.text for document in found}) == len(found)


def test_the_embedded_corpus_is_prose(found):
  for document in found:
    assert document.title and document.title == document.title.strip()
    assert '>>>' not in document.text and '::=' not in document.text and '``' not in document.text
    for paragraph in document.text.split('\n\n'):
      assert paragraph and '\n' not in paragraph


def test_the_embedded_corpus_is_the_same_every_time(found):
  again = embedded.topics() + embedded.docstrings(
    pathlib.Path(sysconfig.get_path('stdlib')) / 'json'
  )
  once = {document.text for document in found}
  kept = [document for document in again if len(text.words(document.text)) >= 20]
  assert len(kept) > 200 and once >= {document.text for document in kept if document.title}


def test_docstrings_are_read_without_importing(tmp_path):
  (tmp_path / 'pack').mkdir()
  (tmp_path / 'pack' / '__init__.py').write_text(
    '"""A package that would end the test, were it imported by anyone who reads its text."""\n'
    'raise SystemExit\n'
  )
  (tmp_path / 'pack' / 'bad.py').write_text('def (:\n')
  (tmp_path / 'pack' / 'mod.py').write_text(
    'class _Box:\n  def open(self):\n    """Open the box, slowly,\n    and look at everything that'
    ' was put into it by those\n    who closed it.\n\n    >>> box.open()\n    """\n'
  )
  package, method = embedded.docstrings(tmp_path)
  assert package.title == 'pack'
  assert method.title == 'Box.open'
  assert method.text == (
    'Open the box, slowly, and look at everything that was put into it by those who closed it.'
  )


@pytest.mark.parametrize(
  'text, paragraphs',
  [
    (':class:`Path` is *not* ``str`` at all.', ['Path is not str at all.']),
    ('The first-\n  born of the four brothers.', ['The first-born of the four brothers.']),
    (
      '* One item of the list.\n* Another item of the list.\n  It goes on.',
      ['One item of the list.', 'Another item of the list. It goes on.'],
    ),
    ('>>> f(1)\nA line that is output here.', []),
    ('x = f(a) + g[b]  # it adds the two.', []),
    ('Name      Meaning     Default', []),
    ('河流把水带到大海，一年四季从不停息。', ['河流把水带到大海，一年四季从不停息。']),
  ],
)
def test_prose_is_what_reads_as_sentences(text, paragraphs):
  assert prose.paragraphs(text.split('\n')) == paragraphs


def test_what_announces_a_gap_goes_with_it():
  lists = ['Lists grow. For example:', prose.GAP, 'They also shrink.']
  assert prose.join(lists) == 'Lists grow.\n\nThey also shrink.'
  assert prose.join(['There are two:', 'One here.']) == 'There are two:\n\nOne here.'


def test_null_is_no_title_and_no_text(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "The sea is wide.", "title": null}')
  assert [*corpus.stream(tmp_path)] == [
    types.Document('The sea is wide', 'The sea is wide.', 'a.jsonl')
  ]
  for line, said in (
    ('{"text": null, "title": "A title"}', "a.jsonl:1: 'text' is null"),
    ('{"title": "No text at all"}', "a.jsonl:1: no field 'text'"),
  ):
    path.write_text(line)
    with pytest.raises(ValueError, match=said):
      [*corpus.stream(tmp_path)]


def test_a_folder_is_read_in_order_and_titles_fall_back(tmp_path):
  (tmp_path / 'b').mkdir()
  (tmp_path / 'a.txt').write_text('Rivers\r\n\r\nThey flow.\r\n')
  (tmp_path / 'b' / 'lakes.md').write_text('They stay where they are.\nFor long.')
  (tmp_path / 'b' / 'more.jsonl').write_text(
    json.dumps({'title': 'Seas', 'text': 'Salt.'}) + '\n\n' + json.dumps({'text': '海\n很大。'})
  )
  (tmp_path / 'c.txt').write_text('Other title\n\nThey FLOW!')  # the same words as a.txt
  (tmp_path / 'd.pdf').write_text('no')
  assert [*corpus.stream(tmp_path)] == [
    types.Document('Rivers', 'They flow.', 'a.txt'),
    types.Document('lakes', 'They stay where they are.\nFor long.', 'b/lakes.md'),
    types.Document('Seas', 'Salt.', 'b/more.jsonl'),
    types.Document('海', '很大。', 'b/more.jsonl'),
  ]


def test_records_without_titles_have_titles_of_their_own(tmp_path):
  pages = [f'Page {i} of the web has no title. ' + 'It goes on and on. ' * 9 for i in range(300)]
  (tmp_path / 'web.jsonl').write_text(''.join(json.dumps({'text': one}) + '\n' for one in pages))
  found = [*corpus.stream(tmp_path)]
  assert found[7].title == 'Page 7 of the web has no title. It goes on and'
  assert len({document.title for document in found}) == 300
  assert all(corpus.split(found, 0.1))  # titles decide
  (tmp_path / 'web.jsonl').write_text(
    json.dumps({'text': '河流把水带到大海，一年四季从不停息。' * 9})
  )
  assert [one.title for one in corpus.stream(tmp_path)] == ['河流把水带到大海，一年四季']


def test_a_rule_is_no_title(tmp_path):
  (tmp_path / 'post.md').write_text('---\ndraft: true\n---\n\nRivers flow.\n')
  assert [one.title for one in corpus.stream(tmp_path)] == ['post']


def test_names_that_are_not_utf_8_are_texts_all_the_same(tmp_path):
  name = os.fsdecode('河流'.encode('gbk'))  # as unzip leaves them
  (tmp_path / f'{name}.txt').write_text('Rivers flow.')
  (found,) = corpus.stream(tmp_path)
  assert corpus.split([found], 0.0) == ([found], [])
  assert found.title.encode() and corpus.sources(tmp_path) == [found.source]


def test_any_thread_may_read_a_stream(tmp_path):
  # The library that trains tokenizers reads its texts in threads of its own.
  for i in range(6):
    (tmp_path / f'{i}.txt').write_text(f'Rivers number {i} flow.')
  texts = corpus.stream(tmp_path)
  found = [concurrent.futures.ThreadPoolExecutor(1).submit(next, texts).result() for _ in range(6)]
  assert [document.title for document in found] == list('012345')
  with pytest.raises(StopIteration):
    next(texts)


def test_an_opening_is_found_without_reading_the_rest():
  text = 'One two three. ' * 3 + 'Long ' * 10_000_000
  began = time.monotonic()
  assert corpus.passage(types.Document('t', text, ''), 1, 9) == text[:44]
  assert time.monotonic() - began < 2


def test_a_missing_or_empty_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere: no such folder'):
    [*corpus.stream(tmp_path / 'nowhere')]
  with pytest.raises(FileNotFoundError, match='no text in it'):
    [*corpus.stream(tmp_path)]


@pytest.mark.parametrize(
  'line, fault',
  [
    ('{"text": ', 'not JSON: Expecting value'),
    ('[1]', 'expected a JSON object, found list'),
    ('{"body": "x"}', r"no field 'text'; there are \['body'\]"),
    ('{"text": 3}', "'text' should be str, found int"),
  ],
)
def test_a_broken_line_is_named(tmp_path, line, fault):
  (tmp_path / 'x.jsonl').write_text('{"text": "fine."}\n' + line + '\n')
  with pytest.raises(ValueError, match='x.jsonl:2: ' + fault):
    [*corpus.stream(tmp_path)]


def test_a_file_of_another_encoding_is_named(tmp_path):
  (tmp_path / 'x.txt').write_bytes(b'caf\xe9')
  with pytest.raises(ValueError, match=r'x\.txt: not UTF-8'):
    [*corpus.stream(tmp_path)]


def test_split_is_a_partition_that_new_documents_do_not_move():
  found = [types.Document(f'title {i}', f'text {i}', '') for i in range(2000)]
  train, heldout = corpus.split(found, 0.1)
  assert sorted(train + heldout, key=found.index) == found
  assert 150 < len(heldout) < 250
  assert set(heldout) & set(found[:1000]) == set(corpus.split(found[:1000], 0.1)[1])
  assert corpus.split(found, 0.0)[1] == [] and corpus.split(found, 1.0)[0] == []
  with pytest.raises(ValueError, match='in \\[0, 1\\]'):
    corpus.split(found, 10)


def test_the_fraction_of_a_text_never_changes():
  # Golden: the first 53 bits of the 8-byte blake2b of b'rivers'. If it moves, every split moves.
  assert corpus.fraction('rivers') == pytest.approx(0.8482634168929928, abs=1e-15)
  assert corpus.fraction('rivers', 'salt') != corpus.fraction('rivers')


TEXT = (
  'One two three. Four five!\n\nSix seven eight nine. Ten.  Eleven twelve. ' + 'Long ' * 9 + 'end.'
)


@pytest.mark.parametrize('lower, upper', [*itertools.product([1, 3, 5], [5, 6, 9, 12])])
def test_passages_are_whole_sentences_within_the_range(lower, upper):
  spans = list(corpus.passages(TEXT, lower, upper))
  starts, ends = zip(*corpus.spans(TEXT), strict=True)
  for start, end in spans:
    assert start in starts and end in ends
    assert lower <= text.count_words(TEXT[start:end]) <= upper
  for (_, end), (start, _) in itertools.pairwise(spans):
    assert end < start


def test_a_passage_is_the_opening():
  document = types.Document('numbers', TEXT, '')
  assert corpus.passage(document, 1, 6) == 'One two three. Four five!'
  nine = corpus.passage(document, 9, 9)
  assert nine == 'One two three. Four five!\n\nSix seven eight nine.'
  assert corpus.passage(document, 6, 8) is None
  # The opening is too long a sentence: what follows it is no opening.
  late = types.Document('late', 'A b c d e f g. One two.', '')
  assert corpus.passage(late, 1, 3) is None
  with pytest.raises(ValueError, match='0 < lower <= upper'):
    corpus.passage(document, 5, 4)
