"""Distance to the siblings: equal ones have 0, disjoint ones 1, and the order does not matter."""

import numpy as np
import pytest

from lwz import types
from lwz.reward import components, diversity
from lwz.reward import format as format_lib

PROMPT = types.Prompt('p0', 'Write.', 1, 9)
A = 'The river runs down to the sea.'
B = 'A mill grinds corn all day long.'
HALF = 'The river runs down to a mill.'
SHARED = (5 / 8 + 4 / 8 + 3 / 7) / 3  # with A: words, pairs and triples, of those of both


def group(*answers):
  texts = [f'<answer>{answer}</answer>' if answer is not None else 'no tags' for answer in answers]
  return [components.Sample(PROMPT, text, format_lib.parse(text, 'direct')) for text in texts]


def distance(*answers):
  return diversity.distance(group(*answers)).tolist()


def similar(a, b):
  return diversity.similarities([a, b])[0, 1]


def test_equal_siblings_are_at_distance_0_and_disjoint_ones_at_1():
  assert distance(A, A, A.upper()) == pytest.approx([0, 0, 0])  # words, in lower case
  assert distance(A, B) == [1, 1]
  assert distance(A, A, B) == pytest.approx([0.5, 0.5, 1.0])
  assert distance(A, HALF) == pytest.approx([1 - SHARED, 1 - SHARED])


def test_similarity_is_symmetric_and_a_permutation_permutes():
  texts = [A, B, HALF, 'The river', '']
  found = diversity.similarities(texts)
  np.testing.assert_array_equal(found, found.T)
  assert (np.diag(found) == 1).all() and (found >= 0).all() and (found <= 1 + 1e-12).all()
  order = [3, 0, 4, 2, 1]
  shuffled = diversity.similarities([texts[i] for i in order])
  np.testing.assert_array_equal(shuffled, found[np.ix_(order, order)])
  assert [distance(*texts)[i] for i in order] == pytest.approx(distance(*[texts[i] for i in order]))


def test_a_broken_sibling_is_no_answer():
  assert distance(A, None, A) == pytest.approx([0, 0, 0])
  assert distance(A, None, B) == [1, 0, 1]
  assert distance(None, None) == [0, 0]
  assert distance(A, None) == [1, 0]  # alone


def test_word_order_counts_and_short_texts_have_one_shingle():
  assert similar('a b c d', 'd c b a') == pytest.approx(1 / 3)  # the words alone
  assert similar('a b', 'a b') == pytest.approx(1)
  assert similar('a b', 'a b c') == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
  assert similar('', '') == pytest.approx(1) and similar('', 'a') == 0
