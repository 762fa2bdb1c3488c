"""Reward forms as equations of a judge's verdicts: rubric, sibling, ranking, ladder."""

import itertools

import numpy as np
import pytest

from lwz import types
from lwz.reward import components, ladder, questions, ranking, rubric, sibling
from lwz.reward import format as format_lib

CRITERIA = (
  types.Criterion('a', 'Is long.', 3.0),
  types.Criterion('b', 'Is short.'),
  types.Criterion('c', 'Is safe.', kind='hard'),
)
PROMPT = types.Prompt('p', 'Write.', 1, 9, criteria=CRITERIA, references=('r2', 'r5', 'r7'))
OTHER = types.Prompt('q', 'Write more.', 1, 9, references=('r4',))


def sample(answer, prompt=PROMPT, *, broken=False):
  text = f'<think>Plan.</think><answer>{answer}' + '</answer>' * (not broken)
  return components.Sample(prompt, text, format_lib.parse(text, 'think'))


def group(*answers, prompt=PROMPT):
  """Samples of these answers; None is one whose structure is broken."""
  return tuple(sample(a or 'x9', prompt, broken=a is None) for a in answers)


def worth(text):
  return int(text[-1])


class Judge:
  """Sees the worth of a text, its last digit, and fails where `failed` stands in a text."""

  def __init__(self, failed='!', compare=None):
    self.asked, self.failed, self.compare = [], failed, compare

  def __call__(self, asked):
    self.asked += asked
    return [self.verdict(question) for question in asked]

  def verdict(self, question):
    match question:
      case questions.Check(answer=text):
        return None if self.failed in text else self.check(worth(text))
      case questions.Comparison(first=first, second=second):
        if self.failed in first + second:
          return None
        if self.compare:
          return self.compare(first, second)
        a, b = worth(first), worth(second)
        return 'A' if a > b else 'B' if a < b else 'C'
    if self.failed in ''.join(question.answers):
      return None
    values = [worth(text) for text in question.answers]
    return tuple(sum(v > own for v in values) for own in values)

  def check(self, value):
    return ('yes' if value > 5 else 'partly' if value > 2 else 'no', 'no', 'yes' if value else 'no')


def test_a_rubric_is_the_share_of_the_weight_that_is_met():
  samples = group('a9', 'b4', 'c1', 'd0', None, 'e!')
  judge = Judge()
  rewards = rubric.rubric(samples, judge, floor=0.125)
  # (3 v_a + v_b + v_c) / 5; the hard one unmet; broken; the judge failed.
  np.testing.assert_allclose(rewards, [4 / 5, 2.5 / 5, 1 / 5, 0, 0.125, np.nan])
  assert [question.answer for question in judge.asked] == ['a9', 'b4', 'c1', 'd0', 'e!']


def test_a_hard_criterion_vetoes_only_where_it_is_not_met_at_all():
  verdicts = [rubric.share(CRITERIA, ['yes', 'yes', last]) for last in ('yes', 'partly', 'no')]
  assert verdicts == [1, 0.9, 0]
  with pytest.raises(ValueError, match='without criteria'):
    rubric.share((), ())


ALWAYS = {
  'the first': lambda first, second: 'A',
  'the second': lambda first, second: 'B',
  'neither': lambda first, second: 'C',
}


@pytest.mark.parametrize('compare', ALWAYS.values(), ids=ALWAYS)
def test_a_judge_of_places_gives_every_sibling_and_every_rung_a_half(compare):
  judge = Judge(compare=compare)
  groups = [group('a1', 'b2', 'c3', 'd3'), group('a5', 'b0', prompt=OTHER)]
  assert [row.tolist() for row in sibling.sibling(groups[:1], judge, seed=0)] == [[0.5] * 4]
  assert ladder.ladder([*groups[0], *groups[1]], judge, state={}).tolist() == [0.5] * 6
  assert len(judge.asked) == 2 * 3 + 2 * 6


def test_siblings_are_compared_with_one_of_them_in_both_orders():
  references = set()
  for seed in range(20):
    judge = Judge()
    answers = ('a1', 'b2', 'c3', 'd3')
    (rewards,) = sibling.sibling([group(*answers)], judge, seed=seed)
    pairs = {(q.first, q.second) for q in judge.asked}
    assert len(pairs) == len(judge.asked) == 6
    assert pairs == {(b, a) for a, b in pairs}
    (reference,) = set.intersection(*({a, b} for a, b in pairs))
    references.add(reference)
    expected = [(np.sign(worth(a) - worth(reference)) + 1) / 2 for a in answers]
    np.testing.assert_array_equal(rewards, expected)
  assert references == set(answers)


def test_broken_siblings_are_neither_judged_nor_references_and_failures_mask_their_own():
  judge = Judge()
  found = sibling.sibling(
    [group('a1', None, 'c3', 'd2'), group(None, 'b1', None, None), group(*[None] * 4)],
    *(judge,),
    seed=0,
    floor=0.0,
  )
  assert sorted(found[0]) == sorted([0, *found[0][[0, 2, 3]]]) and 0.5 in found[0][[0, 2, 3]]
  assert found[1].tolist() == [0, 0.5, 0, 0] and found[2].tolist() == [0] * 4
  assert all('x9' not in (q.first, q.second) for q in judge.asked)
  failing = [sibling.sibling([group('a1', 'b!', 'c3')], Judge(), seed=s)[0] for s in range(20)]
  masked = {tuple(np.flatnonzero(np.isnan(row))) for row in failing}
  assert masked == {(1,), (0, 2)}  # the one that fails, or all others where it is the reference


