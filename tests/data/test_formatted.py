"""Plans, requests and formatted documents."""

import re

import pytest

from lwz import types
from lwz.data import corpus, formatted
from lwz.evals import plan as plan_following

RIVERS = 'Rivers carry water. Lakes keep it for a very long time. Seas are salt!'


def test_a_plan_says_how_the_sentences_begin():
  assert formatted.plan(RIVERS) == (
    'Plan: 1. Rivers carry water; 2. Lakes keep it for a very; 3. Seas are salt.'
  )


def test_a_plan_of_paragraphs_takes_their_first_sentences():
  text = '\n\n'.join(f'Point {i} is here. More of {i}.' for i in range(4))
  assert formatted.plan(text, max_words=2) == (
    'Plan: 1. Point 0; 2. Point 1; 3. Point 2; 4. Point 3.'
  )


def test_a_chinese_plan_counts_characters():
  text = '河流把水带到大海，一年四季从不停息。湖泊把水留住。'
  assert formatted.plan(text) == '提纲：1. 河流把水带到大海，一年四；2. 湖泊把水留住。'


def test_a_full_plan_repeats_the_length_and_counts_to_it():
  assert formatted.full_plan(RIVERS, 'In 10 to 20 words: 3 rivers.') == (
    'Plan, 10-20 words: 1. Rivers carry water (3); 2. Lakes keep it for (11); '
    '3. Seas are salt (14).'
  )
  for request in ('', 'Use 10 words in 3 of 10 to 20 lines.', 'Of 1984: 10 words.'):
    assert formatted.full_plan(RIVERS, request).startswith('Plan, 10 words: ')
  assert formatted.full_plan('河流把水带到大海，一年四季从不停息。湖泊把水留住。', '约20字。') == (
    '提纲，20字：1. 河流把水带到大海 (16)；2. 湖泊把水留住 (22)。'
  )
  many = ' '.join(f'Number {"x" * i} goes on.' for i in range(1, 31))
  found = plan_following.points(formatted.full_plan(many))
  assert len(found) == 12 and found[-1] == 'Number xxxxxxxxxxxxxxxxxxxxxxxxxxxx goes on (120).'
  assert plan_following.following(formatted.full_plan(RIVERS), RIVERS) == 1.0


def test_a_countdown_ends_at_no_words_left():
  text = 'Rivers carry water. Lakes keep it for a very long time.'
  assert formatted.countdown_plan(text, 'In 10 to 20 words: rivers.') == (
    'Plan (10-20): 1. Rivers carry water (8); 2. Lakes keep it for (0).'
  )
  counts_up, (length, *counts_down) = (
    [int(n) for n in re.findall(r'\((\d+)\)', made(RIVERS * 9, ''))]
    for made in (formatted.full_plan, formatted.countdown_plan)
  )
  assert length == 130
  assert [up + down for up, down in zip(counts_up, counts_down, strict=True)] == [126] * 12
  assert plan_following.following(formatted.countdown_plan(RIVERS), RIVERS) == 1.0


@pytest.mark.parametrize(
  ('text', 'lower', 'upper', 'num_words', 'restated'),
  [
    ('Write 90 to 120 words.', 90, 120, 52, 'Write 40 to 70 words.'),
    ('Between 95 and 100 words, 3 lines.', 95, 100, 40, 'Between 40 and 50 words, 3 lines.'),
    ('In about 100 words: the 7 seas.', 90, 110, 52, 'In about 50 words: the 7 seas.'),
    ('写一首诗，约120字。', 100, 140, 61, '写一首诗，约60字。'),
    ('Write an ode.', 90, 120, 52, None),
    ('Write about the year 1984.', 1_500, 2_000, 400, None),
    ('Write 100 words about the 110 days.', 90, 120, 52, None),
    ('Write 90 words, 90 to 120.', 90, 120, 52, None),
  ],
)
def test_a_restated_request_asks_for_another_length(text, lower, upper, num_words, restated):
  assert formatted.restated(types.Prompt('a', text, lower, upper), num_words) == restated


@pytest.mark.parametrize('num_words', range(10, 200, 7))
def test_a_restated_range_holds_its_words(num_words):
  for lower, upper in ((60, 150), (95, 100)):
    text = formatted.restated(types.Prompt('a', f'{lower} to {upper}', lower, upper), num_words)
    low, high = (int(number) for number in text.split(' to '))
    assert low <= num_words <= high and high - low == max(10, upper - lower)


@pytest.mark.parametrize('num_sentences', [1, 2, 3, 4, 5, 9, 100])
def test_a_plan_is_true_and_short(num_sentences):
  text = ' '.join(
    f'Sentence number {"x" * (i + 1)} goes on and on and on.' for i in range(num_sentences)
  )
  plan = formatted.plan(text)
  points = plan.removeprefix('Plan: ').removesuffix('.').split('; ')
  assert len(points) == min(4, num_sentences)
  places = [text.index(point.split('. ', 1)[1]) for point in points]
  assert places == sorted(places) and places[0] == 0
  assert len(plan.split()) <= 4 * 7 + 1


def test_requests():
  assert formatted.question('Lists') == 'Write about Lists.'
  assert formatted.question('Lists', 87) == 'Write about Lists in about 90 words.'
  assert formatted.question('河流', 85) == '写一篇关于河流的文章，约90字。'
  assert formatted.question('河流') == '写一篇关于河流的文章。'
  assert [formatted.rounded(n) for n in (1, 14, 15, 25, 104)] == [10, 10, 20, 30, 100]


@pytest.fixture
def made(monkeypatch):
  """Examples of one document, in a style each, whose requests state a length or do not."""
  document = types.Document('Water', RIVERS, '')

  def of(*styles, states=False, template='pocket', **limits):
    monkeypatch.setattr(formatted, 'states_length', lambda document: states)
    return formatted.examples([document], styles, template=template, **limits)

  return of


def test_an_example_is_a_rendered_request_and_a_well_formed_completion(made):
  ((prompt, completion),) = made('think', states=True, lower=3, upper=12)
  assert prompt == (
    'Plan in <think> </think>, write in <answer> </answer>. '
    '<|user|>: Write about Water in about 10 words. <|assistant|>:'
  )
  assert completion == (
    '<think>Plan: 1. Rivers carry water; 2. Lakes keep it for a very.</think>\n'
    '<answer>Rivers carry water. Lakes keep it for a very long time.</answer>'
  )
  ((prompt, _),) = made('think', lower=3, upper=12)
  assert 'Write about Water. ' in prompt
  _, (_, completion) = made('think', 'direct', template='paper', lower=3, upper=3)
  assert completion == '<answer>Rivers carry water.</answer>'


def test_no_example_where_no_opening_fits(made):
  assert made('think', lower=4, upper=9) == []


def test_half_of_the_requests_name_a_length_on_either_side_of_the_split():
  found = [types.Document(f'title {i}', '', '') for i in range(4000)]
  for side in corpus.split(found, 0.25):
    share = sum(map(formatted.states_length, side)) / len(side)
    assert 0.45 < share < 0.55
