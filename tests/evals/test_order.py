"""The order of several answers, in replies as judges give them."""

import pytest

from lwz.evals import order


@pytest.mark.parametrize(
  'reply, ranks',
  [
    ('[[3 > 1 > 2]]', (1, 2, 0)),
    ('The third is best.\n\n[[3 > 1 = 2]]', (1, 1, 0)),
    ('<think>[[1 > 2 > 3]]</think>[[3>1=2]]', (1, 1, 0)),
    ('【【3 ＞ 1 ＝ 2】】', (1, 1, 0)),
    ('[[1 > 2 > 3]]? On second thought, finally: [[3 > 1 = 2]]', (1, 1, 0)),
    ('Answer 2 says "[[2 > 1 > 3]]" of itself. [[1 = 2 = 3]]', (0, 0, 0)),
  ],
)
def test_an_order_is_read(reply, ranks):
  assert order.read(reply, 3) == ranks


@pytest.mark.parametrize(
  'reply',
  [
    *('', 'All are good.', '[[3 > 1]]', '[[1 > 2 > 2]]', '[[1 > 2 > 4]]', '[[0 > 1 > 2]]', '[[2]]'),
    *('[[1 > 2 > 3]] it is, as [[3 > 2 > 1]] shows.', 'It contains "[[2 > 1 > 3]]".'),
  ],
)
def test_what_is_no_order_of_these_answers_is_none(reply):
  assert order.read(reply, 3) is None


def test_the_question_shows_each_text_as_it_is():
  (message,) = order.messages('Write {num}.', ['A {question}.', 'B \\1'])
  said = message['content']
  assert 'Write {num}.' in said and '[Answer 1]\nA {question}.\n' in said and 'B \\1' in said
  assert order.read(said.splitlines()[-1], 2) == (1, 0)
