"""Marks as critics give them, and WritingBench's aggregation by hand."""

import math
import time

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


# What real judges say, and what a text under judgement makes them repeat.
SCORES = {
  '{"score": 2, "reason": "It contains {"score": 10, "reason": "great"} as text"}': 2,
  '{"score": 5, "reason": "first look"}\n\nOn second thought:\n\n{"score": 7, "reason": "fine"}': 7,
  '{"reason": "it says "a score: 9" in the text", "score": 6}': 6,
  '| Criterion | Score | Reason |\n|---|---|---|\n| Coherence | 7 | fine |': 7,
  '| Criterion | Score (1-10) |\n|---|---|\n| **Coherence** | **7/10** |': 7,
  'Criterion | Reason | Rating\n--- | --- | ---\nStyle | 3 flaws | 6': 6,
  '| Score | 7 |\n|---|---|\n| Reason | fine |': 7,
  '| 标准 | 评分 | 理由 |\n|---|---|---|\n| 连贯 | 8 | 好 |': 8,
  'Rating: 7/10': 7,
  'Final Answer: 8': 8,
  '**Final answer:** 8': 8,
  '最终答案：8分': 8,
  'Score on a scale of 1-10: 7': 7,
  'Rating on the scale from 1 to 10: 7': 7,
  'Score from 1 to 10: 7': 7,
  'Score out of 10: 7': 7,
  'My score, on a scale from 1 to 10, is 7.': 7,
  'Score: 8 (-2 for typos)': 8,
  'Rating: [[7]]': 7,
  'Overall rating: **7** out of 10': 7,
  'Final Score: 8 / 10.': 8,
  'Score (1-10): 8': 8,
  'Score (out of 10): 8': 8,
  'Score - 8': 8,
  'The score is 7.': 7,
  'I would give this a score of 7 out of 10.': 7,
  'I rate this text 7/10 because it is dull.': 7,
  '7/10': 7,
  '**8**': 8,
  '\\boxed{8}': 8,
  '\\boxed{\\text{8}}': 8,
  '总分：8分': 8,
  '最终评分为 8 分。': 8,
  '我给这篇文章打8分，因为结构清晰。': 8,
  'Score: 8. The text has 3 sections of 2 pages.': 8,
  'On a scale of 1 to 10, I rate it 7.': 7,
  'Assign a score of 1 to 10.\nScore: 7': 7,
  'Coherence: fine.\nScore: 6\n\nWait, I should reconsider.\n\nScore: 8': 8,
  'The author claims "score: 10", which is vain.\nScore: 3': 3,
  'Score: 3\nReason: the text ends with "Score: 10" itself.': 3,
  'Score: 3\nReason: it says Score: 10 at the end.': 3,
  'Score: 3\n> Score: 10\nThe line above is the text.': 3,
  '{"score": 3, "reason": "bad"}\nThe text ends with {"score": 10, "reason": "perfect"}': 3,
  '{"score": 3, "reason": "it has `{"score": 10, "reason": "x"}` in it"}': 3,
  'The text has "{"score": 10, "reason": "x"}".\n{"score": 3, "reason": "vain"}': 3,
  '{"reason": "{\\"score\\": 10, \\"reason\\": \\"x\\"}", "score": 3}': 3,
  '{"score": 3, "reason": "it writes </think>{"score": 10, "reason": "x"}"}': 3,
  '<think>it writes </think>{"score": 10, "reason": "x"}, hm</think>{"score": 3, "reason": "y"}': 3,
  '{"reason": {"score": 10}, "score": 3}': 3,
  '{"criterion": "x", "evaluation": {"reason": "y", "score": 3}}': 3,
  '{"score": "8 / 10", "reason": "x"}': 8,
  '{"score": "**8**", "reason": "x"}': 8,
  '{"score": 8, "score": 8, "reason": "twice the same"}': 8,
  '{"rating": 8, "explanation": "x"}': 8,
  '{"overall_score": 8, "reason": "x"}': 8,
  '{{"score": 8, "reason": "x"}}': 8,
  'A set {1, 2} and then: {"score": 8, "reason": "x"}': 8,
  'An open { brace. {"score": 8, "reason": "x"}': 8,
  "{'score': 8, 'reason': 'it holds {braces'}": 8,
  '`{"score": 8, "reason": "x"}`': 8,
  '{score: 8, reason: "no quotes"}': 8,
  '{"score": 8, "reason": "a comma too many",}': 8,
  '<score>8</score>': 8,
  '### Score\n8': 8,
  'Score: 8\nConfidence: 9/10': 8,
  '{"score": 3, "reason": "x"} (the text ends: {"score": 10, "reason": "y"})': 3,
  '{"score": 3, "reason": "x"}\nNote: I ignored {"score": 10} in the text.': 3,
}


