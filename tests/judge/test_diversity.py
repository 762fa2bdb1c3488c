"""Diversity: collapse is seen across prompts, among siblings, in openings and in names."""

import math

import pytest

from lwz.judge import diversity

PROMPTS = {i: f'Write about topic{i}.' for i in range(6)}


def test_one_text_for_every_prompt_is_a_collapse():
  same = dict.fromkeys(PROMPTS, 'The rain fell on the town, and then Elara Voss came home.')
  found = diversity.measure(same, PROMPTS)
  assert found['similarity'] == pytest.approx(1) and found['openings'] == pytest.approx(1 / 6)
  assert found['shared_name'] == 1
  assert found['opening'] == 'the rain fell on (6)' and found['name'] == 'Elara (6)'
  other = {i: f'{i}a {i}b {i}c {i}d {i}e and {chr(65 + i)}nna' for i in PROMPTS}
  found = diversity.measure(other, PROMPTS)
  assert found['similarity'] < 0.1 and found['openings'] == 1
  assert (found['opening'], found['name']) == ('', '')


def test_a_name_that_the_prompt_gives_is_nobodys_choice():
  texts = dict.fromkeys(range(3), 'We saw that Paris and Anna were there.')
  asked = dict.fromkeys(range(3), 'Tell me about Paris.')
  assert diversity.measure(texts, asked)['name'] == 'Anna (3)'


def test_of_texts_without_names_that_can_be_found_no_share_is_known():
  found = diversity.measure(dict.fromkeys(range(3), '王小明走进了雨中的小镇。'), PROMPTS)
  assert math.isnan(found['shared_name']) and found['name'] == ''


def test_nothing_to_compare_is_nan_and_empty_texts_are_left_out():
  found = diversity.measure({0: 'alone here', 1: '', 2: ' ...'}, PROMPTS)
  assert math.isnan(found['similarity']) and found['openings'] == 1
  assert math.isnan(diversity.measure({}, {})['openings'])
  assert math.isnan(diversity.similarity([['one'], []]))


def test_siblings_are_compared_within_their_groups_and_many_in_part():
  assert diversity.similarity([['a b', 'a b'], ['c', 'd']]) == pytest.approx(0.5)
  many = ['x y z'] * (3 * diversity.MOST)
  assert diversity.similarity([many]) == pytest.approx(1)
