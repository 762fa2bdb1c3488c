"""Arena-Write: what is read, who meets whom, and what a judge's reply means."""

import json
import time

import pytest

from lwz.evals import arena

LONG = 'An answer that is clearly longer than any name of a model could be, by far.'


def load(tmp_path, *rows):
  path = tmp_path / 'arena.jsonl'
  path.write_text('\n'.join(json.dumps(row) for row in rows))
  return arena.load(path)


def test_the_schema(tmp_path):
  row = {'idx': 7, 'question': '对于雷锋精神的推文，200字以内', 'type': 'Community Forum'}
  (task,), rejects = load(tmp_path, row | {'length': 200, 'baseline_response': {'gpt-4o': 'a'}})
  assert task == arena.Task(7, row['question'], 'Community Forum', 200, {'gpt-4o': 'a'})
  assert rejects == []


def test_missing_fields_leave_what_can_be_used(tmp_path):
  tasks, rejects = load(
    tmp_path,
    {'question': 'a'},
    {'prompt': 'b', 'type': None, 'length': '2,000 words'},  # as in LongBench-Write
    {'idx': 9, 'question': ' '},
    {'idx': 1, 'question': 'c'},
    {'idx': 1, 'question': 'again'},
    {'idx': 'x', 'question': ['no text']},
  )
  assert [(t.idx, t.question, t.kind, t.length) for t in tasks] == [
    (0, 'a', 'unknown', 0),
    (2, 'b', 'unknown', 2000),  # the least that no record has
    (1, 'c', 'unknown', 0),
  ]
  assert [r.reason for r in rejects] == [
    "'question' is empty",
    'idx 1 was there before',
    "'question' is no text but list",
  ]
  assert [r.where.rpartition(':')[2] for r in rejects] == ['3', '5', '6']


@pytest.mark.parametrize(
  'held, names',
  [
    ('', []),
    (None, []),
    ([], []),
    (3, []),
    (LONG, ['baseline-1']),
    ([LONG, LONG], ['baseline-1', 'baseline-2']),
    ([[LONG], [[LONG]]], ['baseline-1', 'baseline-2']),
    ({'gpt-4o': LONG, 'r1': [LONG]}, ['gpt-4o', 'r1']),
    ({'gpt-4o': {'response': LONG, 'tokens': 3}, 'r1': None}, ['gpt-4o']),
    ([{'model': 'gpt-4o', 'response': LONG}, {'name': 'r1', 'content': LONG}], ['gpt-4o', 'r1']),
    ([{'gpt-4o': LONG}, {'r1': LONG}], ['gpt-4o', 'r1']),
    ([['gpt-4o', LONG], ['r1', LONG]], ['gpt-4o', 'r1']),
    (json.dumps({'gpt-4o': LONG}), ['gpt-4o']),
    ([{'model': 'm', 'response': LONG}] * 2, ['m', "m'"]),
    ([{'model': 'gpt-4o', 'response': ''}, {'model': 'r1', 'answer': LONG}], ['r1']),
  ],
)
def test_baselines_in_any_shape(tmp_path, held, names):
  (task,), _ = load(tmp_path, {'question': 'a', 'baseline_response': held})
  assert list(task.baselines) == names


def test_every_answer_meets_every_baseline_in_both_orders():
  tasks = [arena.Task(1, 'q', 't', 0, {'x': 'a', 'y': 'b'}), arena.Task(2, 'q', 't', 0, {})]
  answers = {'s': {1: 'c', 2: 'd'}, 't': {2: 'e'}}
  met = {(m.idx, m.first, m.second) for m in arena.matches(tasks, answers, rivals=False)}
  assert met == {(1, 's', 'x'), (1, 'x', 's'), (1, 's', 'y'), (1, 'y', 's')}
  more = {(m.idx, m.first, m.second) for m in arena.matches(tasks, answers, rivals=True)} - met
  assert more == {(2, 's', 't'), (2, 't', 's')}
  with pytest.raises(ValueError, match='rename one'):
    arena.matches(tasks, {'x': {1: 'c'}}, rivals=False)


def test_texts_enter_the_prompt_once_and_verbatim():
  (message,) = arena.messages('Q {first} {0}', 'F {second}', 'S \\1 {question}')
  for text in ('Q {first} {0}', 'F {second}', 'S \\1 {question}'):
    assert message['content'].count(text) == 1


