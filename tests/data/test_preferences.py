"""Preference pairs: read, and made by damage."""

import collections
import json
import re

import numpy as np
import pytest

from lwz import types
from lwz.data import corpus, formatted, preferences

TEXT = (
  'Rivers carry water to the sea. Lakes keep it for years.\n\n'
  'Clouds bring all of it back to the hills. Snow waits there. Springs begin again.'
)
OTHER = 'Stars burn slowly. Planets turn around them. Moons follow. Comets come and go. Dust falls.'
ZH = '河流把水带到大海。湖泊把水留住多年。\n云把水带回山上，雪在那里等待。泉水重新开始。'
OTHER_ZH = '星星慢慢燃烧。行星绕着它们转。月亮跟随。彗星来了又走。尘埃落下。'


def rng(seed=0):
  return np.random.Generator(np.random.Philox(seed))


def sentences(text):
  return [text[start:end] for start, end in corpus.spans(text)]


@pytest.mark.parametrize('kind', preferences.DAMAGES)
@pytest.mark.parametrize('text, other', [(TEXT, OTHER), (ZH, OTHER_ZH)], ids=['en', 'zh'])
def test_damage_changes_a_text_the_same_way_for_the_same_seed(kind, text, other):
  damage = preferences.DAMAGES[kind]
  damaged = [damage(text, rng(seed), other) for seed in range(20)]
  assert damaged == [damage(text, rng(seed), other) for seed in range(20)]
  assert sum(one != text for one in damaged) >= 18  # a shuffle may be the identity
  assert len(set(damaged)) > 1
  assert all(one == one.strip() and one for one in damaged)


@pytest.mark.parametrize('text', [TEXT, ZH])
def test_shuffling_keeps_the_sentences_and_the_paragraphs(text):
  for seed in range(20):
    damaged = preferences.shuffle(text, rng(seed), '')
    assert sorted(sentences(damaged)) == sorted(sentences(text))
    assert re.findall(r'\s+', damaged).count('\n\n') == text.count('\n\n')
    assert len(damaged) == len(text)


@pytest.mark.parametrize('text', [TEXT, ZH])
def test_repeating_keeps_the_length_and_adds_nothing(text):
  ratios = []
  for seed in range(20):
    damaged = preferences.repeat(text, rng(seed), '')
    assert 0.75 < len(damaged) / len(text) < 1.25
    assert set(sentences(damaged)) <= set(sentences(text))
    assert max(collections.Counter(sentences(damaged)).values()) > 1
    ratios.append(len(damaged) / len(text))
  assert 0.95 < np.mean(ratios) < 1.05


@pytest.mark.parametrize('text', [TEXT, ZH])
def test_a_cut_text_breaks_off_inside_a_sentence(text):
  for seed in range(60):
    damaged = preferences.cut(text, rng(seed), '')
    assert text.startswith(damaged)
    assert text[len(damaged)] not in '.。'
    assert 0.4 <= len(damaged) / len(text) <= 0.9
    assert sentences(damaged)[-1] not in sentences(text)


def test_replacing_keeps_the_frame_and_takes_words_of_the_other():
  words = re.compile(r'[^\W\d_]+')
  shares = []
  for seed in range(50):
    damaged = preferences.replace(TEXT, rng(seed), OTHER)
    assert words.sub('', damaged) == words.sub('', TEXT)
    pairs = list(zip(words.findall(TEXT), words.findall(damaged), strict=True))
    assert all(new == old or new in OTHER for old, new in pairs)
    shares.append(np.mean([new != old for old, new in pairs]))
  assert 0.25 < np.mean(shares) < 0.35


def test_mixing_takes_every_second_sentence_of_the_other():
  for seed in range(20):
    ours = [one in sentences(TEXT) for one in sentences(preferences.mix(TEXT, rng(seed), OTHER))]
    assert ours in ([True, False, True, False, True], [False, True, False, True, False])


@pytest.mark.parametrize('kind', ['shuffle', 'repeat', 'mix'])
def test_one_sentence_has_no_order_to_damage(kind):
  assert preferences.DAMAGES[kind]('One sentence alone.', rng(), OTHER) == 'One sentence alone.'


def test_pairs_of_the_corpus():
  found = [types.Document(f'title {i}', f'{TEXT} Part {"x" * i} ends.', '') for i in range(200)]
  found += [types.Document(f'one {i}', f'Only {"y" * i} a single sentence.', '') for i in range(50)]
  args = {'lower': 2, 'upper': 99}
  pairs = preferences.from_documents(found, seed=0, **args)
  assert preferences.from_documents(found, seed=0, **args) == pairs
  assert preferences.from_documents(found, seed=1, **args) != pairs
  assert len(pairs) == 250
  kinds = collections.Counter(pair.source for pair in pairs[:200])
  assert set(kinds) == set(preferences.DAMAGES) and min(kinds.values()) > 20
  for document, pair in zip(found, pairs, strict=True):
    num_words = len(pair.chosen.split()) if formatted.states_length(document) else None
    assert pair.prompt == formatted.question(document.title, num_words)
    assert pair.chosen == document.text != pair.rejected
  with pytest.raises(ValueError, match='1 documents with an opening of 2 to 99 words'):
    preferences.from_documents(found[:1], seed=0, **args)


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
