"""Arena-Write: what is read, who meets whom, and what a judge's reply means."""

import json

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
    "no text under 'question'",
    'idx 1 was there before',
    "no text under 'question'",
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
  'The better answer is **A**': '',
  'Winner: A.': 'A',
  'verdict: tie': 'C',
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
}


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
