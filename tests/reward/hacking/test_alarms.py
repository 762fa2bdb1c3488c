"""When an alarm rings, what it names, and what a report says of it."""

import dataclasses

import numpy as np
import pytest

from lwz.reward.hacking import alarms, signals
from tests import tree

ABOVE = alarms.Rule('loud', 'noise', 0.5, 1, 0.25, 'too loud')
BELOW = alarms.Rule('quiet', 'noise', 0.2, -1, 0.5, 'too quiet')
STEP = alarms.Rule('cut', 'cap', 0.3, 1, 0.0, 'texts are cut')
SEVERE = dataclasses.replace(STEP, severity='high')


def names(metrics, noise, rules=(ABOVE, BELOW, STEP)):
  found = alarms.raised(metrics, {'noise': np.array(noise)}, rules)
  return [alarm.rule.name for alarm in found]


@pytest.mark.parametrize(
  ('noise', 'expected'),
  [
    ([0.9, 0.3, 0.3, 0.3], ['loud']),
    ([0.9, 0.3, 0.3, 0.3, 0.3], []),  # a fifth of the samples, not a quarter
    ([0.9, np.nan, np.nan, np.nan, 0.3], ['loud']),  # of those that have the sign
    ([0.5, 0.5], []),  # at the limit is within it
    ([0.1, 0.1, 0.3], ['quiet']),
    ([0.1, 0.3, 0.3], []),
    ([0.1, 0.9], ['loud', 'quiet']),
    ([np.nan, np.nan], []),
    ([], []),
  ],
)
def test_a_share_of_the_samples_rings(noise, expected):
  assert names({}, noise) == expected


def test_a_metric_of_the_step_rings_where_it_is_there():
  assert names({'cap': 0.31}, []) == ['cut']
  assert names({'cap': 0.3}, []) == names({}, []) == names({'cap': float('nan')}, []) == []


def test_the_worst_samples_come_first_and_no_innocent_one():
  noise = {'noise': np.array([0.6, 0.1, np.nan, 0.9, 0.7, 0.8])}
  (alarm,) = alarms.raised({}, noise, [ABOVE], num=3)
  assert alarm.samples == (3, 5, 4)
  assert alarm.value == pytest.approx(np.nanmean(noise['noise']))
  (alarm,) = alarms.raised({'cap': 1.0}, {'cap': np.array([0.0, 1.0])}, [STEP], num=1)
  assert alarm.samples == (1,)


def test_each_sample_is_named_by_the_rules_it_breaks_whether_enough_do_or_not():
  noise = {'noise': np.array([0.6, 0.1, np.nan, 0.5]), 'cap': np.ones(4)}
  wanted = [('loud',), ('quiet',), (), ()]
  found = alarms.beyond(noise, (ABOVE, BELOW, STEP))
  assert found == wanted and alarms.beyond({}, [ABOVE]) == []
  (alarm,) = alarms.raised({}, noise, [ABOVE])
  assert all('loud' in found[b] for b in alarm.samples)


def test_the_table_is_sound():
  assert len({rule.name for rule in alarms.RULES}) == len(alarms.RULES)
  for rule in alarms.RULES:
    assert rule.direction in (-1, 1) and 0 <= rule.share <= 1
    assert (rule.metric in signals.SIGNALS) or not rule.share, rule.metric


def test_a_report_says_which_rang_and_when():
  records = [{'step': i} | ({'alarm/loud': 1.0} if i in (3, 4, 9) else {}) for i in range(12)]
  rows = alarms.table(records, [ABOVE, STEP])
  limit = 'above 0.5 in 25% of the texts'
  assert rows == [('loud', 'low', 'too loud', 'noise', limit, '3', '3', '9')]
  assert len(rows[0]) == len(alarms.HEADER)


def test_severe_ones_come_first():
  records = [{'step': 0, 'alarm/loud': 1.0, 'alarm/cut': 1.0}]
  rows = alarms.table(records, [ABOVE, SEVERE])
  assert [row[:2] for row in rows] == [('cut', 'high'), ('loud', 'low')]


@pytest.mark.parametrize('rule', [ABOVE, BELOW, STEP])
@pytest.mark.parametrize('seed', range(4))
def test_a_rule_is_broken_where_its_level_lies_beyond_the_limit(rule, seed):
  rng = np.random.default_rng(seed)
  noise = np.where(rng.random(9) < 0.3, np.nan, rng.random(9))
  metrics = {'cap': float(rng.random())}
  level = alarms.level(rule, metrics, {'noise': noise})
  for limit in (0.05, 0.3, 0.5, 0.7, 0.95):
    moved = dataclasses.replace(rule, limit=limit)
    assert (rule.direction * level > rule.direction * limit) == (
      names(metrics, noise, [moved]) == [rule.name]
    )


@pytest.mark.parametrize(
  ('asked', 'rung', 'why'),
  [
    ('', {'loud': 9, 'cut': 9}, ''),
    ('high', {'loud': 9, 'cut': 2}, ''),
    ('high', {'cut': 3}, 'cut has rung in 3 steps in a row: texts are cut'),
    ('quiet, loud', {'loud': 4, 'cut': 9}, 'loud has rung in 4 steps in a row: too loud'),
  ],
)
def test_a_run_stops_where_an_alarm_that_it_names_rang_in_a_row(asked, rung, why):
  assert alarms.stops([ABOVE, BELOW, SEVERE], asked, rung) == why


def test_severities_and_limits_are_those_that_were_measured():
  text = (tree.ROOT / 'results' / 'alarms.md').read_text('utf-8')
  lines = text.partition('| alarm |')[2].partition('\n\n')[0].splitlines()[2:]
  rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
  assert {name: (severity, limit) for name, severity, limit, *_ in rows} == {
    rule.name: (rule.severity, f'{"above" if rule.direction > 0 else "below"} {rule.limit:g}')
    for rule in alarms.RULES
  }


def test_an_alarm_that_there_is_not_is_refused():
  with pytest.raises(ValueError, match=r"no alarm 'lod'; choose from high, loud, cut"):
    alarms.stops([ABOVE, SEVERE], 'lod', {})
  with pytest.raises(ValueError, match=r"stop_on_alarm=,: there is no alarm ','"):
    alarms.stops([ABOVE, SEVERE], ',', {})
