"""When an alarm rings, what it names, and what a report says of it."""

import numpy as np
import pytest

from lwz.reward.hacking import alarms, signals

ABOVE = alarms.Rule('loud', 'noise', 0.5, 1, 0.25, 'too loud')
BELOW = alarms.Rule('quiet', 'noise', 0.2, -1, 0.5, 'too quiet')
STEP = alarms.Rule('cut', 'cap', 0.3, 1, 0.0, 'texts are cut')


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


def test_the_table_is_sound():
  assert len({rule.name for rule in alarms.RULES}) == len(alarms.RULES)
  for rule in alarms.RULES:
    assert rule.direction in (-1, 1) and 0 <= rule.share <= 1
    assert (rule.metric in signals.SIGNALS) or not rule.share, rule.metric


def test_a_report_says_which_rang_and_when():
  records = [{'step': i} | ({'alarm/loud': 1.0} if i in (3, 4, 9) else {}) for i in range(12)]
  rows = alarms.table(records, [ABOVE, STEP])
  assert rows == [('loud', 'too loud', 'noise', 'above 0.5 in 25% of the texts', '3', '3', '9')]
  assert len(rows[0]) == len(alarms.HEADER)