def test_a_perfect_judge_ranks_in_the_true_order():
  answers = ('a3', 'b1', 'c4', 'd1', 'e5')
  judge = Judge()
  found = ranking.ranking([group(*answers)], judge, seed=0)
  np.testing.assert_allclose(found, [[0.5, 0.125, 0.75, 0.125, 1]])
  assert len(judge.asked) == 1 and sorted(judge.asked[0].answers) == sorted(answers)


def test_ranks_count_broken_ones_below_and_equal_texts_once():
  judge = Judge()
  groups = [group('a1', None, 'c3', 'c3'), group('a1', None, None, None), group(*[None] * 4)]
  groups += [group('a1', 'b!', None, 'c3'), group('a1', 'a1', 'a1', 'a1')]
  found = ranking.ranking(groups, judge, seed=0, floor=0.0)
  thirds = np.array([[1, 0, 2.5, 2.5], [3, 0, 0, 0], [0] * 4]) / 3
  np.testing.assert_allclose(found[:3], thirds)
  np.testing.assert_allclose(found[3], [np.nan, np.nan, 0, np.nan])
  assert found[4].tolist() == [0.5] * 4
  assert [sorted(q.answers) for q in judge.asked] == [['a1', 'c3'], ['a1', 'b!', 'c3']]
  assert ranking.normalised([0]) == [0.5]


def of_groups(form):
  return lambda groups, judge: form(groups, judge, seed=3)


@pytest.mark.parametrize('form', [sibling.sibling, ranking.ranking], ids=lambda f: f.__name__)
def test_no_order_and_no_split_changes_what_a_group_is_paid(form):
  """The judge has a taste for places, so it would tell one order of a group from another."""

  def verdict(question):
    if isinstance(question, questions.Comparison):
      return 'A' if worth(question.first) >= worth(question.second) - 1 else 'B'
    return tuple(range(len(question.answers)))

  def judge(asked):
    return [verdict(question) for question in asked]

  groups = [group('a1', 'b2', 'c3', None), group('e4', 'f5', 'e4', 'g6', prompt=OTHER)]
  whole = form(groups, judge, seed=3)
  for p, one in enumerate(groups):
    np.testing.assert_array_equal(form([one], judge, seed=3)[0], whole[p])
    for order in itertools.permutations(range(4)):
      moved = form([tuple(one[g] for g in order)], judge, seed=3)[0]
      np.testing.assert_array_equal(moved, whole[p][list(order)])


def test_a_reward_of_groups_is_asked_about_several_at_once():
  calls = []

  def fn(groups):
    calls.append(len(groups))
    return ranking.ranking(groups, Judge(), seed=0)

  reward = components.per_groups(fn)
  samples = [*group('a1', 'b2'), *group('c9', 'd8')]
  assert reward.values(samples, 2).tolist() == [0, 1, 1, 0] and calls == [2]


def test_a_ladder_pays_for_beating_the_current_reference():
  judge = Judge()
  samples = group('a1', 'b5', 'c9', None, 'd!', prompt=PROMPT)
  for rung, expected in enumerate([[0, 1, 1], [0, 0.5, 1], [0, 0, 1], [0, 0, 1]]):
    found = ladder.ladder(samples, judge, state={'p': rung, 'q': 9})
    np.testing.assert_array_equal(found, [*expected, 0, np.nan])
  assert ladder.reference(PROMPT, {}) == 'r2'
  with pytest.raises(ValueError, match="'n' has no references"):
    ladder.reference(types.Prompt('n', 'Write.', 1, 2), {})


def test_who_beats_a_reference_meets_the_next_and_the_last_one_stays():
  state, seen = {'q': 0}, []
  always = np.array([[1.0, 0.5], [0.5, 0.5]])
  for _ in range(4):
    before = dict(state)
    after = ladder.advance(state, [PROMPT, OTHER], always, np.ones((2, 2), bool))
    assert state == before  # a value in, a value out
    state = after
    seen.append((state['p'], state['q']))
  assert seen == [(1, 0), (2, 0), (2, 0), (2, 0)]


def test_what_a_judge_failed_on_moves_no_reference():
  values, valid = np.array([[1.0, 0.0, 0.0]]), np.array([[True, False, False]])
  assert ladder.advance({}, [PROMPT], values, valid) == {'p': 1}
  assert ladder.advance({}, [PROMPT], values, ~valid) == {}
  assert ladder.advance({'p': 1}, [PROMPT], values, np.zeros((1, 3), bool)) == {'p': 1}
  # A prompt that comes twice in a batch takes one rung: both groups met the same reference.
  twice = ladder.advance({}, [PROMPT, PROMPT], np.ones((2, 2)), np.ones((2, 2), bool))
  assert twice == {'p': 1}
