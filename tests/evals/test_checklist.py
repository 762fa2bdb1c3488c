"""The verdicts on a list of criteria, in replies as judges give them."""

import pytest

from lwz.evals import checklist

GOOD = '{"c1": "yes", "c2": "partly", "c3": "no"}'


@pytest.mark.parametrize(
  'reply',
  [
    GOOD,
    f'c1 is met, c2 half of it.\n```json\n{GOOD}\n```',
    f'<think>{GOOD.replace("yes", "no")}</think>\n{GOOD}',
    "{'c1': 'Yes', 'c2': 'Partially', 'c3': 'No.'}",
    '{"c1": true, "c2": "部分满足", "c3": "否"}',
    f'{GOOD.replace("no", "yes")}\nOn second thought:\n{GOOD}',
    '{"C1": "yes", "c2": "partly", "c3": "no", "note": "close"}',
  ],
)
def test_a_verdict_on_each_criterion_is_read(reply):
  assert checklist.read(reply, 3) == ('yes', 'partly', 'no')


@pytest.mark.parametrize(
  'reply',
  [
    '',
    'All are met.',
    '{"c1": "yes", "c2": "no"}',  # one is left out
    '{"c1": "yes", "c2": "maybe", "c3": "no"}',
    '{"c1": "yes", "c1": "no", "c2": "no", "c3": "no"}',  # contradicts itself
    '{"score": 3}',
    f'The answer says "{GOOD.replace(chr(34), chr(39))}" of itself.',
    checklist.form(3),  # the form of the prompt, repeated
  ],
)
def test_what_is_no_verdict_is_none(reply):
  assert checklist.read(reply, 3) is None


def test_the_question_shows_each_text_as_it_is():
  (message,) = checklist.messages('Write {answer}.', 'A {form} and \\1.', ['Is {question}.', 'B'])
  said = message['content']
  assert 'Write {answer}.' in said and 'A {form} and \\1.' in said
  assert 'c1: Is {question}.\nc2: B\n' in said and said.endswith(checklist.form(2))
