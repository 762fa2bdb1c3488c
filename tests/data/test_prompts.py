"""Prompts: made, kept, and taken."""

import collections
import dataclasses
import json
import re

import pytest

from lwz import jsonl, types
from lwz.data import formatted, prompts

CRITERIA = (types.Criterion('a', 'Rhymes.', 2.5, 'hard'), types.Criterion('b', '押韵'))


def document(i, num_words):
  return types.Document(f'title {i}', 'word ' * (num_words - 1) + 'end.', 'made')


def test_a_prompt_asks_for_what_its_document_has():
  found = [document(i, 20 + i) for i in range(100)]
  made = prompts.from_documents(found, lower=25, upper=90, slack=0.2)
  assert len(made) == 66  # 25 ... 90 words
  assert len({prompt.id for prompt in made}) == 66
  for prompt in made:
    i = int(re.search(r'title (\d+)', prompt.text)[1])
    stated = re.search(r'about (\d+) words', prompt.text)
    assert bool(stated) == formatted.states_length(found[i])
    num_words = int(stated[1]) if stated else 20 + i
    assert abs(num_words - (20 + i)) <= 5
    assert (prompt.lower, prompt.upper) == (round(num_words * 0.8), round(num_words * 1.2))
    assert (prompt.language, prompt.source) == ('en', 'made')
    assert prompt.references == (found[i].text,)  # its opening, here the whole
  assert 0.3 < sum('words' in prompt.text for prompt in made) / 66 < 0.7


def test_one_prompt_per_title():
  twins = [document(1, 30), dataclasses.replace(document(2, 60), title='title 1')]
  (prompt,) = prompts.from_documents(twins, lower=20, upper=90, slack=0)
  assert prompt.lower == prompt.upper == 30


def test_a_wrong_slack_is_refused():
  with pytest.raises(ValueError, match='slack'):
    prompts.from_documents([], lower=1, upper=2, slack=1)


def test_what_is_saved_is_loaded_the_same(tmp_path):
  kept = [
    types.Prompt('a', 'Write {this}\n"so".', 10, 20),
    types.Prompt('b', '写诗', 5, 5, 'zh', 'ours'),
    types.Prompt('c', 'Write.', 1, 2, criteria=CRITERIA, references=('poor', 'Good "one".\n')),
  ]
  jsonl.write(tmp_path / 'new' / 'prompts.jsonl', map(dataclasses.asdict, kept))
  assert prompts.load(tmp_path / 'new' / 'prompts.jsonl') == kept


def test_what_a_line_leaves_out_is_derived(tmp_path):
  (tmp_path / 'p.jsonl').write_text('{"text": "写诗", "lower": 1, "upper": 2}\n')
  (prompt,) = prompts.load(tmp_path / 'p.jsonl')
  assert prompt.language == 'zh' and prompt.source == '' and re.fullmatch('[0-9a-f]{12}', prompt.id)


def test_a_criterion_is_a_text_at_least(tmp_path):
  line = {'text': 'Write.', 'lower': 1, 'upper': 2, 'criteria': [{'text': 'a'}, {'text': 'b'}]}
  (tmp_path / 'p.jsonl').write_text(json.dumps(line))
  (prompt,) = prompts.load(tmp_path / 'p.jsonl')
  assert prompt.criteria == (types.Criterion('c1', 'a'), types.Criterion('c2', 'b'))


def test_criteria_of_rubric_data_sets_are_read():
  rubrics = [
    {'criterion': 'Rhymes.', 'points': 5, 'tags': {'axis': 'form'}},
    {'criterion': 'Is rude.', 'points': -3},
    {'description': 'Has a title.', 'weight': 2.0},
  ]
  first, last = prompts.criteria({'criteria': rubrics})
  assert (first.text, first.weight, last.text, last.weight) == ('Rhymes.', 5, 'Has a title.', 2)
  assert prompts.more({'references': ['a']}) == {'references': ['a']}


GOOD = {'id': 'a', 'text': 'Write.', 'lower': 10, 'upper': 20}


