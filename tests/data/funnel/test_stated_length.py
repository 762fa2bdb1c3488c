"""Lengths that requests state."""

import time

import pytest

from lwz.data.funnel import stated_length


@pytest.mark.parametrize(
  'text, kind, low, high',
  [
    ('Write a 2,000-word essay.', 'about', 2000, 2000),
    ('at least 2000 words', 'at least', 2000, 2000),
    ('It is to be no more than 2,000 words, please', 'at most', 2000, 2000),
    ('not more than 500 words', 'at most', 500, 500),
    ('more than 500 words', 'at least', 500, 500),
    ('between 1000 and 1500 words', 'range', 1000, 1500),
    ('a 2k word story', 'about', 2000, 2000),
    ('2-3k words', 'range', 2000, 3000),
    ('3000+ words', 'at least', 3000, 3000),
    ('1000 words or more', 'at least', 1000, 1000),
    ('500 words. Again: 500 words', 'about', 500, 500),
    ('写一篇2000字的作文', 'about', 2000, 2000),
    ('不少于3000字', 'at least', 3000, 3000),
    ('不超过800字', 'at most', 800, 800),
    ('800字以内', 'at most', 800, 800),
    ('字数2000字以上', 'at least', 2000, 2000),
    ('三千字左右', 'about', 3000, 3000),
    ('一万五千字', 'about', 15000, 15000),
    ('1.5万字', 'about', 15000, 15000),
    ('三到五千字', 'range', 3000, 5000),
    ('３０００字', 'about', 3000, 3000),
  ],
)
def test_a_stated_length_is_found(text, kind, low, high):
  assert stated_length.find(text) == (kind, low, high)


@pytest.mark.parametrize(
  'text',
  [
    'Write an essay.',
    'each chapter should be 500 words',
    'summarize this 800-word article',
    '500 words for the opening and 1000 words for the body',
    '每章3000字',
    '十字路口和千字文',
    '关于汉字的文章',
    '$500 words',
    '9' * 5000 + ' words',
    '一' * 10_000 + '字',
    '1-' * 5_000 + '字',
  ],
)
def test_what_is_none_of_the_answer_is_none(text):
  began = time.monotonic()
  assert stated_length.find(text) is None
  assert time.monotonic() - began < 5  # not quadratic
