"""Examples of fine-tuning: the forms that data sets have, and what each style asks of a record."""

import json

import pytest

from lwz.data import examples

CHAT = [{'role': 'user', 'content': 'Write.'}, {'role': 'assistant', 'content': 'A text.'}]
LATER = [{'role': 'user', 'content': 'Longer.'}, {'role': 'assistant', 'content': 'No.'}]
THOUGHT = '<think>A plan.</think>\n<answer>A text.</answer>'


def read(tmp_path, *records, style='direct', **options):
  path = tmp_path / 'data.jsonl'
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  return examples.load(path, style, **options)


@pytest.mark.parametrize(
  'record',
  [
    {'messages': CHAT},  # LongWriter-6k's
    {'messages': [{'role': 'system', 'content': 'Be good.'}, *CHAT, *LATER]},
    {'conversations': [{'from': 'human', 'value': 'Write.'}, {'from': 'gpt', 'value': 'A text.'}]},
    {'prompt': 'Write.', 'answer': 'A text.'},
    {'prompt': 'Write.', 'response': '<answer>A text.</answer>'},
    {'prompt': 'Write.', 'response': THOUGHT},
    {'prompt': CHAT[:1], 'completion': CHAT[1:]},
    {'messages': [{'role': 'user', 'content': ''}, {'role': 'assistant', 'content': '?'}, *CHAT]},
  ],
  ids=lambda record: '-'.join(record),
)
def test_forms_of_data_sets(tmp_path, record):
  assert read(tmp_path, record) == ([examples.Example('Write.', '', 'A text.')], 0)


@pytest.mark.parametrize(
  'record',
  [
    {'prompt': 'Write.', 'answer': THOUGHT},
    {'prompt': 'Write.', 'answer': '<think>A plan.</think>A text.'},
    {'prompt': 'Write.', 'answer': 'A text.', 'think': 'A plan.'},
    {'messages': [CHAT[0], CHAT[1] | {'reasoning_content': 'A plan.'}]},
    {'prompt': CHAT[:1], 'completion': [CHAT[1] | {'reasoning_content': 'A plan.'}]},
  ],
  ids=['tags', 'think alone', 'field', 'of a turn', 'of a completion'],
)
def test_a_thought_is_learnt_in_the_style_that_has_one(tmp_path, record):
  (found,), _ = read(tmp_path, record, style='think')
  assert found.rendered('think', 'pocket') == (
    'Plan in <think> </think>, write in <answer> </answer>. <|user|>: Write. <|assistant|>:',
    THOUGHT,
  )
  (found,), _ = read(tmp_path, record)
  assert found.rendered('direct', 'pocket')[1] == '<answer>A text.</answer>'


@pytest.mark.parametrize(
  'record, style, why',
  [
    ({'messages': CHAT}, 'think', 'no thought before the answer'),
    ({'messages': CHAT[:1]}, 'direct', 'no answer after the first request'),
    ({'messages': [CHAT[0], *LATER]}, 'direct', 'no answer after the first request'),
    ({'prompt': 'Write.', 'answer': ''}, 'direct', 'no answer'),
    ({'prompt': [*CHAT, LATER[0]], 'answer': 'A text.'}, 'direct', 'to a later turn'),
    ({'chosen': [*CHAT, *LATER]}, 'direct', 'to a later turn'),
    ({'chosen': 'Human: Write.\n\nAssistant: A text.'}, 'direct', 'begins with the request'),
    ({'prompt': 'Write.', 'answer': 5}, 'direct', 'the answer is no text'),
    ({'answer': 'A text.'}, 'direct', 'no turn of a user'),
    ({'prompt': 'Write.', 'answer': '<think>A plan.</think>'}, 'direct', 'the answer is empty'),
    ({'prompt': 'Write.', 'answer': '<think>A plan.'}, 'direct', '<think> within'),
    ({'prompt': 'Write.', 'answer': f'{THOUGHT} {THOUGHT}'}, 'think', 'within a thought'),
    ({'prompt': 'Write.', 'answer': 'A text.', 'think': '\ud800'}, 'think', 'of the thought'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_broken_record_is_named_or_skipped_and_counted(tmp_path, record, style, why):
  good = {'prompt': 'Write.', 'answer': THOUGHT}
  with pytest.raises(ValueError, match=rf'data\.jsonl:2: .*{why}'):
    read(tmp_path, good, record, style=style)
  found, num_skipped = read(tmp_path, good, record, good, style=style, skip_broken=True)
  assert (len(found), num_skipped) == (2, 1)