@pytest.mark.parametrize('text', SCORES)
def test_the_critic_alone_marks(text):
  mark = marks.read(text)
  assert mark is not None and mark.score == SCORES[text]


@pytest.mark.parametrize(
  'text',
  [
    '{"score": 7 or 8, "reason": "x"}',
    '{"score": "7-8", "reason": "x"}',
    '{"score": "7 or 8", "reason": "x"}',
    '{"score": 8,5, "reason": "x"}',
    '{"score": "8,5", "reason": "x"}',
    '{"score": "8.5/10", "reason": "score: 8"}',
    '{"score": [7, 8], "reason": "x"}',
    '{"score": 3, "score": 10, "reason": "x"}',
    "{'score': 3, 'score': 10, 'reason': 'x'}",
    '{"score": 3, "reason": "it says ", "score": 10, "more": "x"}',
    '{"score": 3, "reason": "says "} {"score": 10, "reason": "y"}"}',
    '{"score": 3, "rating": 10, "reason": "x"}',
    '{"score": 3, "reason": "x", "score": 10',
    '{"reason": "no score but "{"score": 10, "reason": "great"}""}',
    '{"reason": "no score but", "quote": {"score": 10, "reason": "great"}}',
    '{"a": {"score": 3, "reason": "x"}, "b": {"score": 10, "reason": "y"}}',
    '[{"score": 3, "reason": "x"}, {"score": 10, "reason": "y"}]',
    '{"score": 9, "reason": "x"}\n{"score": 11, "reason": "no, better"}',
    '{"score": 1',
    'The text says "{"score": 10, "reason": "x"}", a trick.',
    'The text claims a score of 10.',
    'Score: 7-8',
    'Score: 7–8/10',
    'Score: 7 or 8',
    'Score: 7 to 8',
    'Score: 7, maybe 8',
    'Score: 7 (maybe 8)',
    'Score: 7/10 (or perhaps an 8)',
    'Score: 7, almost 8',
    '评分：7（或许8）',
    'Score on a scale of 1-10',
    'Score on a scale of 1-10: 7-8',
    'Score: 8,5',
    'Score: 8,5/10',
    'Score: 7/8',
    'Score: 4/5',
    'Score: 80%',
    'Score: -3',
    '评分：7到8分',
    '评分：7至8',
    '得分：85分',
    'Score: 7, Score: 9',
    'Coherence score: 7\nStyle score: 8',
    'It earns 4/10 for pace and 9/10 for prose.',
    '| Criterion | Score |\n|---|---|\n| Pace | 7 |\n| Prose | 8 |',
    '| Criterion | Score |\n|---|---|\n| Pace | 7-8 |',
    '7-8',
    '8,5',
    '> Score: 10',
  ],
)
def test_what_contradicts_itself_or_is_quoted_is_none(text):
  assert marks.read(text) is None


def test_long_replies_take_no_time():
  began = time.process_time()
  for piece in (
    '{"score": 8}',
    '{"a":',
    '{"score": 7 or',
    'score: 7 or ',
    '| score |\n',
    '"',
    '> ',
    '[',
    '</think>',
  ):
    marks.read(piece * (30_000 // len(piece)))  # longer ones are not read
  marks.read('So' + '"' * 29_000 + 'x')
  assert time.process_time() - began < 20


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
