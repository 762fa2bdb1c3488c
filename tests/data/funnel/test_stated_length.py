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
    ('1000/1500 words', 'range', 1000, 1500),
    ('Word count: 1,000 / 1,500', 'range', 1000, 1500),
    ('写一篇1000/1500字的作文', 'range', 1000, 1500),
    ('I have read much. Write 500 words of French.', 'about', 500, 500),
    ('I learned 500 words this year; write 800 words about it.', 'about', 800, 800),
    ('x ' * 100_000 + 'Write 500 words.', 'about', 500, 500),
    ('3000+ words', 'at least', 3000, 3000),
    ('1000 words or more', 'at least', 1000, 1000),
    ('500 words. Again: 500 words', 'about', 500, 500),
    ('写一篇2000字的作文', 'about', 2000, 2000),
    ('不少于3000字', 'at least', 3000, 3000),
    ('不超过800字', 'at most', 800, 800),
    ('800字以内', 'at most', 800, 800),
    ('字数2000字以上', 'at least', 2000, 2000),
    ('500\n字', 'about', 500, 500),
    ('三千字左右', 'about', 3000, 3000),
    ('一万五千字', 'about', 15000, 15000),
    ('1.5万字', 'about', 15000, 15000),
    ('三到五千字', 'range', 3000, 5000),
    ('３０００字', 'about', 3000, 3000),
    ('Write a 1,500-word personal essay on my first year at sea.', 'about', 1500, 1500),
    ('Write a 200 word performance review.', 'about', 200, 200),
    ('大学生每月生活费用调查报告，5000字左右', 'about', 5000, 5000),
    ('关于每天早起的2000字散文', 'about', 2000, 2000),
    ('每年春节的来历，写800字', 'about', 800, 800),
    ('字数要求：2000左右', 'about', 2000, 2000),
    ('字数：不少于1500', 'at least', 1500, 1500),
    ('字数在800到1000之间', 'range', 800, 1000),
    ('篇幅：3000字左右', 'about', 3000, 3000),
    ('300词的英语作文', 'about', 300, 300),
    ('三百词', 'about', 300, 300),
    ('500个单词', 'about', 500, 500),
    ('5k字的小说', 'about', 5000, 5000),
    ('两千余字', 'about', 2000, 2000),
    ('500字到800字', 'range', 500, 800),
    ('不少于800字，不超过1000字', 'range', 800, 1000),
    ('每段200字，共1000字', 'about', 1000, 1000),
    ('two thousand words', 'about', 2000, 2000),
    ('a two-thousand-word essay', 'about', 2000, 2000),
    ('fifteen hundred words', 'about', 1500, 1500),
    ('at least one thousand and five hundred words', 'at least', 1500, 1500),
    ('two to three thousand words', 'range', 2000, 3000),
    ('Word count: 1500', 'about', 1500, 1500),
    ('an essay with a word count of 2000', 'about', 2000, 2000),
    ('the word count should be between 1000 and 1500', 'range', 1000, 1500),
    ('at least 500 words and at most 800 words', 'range', 500, 800),
    ('500 words to 800 words', 'range', 500, 800),
    ('1 500 words on rivers', 'about', 1500, 1500),
    ('1500 English words', 'about', 1500, 1500),
    ('2000 Chinese characters', 'about', 2000, 2000),
    ('A report of 3,000 words; each section should have 500 words.', 'about', 3000, 3000),
    ('Compare each of the parties in a 1500-word essay', 'about', 1500, 1500),
    ('Summarize the following 2000-word article in 300 words', 'about', 300, 300),
    ('Write an essay on World War 2 in 900 words.', 'about', 900, 900),
    ('Word limit: 500 words', 'at most', 500, 500),
    ("Please don't exceed 500 words", 'at most', 500, 500),
    ('upwards of 5000 words', 'at least', 5000, 5000),
    ('a 1,000- to 1,500-word essay', 'range', 1000, 1500),
    ('写2千5百字', 'about', 2500, 2500),
    ('写1万5千字', 'about', 15000, 15000),
    ('三四千字的小说', 'range', 3000, 4000),
    ('写一篇七八百字的作文', 'range', 700, 800),
    ('写一篇万字长文', 'about', 10000, 10000),
    ('百字以内', 'at most', 100, 100),
    ('字数800字', 'about', 800, 800),
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
    'five paragraphs of 200 words',
    'Write three 500-word essays',
    'For each topic, write a 500-word essay',
    '500 words for each chapter',
    'I read 100 words a day',
    'I learned 500 words of French this year',
    "I've already memorized over 2,000 words",
    'She can read about 300 words now.',
    'a vocabulary of 5,000 words',
    '我今年背了500个单词',
    '他学会了大约三千个汉字',
    'A picture is worth a thousand words',
    'say a word or two words about it',
    'with 5 keywords',
    '每个段落不少于200字',
    '各部分500字左右',
    '300个词汇',
    '500 words for the opening and 1000 words for the body',
    '每章3000字',
    '十字路口和千字文',
    '关于汉字的文章',
    '$500 words',
    'a few thousand words',
    'half a thousand words',
    'a couple of hundred words',
    '几千字的故事',
    '数万字',
    '9' * 5000 + ' words',
    '一' * 10_000 + '字',
    '1-' * 5_000 + '字',
  ],
)
def test_what_is_none_of_the_answer_is_none(text):
  began = time.monotonic()
  assert stated_length.find(text) is None
  assert time.monotonic() - began < 5  # not quadratic


def test_long_texts_take_no_time():
  for piece in ('500 words ', '写500字。', 'word count '):
    began = time.process_time()
    stated_length.find(piece * 40_000)
    assert time.process_time() - began < 1
