"""Groups of runs: intervals by hand, pairs by seed, verdicts, and many runs in one plot."""

import math
import re

import numpy as np
import pytest

from lwz.report import curves, groups


def run(value, seed=0, records=20, metric='reward/length', **config):
  rows = [{'step': step, metric: value} for step in range(records)]
  flat = {key.replace('__', '.'): f'"{text}"' for key, text in config.items()}
  return groups.Run(f'{config}-s{seed}', flat, (str(seed),), rows)


def factorial(effect, metric='reward/length'):
  """2 styles x 2 advantages x 3 seeds: thinking adds `effect`, each seed a level of its own."""
  return [
    run(
      0.1 * seed + 0.01 * seed * (advantage == 'balanced') + effect * (style == 'think'),
      seed,
      metric=metric,
      data__style=style,
      rl__advantage=advantage,
    )
    for style in ('think', 'direct')
    for advantage in ('balanced', 'mean_reward')
    for seed in range(3)
  ]


def test_the_interval_is_students():
  found = groups.interval([1.0, 2.0, 3.0])
  half = 4.302653 * 1 / math.sqrt(3)  # t of 2 degrees of freedom, of any table
  assert found.method == 't' and found.num == 3
  assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), rel=1e-6)


def test_a_single_run_has_no_interval_and_no_verdict():
  found = groups.interval([0.5, math.nan])
  assert (found.mean, found.method, found.num) == (0.5, '', 1) and math.isnan(found.low)
  assert math.isnan(groups.interval([]).mean)


def test_the_bootstrap_is_shown_where_it_differs_and_named():
  assert groups.interval(np.linspace(0, 1, 40)).method == 't'
  skewed = groups.interval([0.0] * 11 + [1.0])
  assert skewed.method == 'bootstrap'
  assert skewed.low == 0 and skewed.high == pytest.approx(0.25)  # 3 of 12 draws; t goes below 0
  assert groups.interval([0.0, 0.0, 1.0]).method == 't'


def test_runs_of_one_config_are_a_group_whatever_their_seed():
  found, along = groups.of(factorial(0.2))
  assert [group.label for group in found] == [
    'style=think, advantage=balanced',
    'style=think, advantage=mean_reward',
    'style=direct, advantage=balanced',
    'style=direct, advantage=mean_reward',
  ]
  assert [len(group.runs) for group in found] == [3] * 4 and along == []


def test_keys_that_follow_others_do_not_name_a_group():
  runs = [run(0.0, a=x, b__steps=x * 2, c='same') for x in 'uv']
  found, along = groups.of(runs)
  assert [group.label for group in found] == ['steps=uu', 'steps=vv'] and along == ['a']
  runs = [run(0.0, rl__group_size=x, rl__prompts_per_step=y) for x, y in ('ad', 'bc')]
  assert [group.label for group in groups.of(runs)[0]] == ['group_size=a', 'group_size=b']


def test_a_key_that_only_some_runs_hold_tells_them_apart():
  found, _ = groups.of([run(0.0, a='u'), run(0.0), run(1.0, 1)])
  assert [(group.label, len(group.runs)) for group in found] == [('a=u', 1), ('a=', 2)]


def test_differences_are_of_pairs_of_equal_seeds():
  found, _ = groups.of(factorial(0.2))
  compared = groups.compare(found, ['reward/length'])
  styles = [one for one in compared if one.first == 'style=think']
  assert len(compared) == 6 and [one.where for one in styles] == [
    'average over advantage',
    'advantage=balanced',
    'advantage=mean_reward',
  ]
  for one in styles:  # the seeds' levels are gone
    ends = (one.difference.mean, one.difference.low, one.difference.high)
    assert ends == pytest.approx((0.2, 0.2, 0.2)) and one.verdict == 'holds'
  # 0.01 x seed: a mean of 0.01 and a deviation of 0.01
  (average, other, _) = (one for one in compared if one.first == 'advantage=balanced')
  half = 4.302653 * 0.01 / math.sqrt(3)
  assert other.difference[:3] == pytest.approx((0.01, 0.01 - half, 0.01 + half), rel=1e-5)
  assert average.difference[:3] == pytest.approx(other.difference[:3])
  assert other.verdict == 'cannot tell' and '3 pairs by seed, t' in other.sentence()


