"""Preference pairs: read, and made by damage."""

import collections
import json
import re

import pytest

from lwz import types
from lwz.data import damages, formatted, preferences

TEXT = (
  'Rivers carry water to the sea. Lakes keep it for years.\n\n'
  'Clouds bring all of it back to the hills. Snow waits there. Springs begin again.'
)


def test_pairs_of_the_corpus():
  found = [types.Document(f'title {i}', f'{TEXT} Part {"x" * i} ends.', '') for i in range(200)]
  found += [types.Document(f'one {i}', f'Only {"y" * i} a single sentence.', '') for i in range(50)]
  args = {'lower': 2, 'upper': 99}
  pairs = preferences.from_documents(found, seed=0, **args)
  assert preferences.from_documents(found, seed=0, **args) == pairs
  assert preferences.from_documents(found, seed=1, **args) != pairs
  assert len(pairs) == 250
  kinds = collections.Counter(pair.source for pair in pairs[:200])
  assert set(kinds) == set(damages.TRAINED) and min(kinds.values()) > 20
  for document, pair in zip(found, pairs, strict=True):
    num_words = len(pair.chosen.split()) if formatted.states_length(document) else None
    assert pair.prompt == formatted.question(document.title, num_words)
    assert pair.chosen == document.text != pair.rejected
  every = preferences.from_documents(found, seed=0, every_kind=True, **args)
  assert collections.Counter(pair.source for pair in every[:1600]) == dict.fromkeys(kinds, 200)
  shares = [
    preferences.from_documents(found, seed=0, share=share, **args)
    for share in ((0.0, 0.6), (0.6, 1.0))
  ]
  assert 120 < len(shares[0]) < 180
  assert sorted(pair.prompt for part in shares for pair in part) == sorted(p.prompt for p in pairs)
  with pytest.raises(ValueError, match='1 documents with an opening of 2 to 99 words'):
    preferences.from_documents(found[:1], seed=0, **args)


def test_blanks_are_no_damage():
  text = 'Rivers  carry water:\n  - to the sea,\n  - to lakes.'
  found = [types.Document(f'title {i}', f'{text} Part {"x" * i} ends.', '') for i in range(100)]
  args = {'lower': 2, 'upper': 99, 'seed': 0}
  for kind in ('marks', 'drop', 'swap'):  # which may leave a short text as it is
    pairs = preferences.from_documents(found, kinds=(kind,), **args)
    assert pairs and all(pair.chosen.split() != pair.rejected.split() for pair in pairs)
  few = [types.Document(f'{i}', f'Rivers {"x" * i}.', '') for i in range(1, 9)]
  assert preferences.from_documents(few, kinds=('frame',), **args) == []


def test_what_is_saved_is_loaded_the_same(tmp_path):
  kept = [types.Preference('写诗', '好\n"诗"', '坏诗', 'ours'), types.Preference('p', 'c', 'r')]
  preferences.save(tmp_path / 'new' / 'pairs.jsonl', kept)
  assert preferences.load(tmp_path / 'new' / 'pairs.jsonl') == (kept, 0)


def test_a_chat_is_its_last_turn(tmp_path):
  def turns(*texts):
    return [{'role': ('user', 'assistant')[i % 2], 'content': text} for i, text in enumerate(texts)]

  record = {
    'prompt': turns('hi', 'hello', 'ode?'),
    'chosen': turns('ode?', 'an ode'),
    'rejected': 'no',
  }
  (tmp_path / 'x.jsonl').write_text(json.dumps(record))
  assert preferences.load(tmp_path / 'x.jsonl') == ([types.Preference('ode?', 'an ode', 'no')], 0)