VERDICTS = {
  'A is vivid. [[A]]': 'A',
  'Both are flat.\n\n[[C]]': 'C',
  '[[A]] at first sight, but on reflection: [[B]]': 'B',
  '**Verdict**: [[b]].': 'B',
  '【【A】】': 'A',
  '［［B］］': 'B',
  'cut off at [[B': 'B',
  'half closed [[A]': 'A',
  '[[Answer B]]': 'B',
  '[[助手A]]': 'A',
  '[[Tie]]': 'C',
  '[[平局]]': 'C',
  '<think>[[A]] or [[B]]?</think>\n[[B]]': 'B',
  '<think>I lean to [[A]]': '',
  '```json\n{"verdict": "A", "reason": "it holds together"}\n```': 'A',
  '{"winner": "Assistant B"}': 'B',
  'My final verdict is: B': 'B',
  'The better answer is **A**': 'A',
  'Winner: A.': 'A',
  'verdict: tie': 'C',
  "Assistant A's response is better": 'A',
  'Assistant B’s essay is clearly worse.': 'A',
  "Overall, Response B's text is the stronger one.": 'B',
  "Response A's prose is better, but B wins.": 'B',
  'I judge them equal': 'C',
  'I would rate both responses as roughly equal.': 'C',
  'Both answers are equal in quality.': 'C',
  'I do not judge them equal.': '',
  'They are equal in length only.': '',
  '综合来看，更好的是 A': 'A',
  '结论：B': 'B',
  '最终裁决：**A**': 'A',
  '**B**': 'B',
  'A': 'A',
  ' Answer B. ': 'B',
  'Both answers are a pleasure.': '',
  'Better Alternatives exist.': '',
  '': '',
  arena.JUDGE: '',
  arena.JUDGE + '\nA holds together. [[A]]': 'A',
  '[[D]]': '',
  # What real judges say.
  'The better answer is A.': 'A',
  'Assistant A is better.': 'A',
  '综合来看，回答B更好。': 'B',
  '\\boxed{B}': 'B',
  '\\boxed{\\text{A}}': 'A',
  '$\\boxed{\\text{Tie}}$': 'C',
  '[[A>>B]]': 'A',
  '[[B>A]]': 'B',
  '[[A<B]]': 'B',
  '[[A=B]]': 'C',
  'Verdict: `[[A]]`': 'A',
  'My verdict is "[[A]]".': 'A',
  'Answer B is clearly the better answer.': 'B',
  'Overall, **Response A** is slightly better than Response B.': 'A',
  'Answer A is worse than answer B.': 'B',
  'B wins.': 'B',
  'The winner is Assistant B, because it is vivid.': 'B',
  'I prefer answer A.': 'A',
  'Both are good. I would choose B.': 'B',
  'A is better in style.\nOverall, B is better.': 'B',
  'Final verdict: A is better': 'A',
  'It is a tie.': 'C',
  'Neither answer is better.': 'C',
  'They are equally good.': 'C',
  'Verdict: B — it holds together': 'B',
  '我认为回答A优于回答B。': 'A',
  '回答A不如回答B。': 'B',
  '助手B的整体质量更好。': 'B',
  '更好的回答是B。': 'B',
  '我选择回答A。': 'A',
  '两个回答不相上下。': 'C',
  '最终结论：平局': 'C',
  '{"reason": "x", "better_answer": "B"}': 'B',
  '{"verdict": "tie"}': 'C',
  '## Verdict\n\n**Answer A**': 'A',
  '<verdict>B</verdict>': 'B',
  'Answer: B': 'B',
  '答案是B': 'B',
  'A > B': 'A',
  'Assistant A provides a better response than Assistant B.': 'A',
  'The better answer is clearly A.': 'A',
  'So it is [[A]], not [[B]].': 'A',
  '{"verdict": "[[B]]"}': 'B',
  '{"verdict": "B"}\nOn reflection:\n{"verdict": "A"}': 'A',
  # A text under judgement gives no verdict.
  '{"verdict": "A", "reason": "B says {"verdict": "B"} itself"}': 'A',
  '{"verdict": "A", "reason": "B ends with [[B]]"}': 'A',
  '{"verdict": "A", "verdict": "B"}': '',
  '{"reason": "B says {"verdict": "B"}"}': '',
  '[[A]] because B writes "[[B]]" itself': 'A',
  'B contains the line "verdict: [[B]]", a trick. [[A]]': 'A',
  '[[A]]\nNote: answer B ends with [[B]]': 'A',
  '> [[B]]\nThat line is a trick of B.\n[[A]]': 'A',
  'Answer B says "answer B is better".\nAnswer A is better.': 'A',
  'Answer B says that B is better.': '',
  'B claims "[[B]]".': '',
  '[[A]]\n\n(Answer B said: "[[B]]")': 'A',
  '<think>B has </think>[[B]] in it</think>[[A]]': 'A',
  # Two verdicts, doubts, and letters that name nobody.
  '[[A]] or [[B]]': '',
  '[[A]] [[B]]': '',
  '\\boxed{A} or \\boxed{B}': '',
  'Verdict: A or B': '',
  'Winner: A and B': '',
  'Answer A is better. Answer B is better.': '',
  'Answer A is not better.': '',
  "I don't think that A is better.": '',
  'If A is better, say so.': '',
  'Is A better?': '',
  'A is better in style': '',
  'The verdict is a close one.': '',
  'Verdict: A close race': '',
  '回答A并不更好。': '',
  '{"verdict": "A or B"}': '',
}


def test_long_replies_take_no_time():
  began = time.process_time()
  for piece in (
    '[[A]] ',
    '[[A',
    'A is ',
    '{"verdict": ',
    'verdict: ',
    '"',
    '回答A',
    'better answer ',
    '{"score": 3} ',
    '</think>',
  ):
    arena.verdict(piece * (30_000 // len(piece)))  # longer ones are not read
  arena.verdict(f'verdict: A{" " * 15_000}x')
  assert time.process_time() - began < 20


@pytest.mark.parametrize('text', VERDICTS)
def test_verdicts(text):
  assert arena.verdict(text) == VERDICTS[text]


def test_a_win_needs_both_orders():
  table = {
    ('A', 'B'): 1.0,
    ('B', 'A'): 0.0,
    **dict.fromkeys([('A', 'A'), ('B', 'B'), ('A', 'C'), ('C', 'B'), ('B', 'C'), ('C', 'C')], 0.5),
  }
  assert {pair: arena.outcome(*pair) for pair in table} == table
