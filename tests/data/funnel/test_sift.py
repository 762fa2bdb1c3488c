"""The first pass, the duplicates of all files, and what verdicts make of the rest."""

import json

import pytest

from lwz.data import prompts
from lwz.data.funnel import conversations, decontamination, prompt_set, rules, sift

ESSAY = 'Write an essay about rivers, lakes and the cities on their banks, number'


def rows(texts, file='f'):
  return [conversations.Row(file, i, text) for i, text in enumerate(texts)]


def sifted(folder, texts, **settings):
  sift.sift(rows(texts), 'set', folder, sift.Settings(rules.Limits(), **settings))
  return folder


def test_every_row_is_kept_or_rejected_once(tmp_path):
  texts = [f'{ESSAY} {i}' for i in range(2_500)] + ['hi'] * 30 + ['Translate this word by word']
  folder = sifted(tmp_path / 'a', texts)
  kept = list(sift.read([folder]))
  gone = [json.loads(line) for line in (folder / 'rejects.jsonl').read_text().splitlines()]
  assert sorted([r['row'] for r in kept] + [r['row'] for r in gone]) == list(range(2_531))
  assert [r['text'] for r in kept] == texts[:2_500]
  tally = sift.read_counts(folder)
  assert (tally['rows'], tally['kept']) == (2_531, 2_500)
  assert tally['rejects'] == {'too short': 30, 'edits a text': 1}
  assert [e['row'] for e in tally['examples']['too short']] == [2_500, 2_501, 2_502]
  assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_a_pass_that_is_cut_leaves_nothing(tmp_path):
  def broken():
    yield from rows([ESSAY] * 2_000)
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    sift.sift(broken(), 'set', tmp_path / 'a', sift.Settings(rules.Limits()))
  assert not (tmp_path / 'a').exists()
  assert len(list(sift.read([sifted(tmp_path / 'a', [ESSAY])]))) == 1


def test_benchmarks_are_kept_out(tmp_path):
  (tmp_path / 'bench.jsonl').write_text(json.dumps({'query': f'{ESSAY} five'}))
  benchmarks = decontamination.Benchmarks(sift.read_texts(tmp_path / 'bench.jsonl'))
  texts = [f'{ESSAY} five', f'Please: {ESSAY.lower()} six!', 'Write an essay about mountains.']
  folder = sifted(tmp_path / 'a', texts, benchmarks=benchmarks)
  assert [r['row'] for r in sift.read([folder])] == [2]
  assert sift.read_counts(folder)['rejects'] == {'benchmark': 2}
  paths = conversations.Paths(text='ask.0')
  lines = [{'query': 'a'}, {'ask': ['b'], 'text': 'c'}]
  (tmp_path / 'other.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert sift.read_texts(tmp_path / 'other.jsonl', paths) == ['a', 'b']
  (tmp_path / 'empty.jsonl').write_text('{}')
  with pytest.raises(ValueError, match=r'empty\.jsonl: no prompts'):
    sift.read_texts(tmp_path / 'empty.jsonl')


def test_duplicates_are_found_over_files(tmp_path):
  long = ' '.join(f'topic{i}' for i in range(40))
  first = sifted(tmp_path / '0', [f'Write an essay on {long}', 'Write a story about a fox'])
  none = sifted(tmp_path / '1', ['hi'])
  second = sifted(
    tmp_path / '2',
    [
      'WRITE a story, about a fox!',
      f'Write an essay on {long} now',
      f'Write a report on {long.upper()[::-1]}',
      f'Write a report on {long.upper()[::-1]} now',
    ],
  )
  repeats, exact = sift.distinct([first, none, second], 0.7)
  assert list(repeats) == [-1, -1, 1, 0, -1, 4]
  assert list(exact) == [False, False, True, False, False, False]
  assert [len(a) for a in sift.distinct([none], 0.7)] == [0, 0]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['0', '1', '2']


RECORD = {
  **{'id': 'x', 'text': 'Write an essay.', 'language': 'en', 'source': 's', 'file': 'f', 'row': 3},
  **{'key': 'k', 'range': [0, 0]},
}


@pytest.mark.parametrize(
  'keep, judged, given, reason',
  [
    (None, None, [0, 0], 'no judgement'),
    (False, None, [0, 0], 'filter judge'),
    (True, None, [0, 0], 'no judgement'),
    (True, (0, 0), [0, 0], 'length judge'),
    (True, (100, 200), [0, 0], 'short range'),
    (True, None, [10, 20], 'short range'),
    (True, (800, 1000), [0, 0], ''),
    (True, None, [333, 444], ''),
  ],
)
def test_verdicts_make_a_prompt_or_a_reject(tmp_path, keep, judged, given, reason):
  line, why = prompt_set.settle(
    RECORD | {'range': given}, keep, judged, judge='somebody', shortest=300
  )
  assert why[0] == reason and (line is None) == bool(reason)
  if line:
    (tmp_path / 'p.jsonl').write_text(json.dumps(line))
    (prompt,) = prompts.load(tmp_path / 'p.jsonl')
    assert (prompt.lower, prompt.upper) == (judged or tuple(given))
    assert (prompt.id, prompt.language, prompt.source) == ('x', 'en', 's')
    assert line['provenance']['length'] == ('somebody' if judged else 'the data set')


def test_counts_add_up():
  total = sift.Counts(examples=2)
  for part in range(3):
    one = sift.Counts(examples=2)
    one.rows, one.kept = 10, 9
    one.reject('code', {'row': part, 'text': 'x' * 9_999})
    total.add(one.plain())
  assert (total.rows, total.kept, total.rejects) == (30, 27, {'code': 3})
  assert [e['row'] for e in total.examples['code']] == [0, 1]
  assert len(total.examples['code'][0]['text']) < 400
