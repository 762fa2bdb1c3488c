"""The metrics of a step, by hand, and the samples it shows."""

import random

import numpy as np
import pytest

from lwz import types
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.reward.hacking import alarms, monitor

NAMES = ('length', 'format')


def sample(answer, lower=2, upper=4, *, think='one two three', closed=True):
  text = f'<think>{think}</think><answer>{answer}' + '</answer>' * closed
  prompt = types.Prompt('p', f'Write {lower} to {upper} words.', lower, upper)
  return components.Sample(prompt, text, format_lib.parse(text, 'think'))


# Two prompts, three samples each. (0, 2) is cut; (1, 0) was not judged; (1, 2) begins with no tag.
NO_TAGS = components.Sample(
  types.Prompt('q', 'Write 4 to 8 words.', 4, 8), 'Just text.', format_lib.parse('Just', 'think')
)
SAMPLES = [
  sample('a b'),
  sample('a b c d', think='one'),
  sample('a b c d e f g h', closed=False),
  sample('a b c', 4, 8, think='one two'),
  sample('a b c', 4, 8, think='one two'),
  NO_TAGS,
]
SCORES = types.Scores(
  values=np.array(
    [[[1.0, 0.5], [1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.75, 0.25], [0.75, 0.0]]], np.float32
  ),
  valid=np.array([[True, True, True], [False, True, True]]),
)


def test_every_metric_by_hand():
  metrics = monitor.measure(SAMPLES, SCORES, NAMES)
  expected = {
    'valid_format': 4 / 6,
    'judge_failures': 1 / 6,
    'words/lower': (2 * 3 + 4 * 3) / 6,
    'words/upper': (4 * 3 + 8 * 3) / 6,
    'reward/length': (1 + 1 + 0 + 0.75 + 0.75) / 5,  # of what was judged, broken ones included
    'reward/format': (0.5 + 1 + 0 + 0.25 + 0) / 5,
    'valid_only/length': (1 + 1 + 0.75) / 3,  # judged and whole
    'valid_only/format': (0.5 + 1 + 0.25) / 3,
    'spread/length': 1 / 2,  # 1, 1, 0 differ; 0.75, 0.75 do not, and the 0 was never given
    'spread/format': 1.0,
    'words/answer': (2 + 4 + 3 + 3) / 4,  # of whole ones
    'words/think': (3 + 1 + 2 + 2) / 4,
    'redundancy': 1 - (0.5 + 1 + 0.25) / 3,
    'fault/unclosed_answer': 1 / 6,
    'fault/missing_think': 1 / 6,
  }
  assert metrics == pytest.approx(expected, rel=1e-6)
  assert all(type(value) is float for value in metrics.values())


def test_a_failed_judge_moves_no_mean():
  kept = [b for b in range(6) if b != 3]
  metrics = monitor.measure(SAMPLES, SCORES, NAMES)
  subset = types.Scores(values=SCORES.values.reshape(1, 6, 2)[:, kept], valid=np.ones((1, 5), bool))
  alone = monitor.measure([SAMPLES[b] for b in kept], subset, NAMES)
  for name in ('reward/length', 'reward/format', 'valid_only/length', 'valid_only/format'):
    assert metrics[name] == pytest.approx(alone[name], rel=1e-6)
  assert metrics['redundancy'] == pytest.approx(alone['redundancy'], rel=1e-6)


def test_where_no_structure_is_whole_its_metrics_are_absent():
  scores = types.Scores(np.zeros((1, 2, 2), np.float32), np.ones((1, 2), bool))
  metrics = monitor.measure([SAMPLES[2], NO_TAGS], scores, NAMES)
  assert metrics['valid_format'] == 0 and metrics['reward/length'] == 0
  assert metrics['spread/length'] == 0
  absent = ('valid_only/length', 'words/answer', 'words/think', 'redundancy')
  assert not [name for name in absent if name in metrics]


def test_where_nothing_was_judged_no_reward_is_told():
  scores = types.Scores(np.zeros((1, 2, 2), np.float32), np.zeros((1, 2), bool))
  metrics = monitor.measure(SAMPLES[:2], scores, NAMES)
  assert metrics['judge_failures'] == 1 and metrics['spread/format'] == 0
  assert metrics['words/answer'] == 3
  assert not [name for name in metrics if name.startswith(('reward/', 'valid_only/'))]
  assert 'redundancy' not in metrics


def test_redundancy_is_told_only_where_format_is_a_reward():
  scores = types.Scores(SCORES.values[:, :, :1], SCORES.valid)
  assert 'redundancy' not in monitor.measure(SAMPLES, scores, ['length'])


def test_show_gives_text_and_rewards_of_each_sample():
  first, _, cut, failed, *_ = monitor.show(SAMPLES, SCORES, NAMES, num=6)
  assert first == {
    'prompt': 'Write 2 to 4 words.',
    'think': 'one two three',
    'answer': 'a b',
    'text': '<think>one two three</think><answer>a b</answer>',
    'valid': True,
    'fault': '',
    'words': 2,
    'lower': 2,
    'upper': 4,
    'rewards': {'length': 1.0, 'format': 0.5},
  }
  assert (cut['valid'], cut['fault'], cut['words']) == (False, 'unclosed_answer', 8)
  assert cut['rewards'] == {'length': 0.0, 'format': 0.0}
  assert failed['rewards'] == {'length': None, 'format': None}  # a failed judge is never a zero


