"""Damage to the second half of a text is found there, and no other part is blamed, en and zh."""

import json
import math
import pathlib

import numpy as np
import pytest

from lwz.data import damages
from lwz.evals import answers, position
from lwz.judge import inside
from tests import prose

LAWS = pathlib.Path(__file__).parents[1] / 'reward' / 'laws.jsonl'


def honest(language):
  """A text of a few thousand words in paragraphs."""
  if language == 'en':
    return '\n\n'.join(prose.documents(400)[:8])
  return '\n\n'.join(json.loads(line)['text'] for line in LAWS.read_text().splitlines()[:2])


def damaged(text, damage):
  """The text with its second half, from a line break on, damaged; and where that begins."""
  cut = text.index('\n', len(text) // 2)
  rng = np.random.default_rng(0)
  second = text[:cut] if damage == 'again' else damages.DAMAGES[damage](text[cut:], rng, '')
  return text[:cut] + '\n\n' + second, cut


@pytest.mark.parametrize('language', ['en', 'zh'])
@pytest.mark.parametrize('damage, name', [('scramble', 'disorder'), ('again', 'repetition')])
def test_the_second_half_breaks_where_it_was_broken(language, damage, name):
  text, cut = damaged(honest(language), damage)
  measure = inside.MEASURES[name]
  found = position.score(text, measure)
  at = position.change(found.value_W, measure.worse)
  assert abs(found.at_W[at] - cut / len(text)) < 0.12
  assert position.fall({0: found}, measure.worse, 0).value > 0.3
  whole = position.score(honest(language), measure)
  assert position.fall({0: whole}, measure.worse, 0).value < 0.2


def test_repetition_sees_what_stood_far_before():
  """A window is judged by all that came before it, not by itself alone."""
  text = prose.ENGLISH + '\n\n' + '\n\n'.join(prose.documents(400)[:6]) + '\n\n' + prose.ENGLISH
  found = position.score(text, inside.MEASURES['repetition'])
  assert found.value_W[-1] > 0.9 and found.value_W[:-3].max() < 0.4
  alone = position.score(prose.ENGLISH, inside.MEASURES['repetition'])
  assert alone.value_W.max() < 0.1


def test_a_report_has_curves_falls_and_plans():
  text = '\n\n'.join(prose.documents(400)[:4])
  think = '1. rivers carry heavy water; 2. nobody writes about comets.'
  given = answers.Answers(
    {0: 'Rivers carry heavy water. ' + text, 1: text}, {}, frozenset(), {0: think, 1: ''}
  )
  found = inside.report({'a': given, 'b': answers.Answers({}, {})}, 0, 300)
  assert set(found.results) == {'repetition', 'distinct', 'disorder', 'cohesion', 'plan'}
  assert all(set(of) == {'a'} for of in found.results.values())
  assert [p['mean'] for p in found.results['plan']['a']['curve']] == [1.0, 0.0]
  assert found.results['plan']['a']['fall']['value'] == 1.0
  assert len(found.plots) == 5 and all(svg.startswith('<svg') for _, svg in found.plots)
  _, header, rows = found.table
  assert [row[1] for row in rows] == list(found.results) and len(header) == len(rows[0])


def test_a_scorer_may_be_given():
  calls = []

  def score(text, windows, request):
    calls.append((request, len(windows)))
    return [math.nan if i == 0 else float(i) for i in range(len(windows))]

  text = 'One two three four. ' * 40
  given = answers.Answers({0: text, 1: text}, {})  # one text may answer two requests
  own = {'mine': position.Measure(score, -1, 'a reward model', asks=True)}
  found = inside.report({'a': given}, 0, 20, own, {0: 'Count', 1: 'Sing'})
  assert calls == [('Count', 8), ('Sing', 8)] and list(found.results) == ['mine']
  assert found.results['mine']['a']['fall']['value'] < 0


def test_windows_grow_with_the_answers_as_far_as_they_are_cut_alike():
  seen = []
  own = {'mine': position.Measure(lambda _, found: seen.extend(found) or [0.0] * len(found), 1, '')}
  for sentences, words in ((30, 12), (1_000, 200), (25, 10)):
    seen.clear()
    given = answers.Answers({0: 'One two three four. ' * sentences}, {})
    title = inside.report({'a': given}, 0, 10, own).table[0]
    assert f'windows of {words} words' in title
    assert abs(seen[0].words - words) <= 4


def test_breaks_are_a_share_of_the_texts_that_are_long_enough():
  def score(text, windows):
    return [float(i < len(windows) / 2) for i in range(len(windows))]

  line = 'One two three four. '
  given = answers.Answers({0: line * 50, 1: line * 45, 2: line * 5}, {})
  own = {'mine': position.Measure(score, -1, 'a reward model')}
  said = inside.report({'a': given}, 0, 20, own).results['mine']['a']
  assert (said['breaks'], said['long']) == (1.0, 1)
  short = inside.report({'a': answers.Answers({2: line * 5}, {})}, 0, 20, own)
  assert math.isnan(short.results['mine']['a']['breaks'])
