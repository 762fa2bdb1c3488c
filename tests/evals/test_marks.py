"""Marks as critics give them, and WritingBench's aggregation by hand."""

import math

import pytest

from lwz.evals import marks, writingbench

READ = {
  '{"score": 8, "reason": "clear"}': (8, 'clear'),
  '```json\n{"score": 8, "reason": "clear"}\n```': (8, 'clear'),
  'Here is my evaluation:\n{"reason": "clear", "score": 8}\nThank you.': (8, 'clear'),
  '<think>{"score": 2, "reason": "no"}</think>{"score": 9, "reason": "yes"}': (9, 'yes'),
  '{"score": "7", "reason": "a text"}': (7, 'a text'),
  '{"score": 7.0, "reason": "b"}': (7, 'b'),
  '{"score": "7/10", "reason": "b"}': (7, 'b'),
  "{'score': 6, 'reason': 'it\\'s fine'}": (6, "it's fine"),
  '{"Score": 6, "Reason": "capital"}': (6, 'capital'),
  '{"score": 5, "reason": "line\nbreak"}': (5, 'line\nbreak'),
  '{"score": 8, "reason": "it says "hello" twice"}': (8, 'it says "hello" twice'),
  '{"score": 10, "reason": "cut in the mid': (10, 'cut in the mid'),
  '{"score": 10': (10, ''),
  '{"评分": 8, "理由": "结构清晰"}': (8, '结构清晰'),
  '“score”：８，“reason”：“好”': (8, '好'),
  '评分：8分\n理由：结构清晰': (8, '结构清晰'),
  '{"スコア": 8, "理由": "よい"}': (8, 'よい'),
  'Оценка: 8/10. Причина: ясно': (8, 'ясно'),
  '**Score**: 8/10\n**Reason**: vivid': (8, 'vivid'),
  'Score: 8': (8, ''),
  '{"score": an integer} so: {"score": 4, "reason": "x"}': (4, 'x'),
  '{"evaluation": {"score": 4, "reason": "nested"}}': (4, 'nested'),
  '[{"score": 4, "reason": "listed"}]': (4, 'listed'),
}


@pytest.mark.parametrize('text', READ)
def test_what_critics_say_is_read(text):
  assert marks.read(text) == READ[text]


@pytest.mark.parametrize(
  'text',
  [
    '',
    'Excellent!',
    '{"score": 11, "reason": "too much"}',
    '{"score": 0, "reason": "too little"}',
    '{"score": 7.5, "reason": "between"}',
    '{"score": true, "reason": "no number"}',
    '{"score": null, "reason": "x"}',
    'Score: 85/100',
    'Score: 7.5',
    'Scoring Range: 1 to 10',
    '<think>score: 8',
    '{' * 2000,
    '{"score": 1e400, "reason": "x"}',
  ],
)
def test_what_says_no_mark_is_none(text):
  assert marks.read(text) is None


def bench(**subsets):
  rows = [(1, 'D1', 'a', 'en'), (2, 'D1', 'b', 'zh'), (3, 'D2', 'a', 'en')]
  queries = tuple(
    writingbench.Query(i, one, two, 'q', language, ({'name': 'x'}, {'name': 'y'}))
    for i, one, two, language in rows
  )
  return writingbench.Benchmark('v1', queries, subsets, '', '', '', ())


def test_aggregation_by_hand():
  scores = {1: {'x': 8, 'y': 6}, 2: {'x': 10}, 3: {'x': 2, 'y': 4}, 99: {'x': 1}}
  found = marks.aggregate(bench(style={1: ('x',), 2: ('x', 'y'), 7: ('x',)}), scores)
  assert found == pytest.approx(
    {
      'overall': (8 + 6 + 10 + 2 + 4) / 5,  # over criteria, so query 2 weighs half
      'zh': 10,
      'en': (8 + 6 + 2 + 4) / 4,
      'D/D1': (7 + 10) / 2,  # over queries
      'D/D2': 3,
      'domain2/a': (7 + 3) / 2,
      'domain2/b': 10,
      'R/style': (7 + 10) / 2,
      'C/style': (8 + 10) / 2,  # of the criteria that concern it
    }
  )


def test_nothing_scored_is_no_number():
  found = marks.aggregate(bench(), {1: {}})
  assert all(math.isnan(value) for value in found.values())
