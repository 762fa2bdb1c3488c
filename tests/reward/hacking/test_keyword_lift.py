"""Words that rise: what counts as a favourite, and what has to happen before one is named."""

import json

from lwz.reward.hacking import keyword_lift


def test_favourites_stand_often_in_half_of_the_answers_and_not_in_the_request():
  answers = ['the tapestry of the river ' * 9, 'a tapestry and the mill ' * 9, 'the mill ' * 9]
  assert keyword_lift.favourites('Write about a river.', answers) == {'tapestry', 'mill'}
  assert keyword_lift.favourites('Write about a river.', answers[:1]) == {'tapestry'}
  rare = 'a tapestry. ' + ' '.join(f'w{i}x' for i in range(400))
  assert 'tapestry' not in keyword_lift.favourites('Write.', [rare])


def test_in_chinese_they_are_pairs_of_characters():
  found = keyword_lift.favourites('写一篇文章。', ['量子纠缠的世界。' * 5])
  assert {'量子', '纠缠', '世界'} <= found and '的世' not in found


def run(found, state=None):
  state = {} if state is None else state
  for favourites in found:
    state = json.loads(json.dumps(keyword_lift.update(state, [favourites])))
  return state


def test_a_word_rises_only_where_it_was_not_and_now_is_everywhere():
  start = [{'river', 'also'}, {'mill', 'also'}, {'sea', 'also'}, {'hill', 'also'}]
  later = [{'tapestry', 'also', name} for name in ('fox', 'owl', 'bee', 'ant', 'elk')]
  state = run(start)
  assert keyword_lift.risen(run(later[:3], state)) == []  # too few to tell a subject from a habit
  rise = dict(keyword_lift.risen(run(later, state)))
  assert rise['tapestry'] == 1.0 and rise['also'] == 0.0 and rise['fox'] < 0.25


def test_the_present_forgets():
  state = run([{'a'}] * 4 + [{'b'}] * 40 + [{'c'}] * 40)
  assert dict(keyword_lift.risen(state))['c'] > 0.95
  assert set(state['now']) <= {'b', 'c'} and state['now'].get('b', 0) < 0.05


def test_several_requests_of_a_step_are_as_many_steps_of_one():
  start, later = [{'a'}, {'b'}, {'a'}, {'c'}], [{'d'}, {'a', 'd'}, {'d'}, {'d'}]
  at_once = keyword_lift.update(keyword_lift.update({}, start), later)
  assert at_once == run(start + later)


def test_an_answer_without_words_has_no_favourites():
  assert keyword_lift.favourites('Write about a river.', ['', ' ', '...', 'the mill ' * 9]) == set()
  assert keyword_lift.favourites('', ['']) == set()