BROKEN = [
  ('not json', 'Expecting value'),
  ('{"prompt": "p", "chosen": "c"}', "no field 'rejected'"),
  ('{"prompt": "p", "chosen": "c", "rejected": "c"}', 'no preference'),
  (
    '{"prompt": "p", "chosen": "caf\\u00e9", "rejected": "cafe\\u0301"}',
    'equal after normalisation',
  ),
  (
    '{"prompt": "p", "chosen": "\\uac00", "rejected": "\\u1100\\u1161"}',
    'equal after normalisation',
  ),
  ('{"prompt": "p", "chosen": "a\\r\\nb", "rejected": "a\\nb"}', 'equal after normalisation'),
  ('{"prompt": "p", "chosen": "c \\n", "rejected": "c"}', 'equal after normalisation'),
  ('{"prompt": "p", "chosen": "\\u212b", "rejected": "\\u00c5"}', 'equal after normalisation'),
  ('{"prompt": "p", "chosen": null, "rejected": "c"}', "'chosen' is null"),
  ('{"prompt": "p", "chosen": "c", "rejected": ""}', "'rejected' is empty"),
  ('{"prompt": "p", "chosen": "c", "rejected": 1}', "'rejected' should be str, found int"),
  ('{"prompt": "p", "chosen": [], "rejected": "r"}', 'a chat without a turn of the assistant'),
]


@pytest.mark.parametrize('line, fault', BROKEN)
def test_a_broken_line_is_named(tmp_path, line, fault):
  good = json.dumps({'prompt': 'p', 'chosen': 'c', 'rejected': 'r'})
  (tmp_path / 'x.jsonl').write_text(f'{good}\n{line}\n')
  with pytest.raises(ValueError, match='x.jsonl:2: .*' + re.escape(fault)):
    preferences.load(tmp_path / 'x.jsonl')


LITBENCH = {'prompt': 'Write.', 'chosen_story': 'A.', 'rejected_story': 'B.', 'chosen_upvotes': 9}
NESTED = {'query': 'Write.', 'pair': [{'response': 'A.'}, {'response': 'B.'}], 'prompt': 'not this'}


@pytest.mark.parametrize(
  'record, paths',
  [
    (LITBENCH, ('prompt', 'chosen_story', 'rejected_story')),
    (NESTED, ('query', 'pair.0.response', 'pair.1.response')),
  ],
)
def test_a_foreign_file_is_read_by_the_paths_of_its_texts(tmp_path, record, paths):
  (tmp_path / 'p.jsonl').write_text(json.dumps(record))
  found, _ = preferences.load(tmp_path / 'p.jsonl', paths=paths)
  assert found == [types.Preference('Write.', 'A.', 'B.')]
  with pytest.raises(ValueError, match=r"p.jsonl:1: data.pair_paths: nothing at 'x.0'; there are"):
    preferences.load(tmp_path / 'p.jsonl', paths=(*paths[:2], 'x.0'))
  with pytest.raises(ValueError, match='name three, of prompt, chosen, rejected'):
    preferences.load(tmp_path / 'p.jsonl', paths=paths[:2])


def test_broken_lines_are_skipped_and_counted_where_asked(tmp_path):
  good = json.dumps({'prompt': 'p', 'chosen': 'c', 'rejected': 'r'})
  (tmp_path / 'x.jsonl').write_bytes(
    '\n'.join([good, *(line for line, _ in BROKEN), good]).encode() + b'\n\xff\n'
  )
  found, num_skipped = preferences.load(tmp_path / 'x.jsonl', skip_broken=True)
  assert found == [types.Preference('p', 'c', 'r')] * 2
  assert num_skipped == len(BROKEN) + 1


def test_a_margin_is_read_where_a_pair_has_one(tmp_path):
  path, pair = tmp_path / 'x.jsonl', {'prompt': 'p', 'chosen': 'c', 'rejected': 'r'}
  records = [pair, pair | {'margin': 2}, pair | {'margin': 0.5}]
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  assert [found.margin for found in preferences.load(path)[0]] == [0, 2, 0.5]
  for wrong in (-1, float('inf'), float('nan'), 'much'):
    path.write_text(json.dumps(pair | {'margin': wrong}))
    with pytest.raises(ValueError, match=r"x\.jsonl:1: 'margin'"):
      preferences.load(path)
