"""Statistics over what people exported."""

import math

import pytest

from lwz.evals import people

KEY = {
  'page': 'p',
  'items': {
    '0': {'idx': 5, 'first': 's', 'second': 'base'},
    '1': {'idx': 6, 'first': 'base', 'second': 's'},
    '2': {'idx': 7, 'first': 's', 'second': 'base'},
  },
}


def export(annotator, *choices, left='first', page='p', time=''):
  listed = [{'id': i, 'choice': c, 'left': left} for i, c in enumerate(choices)]
  said = {'page': page, 'annotator': annotator, 'judgements': listed, 'time': time}
  return (f'{annotator}.json', said)


def test_ties_are_half_a_win_whichever_side_was_first():
  found, rejects = people.read([export('a', 'first', 'second', 'tie')], KEY)
  (row,) = people.win_rates(found, KEY, seed=0)
  assert rejects == [] and (row['system'], row['opponent']) == ('base', 's')
  assert (row['wins'], row['ties'], row['losses']) == (0, 1, 2)
  assert row['rate'] == pytest.approx(0.5 / 3) and row['low'] <= row['rate'] <= row['high']


def test_the_bias_of_the_left_side():
  found, _ = people.read(
    [export('a', 'first', 'first', 'tie'), export('b', 'first', 'second', left='second')], KEY
  )
  share, low, high = people.left_wins(found)
  assert share == 3 / 4 and low < 3 / 4 < high
  assert math.isnan(people.left_wins([])[0])


def test_what_cannot_be_used_is_explained():
  good = export('a', 'first', 'maybe', 'tie')
  good[1]['judgements'] += [None, {'id': 9, 'choice': 'tie'}, {'id': 0, 'choice': ['first']}]
  broken = [
    export('b', 'first', page='q'),
    ('c.json', [1]),
    ('d.json', {'page': 'p', 'annotator': ' ', 'judgements': []}),
    ('e.json', {'page': 'p', 'annotator': 'e', 'judgements': {'0': 'first'}}),
  ]
  found, rejects = people.read([good, *broken], KEY)
  assert {(j.item, j.score) for j in found} == {('0', 1.0), ('2', 0.5)}
  assert len(rejects) == 4 + 4


def test_the_later_choice_counts():
  found, _ = people.read([export('a', 'first'), export('a', 'second')], KEY)
  assert [j.score for j in found] == [0.0]
  # By their times: a second download, 'people-p-Ann (1).json', stands before the first.
  exports = export('a', 'second', time='2026-02-01'), export('A', 'first', time='2026-01-01')
  (one,) = people.read(exports, KEY)[0]
  assert one.score == 0.0


def test_agreement():
  pytest.importorskip('krippendorff')
  same = [export(n, 'first', 'second', 'tie') for n in 'ab']
  assert people.agreement(people.read(same, KEY)[0]) == pytest.approx(1.0)
  against = [export('a', 'first', 'second'), export('b', 'second', 'first')]
  assert people.agreement(people.read(against, KEY)[0]) < 0


def test_agreement_of_one_person_or_of_one_choice_is_no_number():
  assert math.isnan(people.agreement(people.read([export('a', 'first')], KEY)[0]))
  unanimous = [export(n, 'first', 'first') for n in 'ab']
  assert math.isnan(people.agreement(people.read(unanimous, KEY)[0]))
  assert math.isnan(people.agreement([]))
