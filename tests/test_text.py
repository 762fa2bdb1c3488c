"""Words, sentences and their hashes."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwz import text


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('', []),
    ("It's 3 well-known cafés在北京", ["It's", '3', 'well-known', 'cafés', '在', '北', '京']),
    ('snake_case, e-mail; ひらがな', ['snake', 'case', 'e-mail', 'ひ', 'ら', 'が', 'な']),
    ('……!?', []),
  ],
)
def test_words_are_those_a_reader_counts(given, expected):
  assert text.words(given) == expected


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('', 0),
    ('Hello, world! 2024', 2),
    ('你好，世界', 4),
    ('你好 world', 3),
    ('用Python写', 2),  # a word that touches Han counts zero
    ("don't re-do", 4),
    ('x1 a_b café', 0),
    ('a b.c', 3),
    ('㐀', 0),  # outside U+4E00..U+9FFF
    ('кот ねこ', 0),
  ],
)
def test_count_words(given, expected):
  assert text.count_words(given) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab Z你好1_'-é\n.,", max_size=40))
def test_count_words_is_longwriters(given):
  chinese = len(re.findall(r'[\u4e00-\u9fff]', given))
  english = len(re.findall(r'\b[a-zA-Z]+\b', given))
  assert text.count_words(given) == chinese + english


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('', []),
    (' \n\n ', []),
    ('One. Two! Three? Four', ['One.', 'Two!', 'Three?', 'Four']),
    ('Dr. Li left. 他走了。She stayed!', ['Dr. Li left.', '他走了。', 'She stayed!']),
    ('“你好。”他说。真的吗？', ['“你好。”', '他说。', '真的吗？']),
    ('J. R. Smith paid 3.50 at 5 p.m. today.', ['J. R. Smith paid 3.50 at 5 p.m.', 'today.']),
    ('1. Introduction\n- an item\nnext', ['1. Introduction', '- an item', 'next']),
    (
      'See e.g. this, i.e. that. "Yes." Fine...',
      ['See e.g. this, i.e. that.', '"Yes."', 'Fine...'],
    ),
    ('You and I. We all.', ['You and I.', 'We all.']),
  ],
)
def test_sentences(given, expected):
  assert text.sentences(given) == expected


def test_sentences_lose_nothing_but_white_space():
  given = 'A b. C!\n\nD? 五。六……  e.g. f.x (g.) h'
  assert ''.join(text.sentences(given)).replace(' ', '') == ''.join(given.split())


def test_content_leaves_out_little_words_and_pairs_han():
  assert text.content(['the', 'river', 'flows', '大', '河']) == {
    'river',
    'flow',
    '大',
    '河',
    '大河',
  }
  assert text.stem('walking') == text.stem('walked') == text.stem('walks') == 'walk'
  assert text.stem('is') == 'is'


def test_match_earlier_proposes_the_likest_and_respects_barriers():
  sets = [frozenset('abcdef'), frozenset('abcxyz'), frozenset('abcdeg')]
  taken = []
  assert text.match_earlier(sets, range(3), 0.5, lambda k, j: not taken.append((k, j))) == [
    -1,
    0,
    0,
  ]
  assert taken == [(1, 0), (2, 0)]
  assert text.match_earlier(sets, [0, 0, 0], 0.5, lambda k, j: True) == [-1, -1, -1]
  assert text.match_earlier(sets, range(3), 0.5, lambda k, j: j == 1) == [-1, -1, 1]


def test_shingles_are_equal_exactly_where_runs_are():
  tokens = ['a', 'b', 'c', 'a', 'b', 'c', 'b', 'a']
  got = text.shingles(text.hash_words(tokens), 3)
  runs = [tuple(tokens[i : i + 3]) for i in range(6)]
  assert got.dtype == np.uint64 and got.shape == (6,)
  for i in range(6):
    for j in range(6):
      assert (got[i] == got[j]) == (runs[i] == runs[j])
  assert text.shingles(text.hash_words(['a']), 2).shape == (0,)
  assert text.shingles(text.hash_words([]), 2).shape == (0,)
  with pytest.raises(ValueError, match='at least one word'):
    text.shingles(got, 0)


@pytest.mark.parametrize('overlap', [0.0, 0.3, 0.7, 1.0])
def test_minhash_estimates_jaccard(overlap):
  size, num = 400, 512
  shared = int(size * overlap)
  first = text.hash_words([str(i) for i in range(size)])
  second = text.hash_words([str(i) for i in range(size - shared, 2 * size - shared)])
  jaccard = shared / (2 * size - shared)
  estimate = np.mean(text.minhash(first, num) == text.minhash(second, num))
  assert abs(estimate - jaccard) <= 4 * np.sqrt(jaccard * (1 - jaccard) / num)


def test_minhash_is_of_the_set():
  hashes = text.hash_words(['a', 'b', 'c'])
  np.testing.assert_array_equal(
    text.minhash(hashes, 16), text.minhash(np.concatenate([hashes[::-1], hashes]), 16)
  )
  empty = text.minhash(hashes[:0], 16)
  assert not np.any(empty == text.minhash(hashes, 16))
  with pytest.raises(ValueError, match='at least one component'):
    text.minhash(hashes, 0)


def test_hashes_are_the_same_in_another_process():
  code = (
    'from lwz import text; '
    "h = text.hash_words(['river', '河', 'é']); "
    'print(*text.shingles(h, 2), *text.minhash(h, 4))'
  )
  hashes = text.hash_words(['river', '河', 'é'])
  here = [*text.shingles(hashes, 2), *text.minhash(hashes, 4)]
  there = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    check=True,
    text=True,
    env={'PYTHONHASHSEED': '7', 'PYTHONPATH': ':'.join(sys.path)},
  )
  assert [int(x) for x in there.stdout.split()] == [int(x) for x in here]


@pytest.mark.parametrize(
  'given',
  ['.' * 100_000 + 'a', 'A. ' * 40_000, '."' * 30_000 + 'a', '…' * 50_000, '"' * 50_000],
  ids=['dots', 'initials', 'quotes', 'ellipses', 'marks'],
)
def test_no_text_takes_more_than_linear_time(given):
  # Quadratic work on these takes minutes.
  assert ''.join(text.sentences(given)).replace(' ', '') == ''.join(given.split())


def test_weigher_weighs_what_is_rare():
  sets = [frozenset(words.split()) for words in ('the a', 'the b', 'the c', 'the a')]
  weigh = text.weigher(sets, [False] * 4)
  # Of three sets before: `the` in all weighs log 2, a, b and c log 4, twice as much.
  assert weigh(3, 0) == 1
  assert weigh(3, 1) == pytest.approx(1 / 3)
  assert text.weigher(sets, [True, True, False, False])(3, 1) == pytest.approx(1 / 2)  # one set


def test_weigher_of_equally_common_words_is_the_plain_share():
  sets = [frozenset('abcd'), frozenset('abef')]
  assert text.weigher(sets, [False, False])(1, 0) == pytest.approx(0.5)
  assert text.weigher([frozenset()] * 2, [False] * 2)(1, 0) == 0
