"""Plan following: full where the plan was made of the text, less where order or words differ."""

import math

import pytest

from lwz.data import formatted
from lwz.evals import plan

PLAN = 'Plan: 1. Rivers carry water; 2. Lakes keep it for years; 3. Snow waits on the hills.'
TEXT = 'Rivers carry water to the sea. Lakes keep water for years.\n\nThe snow waits on the hills.'
ZH = '河流把水带到大海。湖泊把水留住多年。雪在山上等待春天。泉水重新开始流动。'


def test_points_are_numbered_parts_or_sentences():
  assert plan.points(PLAN) == [
    'Rivers carry water;',
    'Lakes keep it for years;',
    'Snow waits on the hills.',
  ]
  assert plan.points('1) One\n2) Two\n3) Three') == ['One', 'Two', 'Three']
  assert plan.points('First the sea. Then, in 1998, version 2.5 of it.') == [
    'First the sea.',
    'Then, in 1998, version 2.5 of it.',
  ]
  assert plan.points(' ') == []


@pytest.mark.parametrize('text', [TEXT, ZH], ids=['en', 'zh'])
def test_a_plan_made_of_the_text_is_followed(text):
  assert plan.following(formatted.plan(text), text) == 1.0


def test_the_order_counts():
  first, second, third = TEXT.replace('\n\n', ' ').split('. ')
  assert plan.following(PLAN, TEXT) == 1.0
  assert plan.following(PLAN, f'{third} {first}. {second}.') == pytest.approx(2 / 3)
  assert plan.following(PLAN, f'{third} {second}. {first}.') < 0.7


def test_what_is_left_out_counts():
  assert plan.following(PLAN, TEXT.partition('\n')[0]) == pytest.approx(2 / 3)
  assert plan.following(PLAN, 'Comets come and go. Stars burn.') == 0.0
  assert plan.following(PLAN, '') == 0.0


def test_one_sentence_may_hold_two_points():
  assert (
    plan.following(PLAN, 'Rivers carry water, lakes keep it for years, snow waits on hills.') == 1.0
  )


def test_places_say_where_a_point_is_missing_or_out_of_order():
  first, second, third = TEXT.replace('\n\n', ' ').split('. ')
  found = plan.places(PLAN, f'{third} Comets burn. {first}. {second}.')
  assert [place.ordered for place in found] == [True, True, False]
  assert [place.at for place in found] == [0.5, 0.75, 0.0]
  (one, two, three) = plan.places(PLAN, f'{first}. Comets burn. {third}')
  assert (one.ordered, two.ordered, three.ordered) == (True, False, True)
  assert math.isnan(two.at) and three.at == pytest.approx(2 / 3)
  assert plan.places('', TEXT) == []


def test_thoughts_without_content_announce_nothing():
  assert math.isnan(plan.following('', TEXT))
  assert math.isnan(plan.following('1. the; 2. of it.', TEXT))
