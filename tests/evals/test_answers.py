"""What a reader gets of what a model wrote."""

import pytest

from lwz.evals import answers

FINAL = {
  '<think>plan</think> <answer>work</answer>': 'work',
  '<think>plan</think>\n<answer>work': 'work',  # the server kept the stop string
  '<answer>work</answer>': 'work',
  '<think>say <answer>x</answer>?</think><answer>work</answer>': 'work',
  '<think>plan</think>\n\nwork': 'work',
  'plan</think>work': 'work',
  'plain text': 'plain text',
  '<think>never ends': '',
  '<think>plan</think>': '',
  'work</answer> and more': 'work',
  '': '',
}


@pytest.mark.parametrize('text', FINAL)
def test_thoughts_and_tags_are_gone(text):
  assert answers.final(text) == FINAL[text]


@pytest.mark.parametrize(
  'text, right',
  [
    ('<think> plan </think> <answer>work', 'plan'),
    ('plan</think>work', 'plan'),  # the opening tag stood in the prompt
    ('<think>never ends', ''),
    ('plain', ''),
  ],
)
def test_thoughts_stand_before_the_answer(text, right):
  assert answers.thought(text) == right