@pytest.mark.parametrize(
  ('metric', 'effect', 'verdict', 'claim'),
  [
    ('reward/length', 0.2, 'holds', 'higher (better)'),
    ('reward/length', -0.2, 'does not hold', 'higher (better)'),
    ('redundancy', -0.2, 'holds', 'lower (better)'),
    ('redundancy', 0.2, 'does not hold', 'lower (better)'),
    ('words/answer', 0.2, 'holds', 'higher with'),
    ('words/answer', 0.0, 'cannot tell', 'higher with'),
  ],
)
def test_the_verdict_follows_the_direction_of_the_metric(metric, effect, verdict, claim):
  found, _ = groups.of(factorial(effect, metric))
  one = groups.compare(found, [metric])[0]
  assert one.verdict == verdict and claim in one.claim()
  assert one.sentence().startswith(f'{one.claim()}: {verdict}; difference ')


def test_the_average_is_taken_within_each_seed_that_all_groups_have():
  runs = [
    run(value, seed, a=a, b=b)
    for a, b, values in (
      ('u', 'x', (1.0, 2.0, 9.0)),
      ('u', 'y', (3.0, 4.0)),
      ('v', 'x', (0.0, 0.0, 0.0)),
      ('v', 'y', (0.0, 1.0)),
    )
    for seed, value in enumerate(values)
  ]
  average = groups.compare(groups.of(runs)[0], ['reward/length'])[0]
  assert (average.first, average.second, average.where) == ('a=u', 'a=v', 'average over b')
  assert (average.difference.mean, average.difference.num) == (pytest.approx(2.25), 2)  # 2, 2.5


def test_seeds_without_a_partner_are_left_out():
  runs = [run(1.0, s, k='a') for s in range(4)] + [run(0.5, s, k='b') for s in (0, 9)]
  (one,) = groups.compare(groups.of(runs)[0], ['reward/length'])
  assert (one.difference.num, one.verdict) == (1, 'cannot tell')
  assert '1 pair by seed' in one.sentence()


def test_a_curve_is_the_mean_of_its_runs_with_their_interval_at_each_step():
  runs = [run(value, seed, k='a') for seed, value in enumerate((1.0, 2.0, 3.0))]
  runs[0].records.append({'step': 20, 'reward/length': 9.0})  # the others lack it
  group = groups.Group('k=a', {}, runs)
  rows = groups.curve(group, 'reward/length')
  assert [row['step'] for row in rows] == list(range(20))
  half = 4.302653 / math.sqrt(3)
  assert [rows[3][key] for key in ('k=a', 'k=a low', 'k=a high')] == pytest.approx(
    [2, 2 - half, 2 + half]
  )
  assert groups.curve(group, 'none') == []


def axes_height(svg):
  """How far apart the ticks of the values stand."""
  ys = [float(y) for y in re.findall(r'<text [^>]*text-anchor: end[^>]*y="([\d.]+)"', svg)]
  return max(ys) - min(ys)


def test_fifty_runs_leave_the_axes_their_size_and_have_a_legend_of_their_own():
  names = [f'grpo_think-tiny-data.style=direct-s{i}' for i in range(50)]
  rows = [{'step': s, **{name: i + s for i, name in enumerate(names)}} for s in range(12)]
  few, many = (curves.draw(rows, names[:n], title='t', legend=n < 9) for n in (2, 50))
  boxes = [re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg) for svg in (few, many)]
  assert float(boxes[1][2]) <= float(boxes[0][2])
  assert axes_height(many) > 0.5 * float(boxes[1][2])
  key = curves.key(names, title='runs')
  texts = re.findall(r'>(?:grpo_think[^<]*)</text>', key)
  assert len(texts) == 50
  height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', key)[1])
  ys = [float(y) for y in re.findall(r' y="([\d.]+)"', key)]
  assert max(ys) < height


