"""Plan following: full where the plan was made of the text, less where order or words differ."""

import math
import time

import numpy as np
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


OUTLINE = (
  '1. Copper kettles boil river water; 2. Grey herons hunt silver minnows; '
  '3. Wooden bridges carry heavy wagons; 4. Winter storms close mountain passes.'
)
SAID = (
  'Copper kettles boil river water.',
  'Grey herons hunt silver minnows.',
  'Wooden bridges carry heavy wagons.',
  'Winter storms close mountain passes.',
)


def test_words_that_stand_where_a_point_should_do_not_stand_for_it():
  near, other = 'Old wooden bridges carry nobody.', 'Nothing else.'
  assert plan.following(OUTLINE, ' '.join(SAID)) == 1.0
  moved = [SAID[2], other, SAID[0], SAID[1], near, SAID[3]]
  assert [p.ordered for p in plan.places(OUTLINE, ' '.join(moved))] == [True, True, False, True]
  taken_out = [SAID[0], SAID[1], near, SAID[3]]
  assert [p.ordered for p in plan.places(OUTLINE, ' '.join(taken_out))] == [True, True, False, True]


LOOSE = (
  'Copper kettles boil river water over charcoal',
  'Grey herons hunt silver minnows near reeds',
  'Wooden bridges carry heavy wagons toward town',
  'Winter storms close icy mountain passes',
)
TOLD = (
  'Charcoal glowed under copper kettles.',
  'Herons stood in the reeds, grey as stone.',
  'Over the bridges came wagons, and the town woke.',
  'Storms close the passes.',
)
TALE = ' '.join(f'{one} {"Nothing else. " * 6}' for one in TOLD)


def test_a_plan_in_other_words_than_the_answer_is_followed():
  outline = '; '.join(f'{i}. {point}' for i, point in enumerate(LOOSE, 1))
  assert plan.following(outline, TALE) == 1.0
  assert plan.following(outline, TALE.replace(TOLD[1], '')) == 0.75


TAIL = '\n\nNow I write it in a warm tone, with smooth transitions and a good end.'


@pytest.mark.parametrize(
  'form, tail',
  [
    ('{i}. {point} (about {n} words)', ''),
    ('Paragraph {i} - Main Point: {point} - Word Count: {n} words', ''),  # LongWriter's AgentWrite
    ('{i}. {point}', TAIL),
    ('### **{i}. {point}**', TAIL),
    ('- **{point}**', TAIL),
    ('Part {i}: {point}', TAIL),
  ],
)
def test_what_stands_around_the_points_of_a_plan_is_no_part_of_them(form, tail):
  lines = [form.format(i=i, point=point, n=350 + 50 * i) for i, point in enumerate(LOOSE, 1)]
  found = plan.places(
    'First I think of what is wanted.' * bool(tail) + '\n' + '\n'.join(lines) + tail, TALE
  )
  assert [place.ordered for place in found] == [True] * 4
  zh = ['铜壶煮着河水', '灰鹭捕捉小鱼', '木桥承载马车', '冬雪封住山口']
  for form in ('{i}. 要点：{point}（约{n}字）', '第{han}部分：{point}', '{han}、{point}'):
    lines = [
      form.format(i=i, han='一二三四'[i - 1], n=300 + i, point=p) for i, p in enumerate(zh, 1)
    ]
    assert (
      plan.following('我先想一想。\n' + '\n'.join(lines) + '\n\n现在写。', '。'.join(zh)) == 1.0
    )


def test_thoughts_without_content_announce_nothing():
  assert math.isnan(plan.following('', TEXT))
  assert math.isnan(plan.following('1. the; 2. of it.', TEXT))


def test_a_run_of_digits_takes_a_bounded_time():
  begin = time.process_time()
  assert len(plan.places(f'1. Rivers {"9" * 30_000}; 2. Lakes.', 'Rivers run. Lakes lie.')) == 2
  assert time.process_time() - begin < 3


def test_a_thought_in_circles_takes_a_bounded_time():
  think = '\n'.join(
    f'{1 + i % 99}. The old keeper lights lamp {100 + i % 40}.' for i in range(2_000)
  )
  answer = ' '.join(f'The old keeper lights lamp {100 + i % 40} again.' for i in range(2_000))
  begin = time.process_time()
  found = plan.places(think, answer)
  assert time.process_time() - begin < 3 and len(found) == plan.MOST
  assert all(place.ordered for place in found)


def test_the_longest_run_is_found():
  """Against all subsets: numbers of the points, in the order of the sentences that hold them."""
  rng = np.random.default_rng(0)
  names = ['anchor', 'bakery', 'candle', 'dragon', 'engine', 'falcon', 'garden', 'harbor']
  think = '; '.join(f'{i}. {name}' for i, name in enumerate(names, start=1))
  for _ in range(20):
    held = rng.integers(8, size=12)
    found = plan.places(think, ' '.join(f'{names[i].title()}.' for i in held))
    # A sentence covers with the one behind it, so that either of two may come first.
    pairs = [set(held[i : i + 2].tolist()) for i in range(12)]
    best = max(
      sum(bits >> i & 1 for i in range(8))
      for bits in range(256)
      if _in_order([i for i in range(8) if bits >> i & 1], pairs)
    )
    assert sum(place.ordered for place in found) == best


def _in_order(points, pairs):
  at = 0
  for point in points:
    while at < len(pairs) and point not in pairs[at]:
      at += 1
    if at == len(pairs):
      return False
  return True