@pytest.mark.parametrize(
  'change, fault',
  [
    ({'lower': 30}, '0 < lower <= upper, in words, not 30 and 20'),
    ({'lower': 0}, '0 < lower'),
    ({'lower': '10'}, "'lower' should be int, found str"),
    ({'upper': True}, "'upper' should be int, found bool"),
    ({'text': ' '}, "'text' is empty"),
    ({'text': None}, "'text' is null"),
    ({'criteria': {'a': 'Rhymes.'}}, "'criteria' should be list, found dict"),
    ({'criteria': ['Rhymes.']}, 'criterion 1 should be an object, found str'),
    ({'criteria': [{'text': 'Rhymes.'}, {}]}, "no field 'text'"),
    ({'criteria': [{'text': ' '}]}, "criterion 'c1': 'text' is empty"),
    ({'criteria': [{'text': 'x', 'weight': 0}]}, "criterion 'c1': 'weight' is 0.0"),
    ({'criteria': [{'text': 'x', 'weight': float('nan')}]}, "'weight' is nan"),
    ({'criteria': [{'text': 'x', 'weight': 1e308}] * 2}, "'weight' is 1e+308, choose one"),
    ({'criteria': [{'text': 'x'}] * 1_001}, "1,001 'criteria', more than the 1,000"),
    ({'criteria': [{'text': 'x', 'weight': '2'}]}, "'weight' should be Real, found str"),
    ({'criteria': [{'text': 'x', 'kind': 'soft'}]}, "no kind 'soft'; choose from content, "),
    ({'criteria': [{'text': 'x', 'id': 'a'}] * 2}, "two criteria have the id 'a'"),
    ({'references': 'x'}, "'references' should be list, found str"),
    ({'references': ['x', '']}, "'references' should hold texts that are not empty"),
    ({'references': ['\ud83d']}, 'surrogates not allowed'),
    ({}, "the id 'a' was there before"),
  ],
)
def test_a_broken_line_is_named(tmp_path, change, fault):
  lines = [json.dumps(GOOD), '', json.dumps(GOOD | change)]
  (tmp_path / 'p.jsonl').write_text('\n'.join(lines))
  with pytest.raises(ValueError, match='p.jsonl:3: .*' + re.escape(fault)):
    prompts.load(tmp_path / 'p.jsonl')


def test_a_range_is_left_out_where_none_is_needed(tmp_path):
  path = tmp_path / 'prompts.jsonl'
  path.write_text('{"text": "Write about mills."}\n')
  (prompt,) = prompts.load(path, ranged=False)
  assert (prompt.lower, prompt.upper) == (0, 0)
  with pytest.raises(ValueError, match="no field 'lower'"):
    prompts.load(path)
  path.write_text('{"text": "Write about mills.", "upper": 9}\n')
  with pytest.raises(ValueError, match='expected 0 < lower <= upper'):
    prompts.load(path, ranged=False)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'p\.jsonl: no such file'):
    prompts.load(tmp_path / 'p.jsonl')


@pytest.mark.parametrize('total, num', [(10, 1), (10, 3), (10, 10), (7, 4), (3, 8), (1, 5)])
def test_every_epoch_has_every_prompt_once(total, num):
  kept = [types.Prompt(str(i), 'x', 1, 1) for i in range(total)]
  stream = [p for step in range(4 * total) for p in prompts.take(kept, step, num, seed=3)]
  epochs = [stream[i : i + total] for i in range(0, len(stream), total)]
  assert len(epochs) == 4 * num
  for epoch in epochs:
    assert collections.Counter(epoch) == collections.Counter(kept)
  if total > 3:
    assert len({tuple(p.id for p in epoch) for epoch in epochs}) > 1


def test_a_step_depends_on_nothing_before_it():
  kept = [types.Prompt(str(i), 'x', 1, 1) for i in range(9)]
  taken = [prompts.take(kept, step, 4, seed=0) for step in range(20)]
  assert [prompts.take(kept, step, 4, seed=0) for step in reversed(range(20))] == taken[::-1]
  assert [prompts.take(kept, step, 4, seed=1) for step in range(20)] != taken


def test_nothing_can_be_taken_from_nothing():
  with pytest.raises(ValueError, match='no prompts'):
    prompts.take([], 0, 1, 0)
