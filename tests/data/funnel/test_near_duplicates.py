"""Near-duplicates: equal to the reference, kept once, found where they are."""

import itertools
import random

import numpy as np
import pytest

from lwz import text
from lwz.data.funnel import near_duplicates


def sign(texts):
  return near_duplicates.signatures(
    *near_duplicates.shingles([near_duplicates.words(t) for t in texts])
  )


def made(num, length, seed=0):
  rng = random.Random(seed)
  return [' '.join(f'w{rng.randrange(5000)}' for _ in range(length)) for _ in range(num)]


def test_case_width_and_punctuation_are_aside():
  assert near_duplicates.words('Ｗrite, a POEM!') == ['write', 'a', 'poem']
  one, two = (near_duplicates.digest(near_duplicates.words(t)) for t in ('写诗！ Now.', '写诗 now'))
  assert one == two != near_duplicates.digest(near_duplicates.words('now 写诗'))


def test_every_text_has_its_own_runs():
  lists = [list('abcd'), [], ['a'], list('bcd')]
  runs, offsets = near_duplicates.shingles(lists)
  np.testing.assert_array_equal(offsets, [0, 4, 4, 5, 8])
  for n, tokens in enumerate(lists):
    padded = np.concatenate([text.hash_words(tokens), np.zeros(2, np.uint64)])
    expected = text.shingles(padded, 3)[: len(tokens)]
    np.testing.assert_array_equal(runs[offsets[n] : offsets[n + 1]], expected)
  assert set(runs[5:8]) < set(runs[:4])  # no run reaches over the end of a text


@pytest.mark.parametrize('block', [1, 7, 1 << 15])
def test_signatures_are_those_of_the_reference(monkeypatch, block):
  monkeypatch.setattr(near_duplicates, '_BLOCK', block)
  tokens = [near_duplicates.words(t) for t in ['', *made(5, 30), '', 'one', '']]
  runs, offsets = near_duplicates.shingles(tokens)
  got = near_duplicates.signatures(runs, offsets, 16)
  for n in range(len(tokens)):
    np.testing.assert_array_equal(got[n], text.minhash(runs[offsets[n] : offsets[n + 1]], 16))


def test_what_is_dropped_repeats_an_earlier_one_that_is_kept():
  base = made(60, 40)
  rng = random.Random(1)
  texts = list(base)
  for _ in range(200):
    words = rng.choice(texts).split()  # of a copy, too: chains
    words[rng.randrange(len(words))] = f'new{rng.randrange(10**6)}'
    texts.insert(rng.randrange(len(texts)), ' '.join(words))
  signed = sign(texts)
  repeats = near_duplicates.drop(signed, 0.7)
  for j, i in enumerate(repeats):
    if i >= 0:
      assert i < j and repeats[i] == -1
      assert near_duplicates.estimate(signed[i], signed[j]) >= 0.7
  # Nearly nothing that is alike is left: LSH finds 97.5 % of the pairs at 0.7, more above.
  kept = np.flatnonzero(repeats < 0)
  left = [
    near_duplicates.estimate(signed[i], signed[j]) for i, j in itertools.combinations(kept, 2)
  ]
  assert 60 <= len(kept) < 150 and np.mean(np.array(left) >= 0.8) < 1e-3


def test_a_partner_that_was_dropped_does_not_hide_another():
  # b repeats a; c is like b alone; d is like c: c stays, d goes.
  rows = np.arange(4 * 100, dtype=np.uint32).reshape(4, 100)
  rows[1, :80] = rows[0, :80]
  rows[2, 60:] = rows[1, 60:]
  rows[2, :40] = rows[1, :40]
  rows[2, 60:80] = 7
  rows[2, 20:40] = 8
  rows[3] = rows[2]
  assert list(near_duplicates.drop(rows, 0.75)) == [-1, 0, -1, 2]


def test_a_partner_behind_a_dropped_one_is_found():
  # One bucket holds a, e, b, c. b repeats a, c repeats e; c is compared with a and b at first, and
  # with e when b has gone. In no other bucket do c and e meet.
  rows = np.arange(4 * 100, dtype=np.uint32).reshape(4, 100)
  rows[:, :5] = 7
  rows[2, :80] = rows[0, :80]
  rows[3] = rows[1]
  rows[3, 5::5] = 8
  assert list(near_duplicates.drop(rows, 0.75)) == [-1, -1, 0, 1]


def test_nothing_and_one_are_kept():
  assert list(near_duplicates.drop(sign([]), 0.7)) == []
  assert list(near_duplicates.drop(sign(['a b c']), 0.7)) == [-1]
  with pytest.raises(ValueError, match='similarity'):
    near_duplicates.drop(sign(['a']), 0)