def test_a_band_does_not_dwarf_the_curves():
  rows = [{'step': s, 'a': s / 10, 'low': -1e3, 'high': 1e3} for s in range(11)]
  svg = curves.draw(rows, ['a'], title='t', bands={'a': ('low', 'high')})
  ticks = [float(x.replace('−', '-')) for x in re.findall(r'text-anchor: end[^>]*>([−\d.]+)<', svg)]
  assert min(ticks) >= -1.5 and max(ticks) <= 2.5


def answered(marks, seed, style):
  """A run whose last evaluation gave each prompt a mark."""
  made = run(float(np.mean(list(marks.values()))), seed, metric=groups.OUTCOME, style=style)
  return made._replace(prompts={groups.OUTCOME: marks})


def test_differences_by_prompt_are_means_over_the_pairs_of_runs_that_answer_it():
  runs = [
    answered({'a': 1.0, 'b': 0.5}, 0, 'think'),
    answered({'a': 0.8, 'b': 0.5, 'c': 9.0}, 1, 'think'),
    answered({'a': 0.4, 'b': 0.1}, 0, 'direct'),
    answered({'a': 0.4}, 1, 'direct'),
  ]
  by_seed, by_prompt = groups.compare(groups.of(runs)[0], [groups.OUTCOME])
  assert (by_seed.by, by_seed.difference.num) == ('seed', 2)
  assert (by_prompt.by, by_prompt.difference.num) == ('prompt', 2)
  mean = ((0.6 + 0.4) / 2 + 0.4) / 2  # of a over two pairs, of b over one
  assert by_prompt.difference.mean == pytest.approx(mean)
  assert '2 pairs by prompt' in by_prompt.sentence()


@pytest.mark.parametrize(
  'effect, verdict', [(0.3, 'holds'), (-0.3, 'does not hold'), (0.0, 'cannot tell')]
)
def test_a_conclusion_says_whether_the_claim_holds_by_the_outcome_over_seeds(effect, verdict):
  runs = [
    answered(
      {'a': 0.5 + 0.01 * seed * (style == 'think') + effect * (style == 'think')}, seed, style
    )
    for style in ('think', 'direct')
    for seed in (-1, 0, 1)
  ]
  compared = groups.compare(groups.of(runs)[0], [groups.OUTCOME])
  said = groups.conclusion('Thinking helps', compared)
  assert said.startswith(f'Thinking helps: {verdict} at this size. Outcome: style=think minus')
  assert '(3 by seed), ' in said and '(1 by prompt).' in said
  assert groups.conclusion('Thinking helps', []) == ''


def test_groups_of_different_temperatures_are_told_apart_by_their_greedy_answers():
  runs = [
    run(value, seed, metric=metric, rollout__temperature=heat)
    for metric, values in ((groups.OUTCOME, (0.9, 0.1)), (groups.GREEDY, (0.2, 0.6)))
    for heat, value in zip(('0.6', '0.8'), values, strict=True)
    for seed in range(2)
  ]
  compared = groups.compare(groups.of(runs)[0], [groups.OUTCOME, groups.GREEDY])
  said = groups.conclusion('Cold is better', compared)
  assert 'does not hold at this size. Outcome of greedy answers: temperature=0.6 minus' in said


def test_where_keys_go_together_the_first_group_meets_each_that_differs_by_several():
  runs = [
    run(value, seed, metric=groups.OUTCOME, init=init, rate=rate, train__num_steps=rate)
    for init, rate, value in (('cpt', '1', 0.7), ('sft', '0', 0.4), ('sft', '1', 0.6))
    for seed in range(2)
  ]
  compared = groups.compare(groups.of(runs)[0], [groups.OUTCOME])
  assert [(one.first, one.second, one.where) for one in compared] == [
    ('init=cpt', 'init=sft', 'rate=1'),
    ('rate=1', 'rate=0', 'init=sft'),
    ('init=cpt, rate=1', 'init=sft, rate=0', ''),
  ]
  assert compared[-1].difference.mean == pytest.approx(0.3)
  assert 'init=cpt, rate=1 minus init=sft, rate=0' in groups.conclusion('RL helps', compared)