def test_a_direct_answer_shows_no_thought():
  text = '<answer>a b</answer>'
  direct = components.Sample(SAMPLES[0].prompt, text, format_lib.parse(text, 'direct'))
  scores = types.Scores(np.ones((1, 1, 2), np.float32), np.ones((1, 1), bool))
  assert monitor.show([direct], scores, NAMES, num=1)[0]['think'] is None


@pytest.mark.parametrize(
  ('total', 'num', 'expected'),
  [
    (12, 4, [0, 3, 6, 9]),
    (12, 5, [0, 2, 4, 7, 9]),
    (12, 8, [0, 1, 3, 4, 6, 7, 9, 10]),  # not the first eight
    (3, 8, [0, 1, 2]),
    (3, 1, [0]),
    (3, 0, []),
  ],
)
def test_what_is_shown_is_spread_evenly_over_the_step(total, num, expected):
  samples = [sample('word ' * i + 'end') for i in range(total)]
  scores = types.Scores(np.ones((1, total, 2), np.float32), np.ones((1, total), bool))
  shown = monitor.show(samples, scores, NAMES, num=num)
  assert [record['words'] - 1 for record in shown] == expected


def test_an_observation_has_every_metric_of_measure_and_the_new_alarms():
  seen = monitor.observe(SAMPLES, SCORES, NAMES, state={})
  measured = monitor.measure(SAMPLES, SCORES, NAMES)
  assert seen.metrics.items() >= measured.items()
  rules = [alarms.Rule('broken', 'broken', 0.5, 1, 0.1, 'tags')]
  first = monitor.observe(SAMPLES, SCORES, NAMES, state={}, rules=rules)
  again = monitor.observe(SAMPLES, SCORES, NAMES, state=first.state, rules=rules)
  assert (
    [a.rule.name for a in first.new_alarms] == [a.rule.name for a in again.alarms] == ['broken']
  )
  assert again.new_alarms == [] and first.metrics['alarm/broken'] == 1.0
  assert first.state['rung'] == {'broken': 1} and again.state['rung'] == {'broken': 2}


def test_the_worst_samples_say_which_alarms_name_them():
  rules = [
    alarms.Rule('broken', 'broken', 0.5, 1, 0.1, 'tags'),
    alarms.Rule('cap_hit', 'cap_hit', 0.1, 1, 0.0, 'cut'),
  ]
  finished = np.array([True, True, False, True, True, True])
  seen = monitor.observe(SAMPLES, SCORES, NAMES, state={}, finished_B=finished, rules=rules)
  found = monitor.worst(SAMPLES, SCORES, NAMES, seen.alarms)
  by_text = {record['text']: record['alarms'] for record in found}
  assert by_text[SAMPLES[2].text] == ['broken', 'cap_hit'] and by_text[NO_TAGS.text] == ['broken']
  assert found[0]['rewards'] == {'length': 0.0, 'format': 0.0}


def test_what_both_reward_models_have_at_the_floor_is_no_agreement():
  both = (*NAMES, 'writing')
  values = np.concatenate([SCORES.values, np.full((2, 3, 1), 0.75, np.float32)], axis=2)
  scores = types.Scores(values, SCORES.valid)
  heldout = np.array([0.25, 0.25, 0.75, np.nan, 0.25, 0.75])  # 2 and 5 are broken
  kwargs = {'state': {}, 'heldout_B': heldout}
  seen = monitor.observe(SAMPLES, scores, both, heldout_of='writing', **kwargs)
  assert seen.metrics['heldout/gap'] == pytest.approx(0.5)
  other = monitor.observe(SAMPLES, scores, both, heldout_of='length', **kwargs)
  assert other.metrics['heldout/gap'] != pytest.approx(0.5)


def test_whatever_a_policy_writes_is_watched():
  """Odd texts of all kinds, judges that failed, a state that is handed on."""
  rng = random.Random(0)
  tags = ('<think>', '</think>', '<answer>', '</answer>')
  pieces = ('', ' ', '\n', '.', '...', 'a', 'the river', '河', '大河。', '<', '\u200b', *tags)
  names, state = ['length', 'writing', 'format'], {}
  for _ in range(60):
    samples = []
    for p in range(2):
      prompt = types.Prompt(str(p), rng.choice(['Write about rivers', '写一篇文章', '?']), 10, 20)
      for _ in range(4):
        inside = ''.join(rng.choices(pieces, k=rng.randrange(8)))
        whole = f'<think>{rng.choice(pieces)}</think><answer>{rng.choice(pieces)}</answer>'
        text = rng.choice([inside, whole])
        samples.append(components.Sample(prompt, text, format_lib.parse(text, 'think')))
    valid_PG = np.array([rng.random() < 0.7 for _ in samples]).reshape(2, 4)
    values_PGR = np.where(valid_PG[:, :, None], rng.random(), np.nan).repeat(3, axis=2)
    scores = types.Scores(values_PGR.astype(np.float32), valid_PG)
    watched = monitor.observe(samples, scores, names, state=state)
    monitor.worst(samples, scores, names, watched.alarms)
    state = watched.state
    assert watched.metrics
