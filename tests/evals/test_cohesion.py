"""Sentences in an order are told from the same sentences shuffled, in English and Chinese."""

import json
import math
import pathlib

import numpy as np
import pytest

from lwz import text as texts
from lwz.data import damages
from lwz.evals import cohesion, position
from lwz.judge import inside
from tests import prose

LAWS = pathlib.Path(__file__).parents[1] / 'reward' / 'laws.jsonl'
MEASURE = inside.MEASURES['cohesion']


def whole(language):
  laws = [json.loads(line)['text'] for line in LAWS.read_text().splitlines()]
  return '\n\n'.join(prose.documents(400)[:8]) if language == 'en' else laws[0]


@pytest.mark.parametrize('language', ('en', 'zh'))
def test_shuffled_sentences_have_none_and_a_half_of_them_is_found(language):
  text = whole(language)
  rng = np.random.default_rng(0)
  mixed = damages.shuffle(text, rng, '')

  def mean(text):
    return np.nanmean(position.score(text, MEASURE).value_W)

  assert abs(mean(mixed)) < 0.5 and mean(text) > 1.2
  cut = text.index('\n', len(text) // 2) + 1
  half = text[:cut] + damages.shuffle(text[cut:], rng, '')
  windows, scored = position.cut(half, MEASURE), position.score(half, MEASURE)
  at = position.change(scored.value_W, MEASURE.worse, least=MEASURE.least)
  first = next(i for i, window in enumerate(windows) if window.end > cut)
  # Where exactly depends on the text, that of the documentation of each Python.
  assert at is not None and abs(at - first) <= len(windows) / 10
  whole_W = position.score(text, MEASURE).value_W
  assert position.change(whole_W, MEASURE.worse, least=MEASURE.least) is None


@pytest.mark.parametrize('open_, close', ['“”', '「」', '""', '‘’'])
def test_quotations_open_and_close_in_turn(open_, close):
  said = [f'{open_}We went home.', f'It was late.{close}', 'He said no more.']
  said += [f'{open_}Why?{close} she asked.', 'Nobody knew.']
  marks = [cohesion._marks(one) for one in said]
  assert marks[:3] == [[(close, 1)], [(close, -1)], []] and marks[3] == [(close, 1), (close, -1)]
  none = [False] * 5
  assert cohesion._breaches(marks, none).tolist() == [0] * 5
  # Closed and not open; opened, and opened again.
  turned = [marks[i] for i in (1, 0, 3, 2, 4)]
  assert cohesion._breaches(turned, none).tolist() == [1, 0, 1, 0, 0]
  # Open at the end of a paragraph: the next one opens again, or something is amiss.
  paragraphs = [marks[i] for i in (0, 0, 1, 0, 2)]
  begins = [False, True, False, False, True]
  assert cohesion._breaches(paragraphs, begins).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
  'said',
  [
    ('1. Bread', '2. Wine', '3. Salt', '1. Nails'),
    ('第一条 国家', '第二条 公民', '第三条 法律', '第一条 总则'),
    ('Chapter One', '## Chapter Two', 'Chapter 3: The end', 'Chapter One'),
    ('First, we knead.', 'Second, we wait.', 'Third, we bake.', 'First, they eat.'),
    ('Firſt, we knead.', 'Secondly, wait.', 'THIRD, bake.', 'Firſtly, eat.'),  # of old prints
    ('一、目的', '二、范围', '三、责任', '一、附则'),
  ],
)
def test_numbers_follow_each_other_or_begin_again(said):
  marks = [cohesion._marks(one) for one in said]
  assert [value for ((_, value),) in marks] == [1, 2, 3, 1]
  assert cohesion._breaches(marks, [True] * 4).tolist() == [0, 0, 0, 0]
  assert cohesion._breaches([marks[i] for i in (0, 2, 1, 3)], [True] * 4).tolist() == [0, 1, 1, 0]


def test_what_is_no_number_of_a_list_is_none():
  for said in ('3.5 percent of it', '1990 was a good year.', 'Some 2. things', 'A second thing'):
    assert cohesion._marks(said) == []


def test_closeness_is_the_mean_cosine_with_near_sentences_minus_that_with_far_ones():
  """Two subjects one after the other, of which each sentence shares two of its four terms."""
  sets = [{'baker', 'oven', f'a{i}', f'b{i}'} for i in range(16)]
  sets += [{'sailor', 'sea', f'c{i}', f'd{i}'} for i in range(16)]
  vectors = cohesion._vectors(sets)
  # log(32 / 16) of two shared terms, log(32) of two of its own: the cosine is 1 / (1 + 5^2).
  orders = [np.arange(32), np.random.default_rng(0).permutation(32)]
  near_OK = cohesion._closeness(vectors, orders, 1, 2)
  assert near_OK[0, 0] == pytest.approx(1 / 26 * (1 - 7 / 23))  # 9 to 15, of 9 to 31
  assert near_OK[1].mean() == pytest.approx(0)


def test_windows_without_a_sentence_and_texts_without_order_have_no_value():
  text = whole('en')
  windows = position.windows(text)
  found = cohesion.of(text, [*windows, position.Window(1, 3, 0, 1, text[1:3])])
  assert math.isnan(found[-1]) and np.isfinite(found[:-1]).all()
  assert found[:-1] == cohesion.of(text, windows)  # counted randomness
  assert min(found[:-1]) >= cohesion.LEAST and max(found[:-1]) <= cohesion.MOST
  for text in ('', 'One.', 'One. Two.'):
    assert all(map(math.isnan, cohesion.of(text, position.windows(text))))
  same = 'It is so. ' * 100
  assert all(map(math.isnan, cohesion.of(same, position.windows(same))))
  assert len(texts.sentences(same)) == 100
