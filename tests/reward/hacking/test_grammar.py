"""Prose has grammar, and what was shuffled or sampled has none; a subject is no stuffing."""

import random

import numpy as np
import pytest

from lwz import text as texts
from lwz.reward.hacking import grammar
from tests import prose
from tests.reward import test_format

HONEST = [prose.ENGLISH, prose.CHINESE, prose.REPORT_CHINESE, *prose.documents(300)]


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('text', [prose.ENGLISH, prose.CHINESE, prose.REPORT_CHINESE])
def test_shuffled_words_are_out_of_order(text, seed):
  words = texts.words(text)
  random.Random(seed).shuffle(words)
  shuffled = ''.join(w if w > '\u3000' else f' {w}' for w in words)
  assert grammar.disorder(text) < 0.1 < 0.65 < grammar.disorder(shuffled)


def test_prose_is_in_order_and_joined():
  for text in HONEST:
    words = texts.words(text.lower())
    assert not grammar.disorder(text) > 0.6
    assert grammar.function_words(words) > 0.6
    assert grammar.density(words) < 0.07
  # Ten sentences that have nothing to do with one another, in Chinese.
  assert grammar.disorder(''.join(test_format.CHINESE)) < 0.3


def test_little_can_be_said_of_little():
  assert np.isnan(grammar.disorder('The end.'))
  assert np.isnan(grammar.function_words(['the', 'end']))
  assert np.isnan(grammar.density(['the', 'end']))


def test_density_by_hand():
  words = [letter * n for n in range(1, 5) for letter in 'bcdefghjklmnpqrstuvwxy'][:84]
  assert grammar.density(words) == 0
  assert grammar.density(words[:68] + ['quantum', 'the'] * 16) == pytest.approx(12 / 100)
  phrase = ['quantum', 'leap', 'the'] * 9
  assert grammar.density(words[:73] + phrase) == pytest.approx(2 * 6 / 100)
  keyword = list('量子纠缠的') * 9
  assert grammar.density(words[:55] + keyword) == pytest.approx(4 * 6 / 100)
  assert grammar.density(['the'] * 50) == 0
