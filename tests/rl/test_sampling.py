"""Which groups a step learns from, where it may draw again."""

import dataclasses

import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.rl import learner, sampling

P, G, T = 2, 3, 4


def draw(number, *spread):
  """P groups whose every array names draw and group; those with `spread` have unequal rewards."""
  base = 10 * number
  owners = np.repeat(np.arange(P), G)
  ids = np.broadcast_to((base + owners)[:, None], (P * G, T)).astype(np.int32)
  values = np.full((P, G, 3), 0.5, np.float32)
  values[list(spread), 0] = 0.75
  prompts = [types.Prompt(f'p{base + p}', 'Write.', 1, 2) for p in range(P)]
  return sampling.Draw(
    prompt_ids=[np.array([base + p]) for p in range(P)],
    samples=[components.Sample(prompts[p], '', format_lib.parse('', 'think')) for p in owners],
    rollout=types.Rollout(ids, -ids.astype(np.float32), ids[:, 0] + 1, ids[:, 0] > 0),
    scores=types.Scores(values, np.ones((P, G), bool)),
  )


def teaches(drawn):
  return np.ptp(drawn.scores.values[..., 0], axis=1) > 0


def test_a_draw_whose_groups_all_teach_is_taken_as_it_is():
  first = draw(0, 0, 1)
  assert sampling.choose([first], teaches(first)) is first


def test_groups_that_teach_replace_those_that_do_not_with_all_that_belongs_to_them():
  batch = sampling.choose([draw(0, 1), draw(1), draw(2, 0)], np.array([0, 1, 0, 0, 1, 0], bool))
  expected = [1, 20]
  assert [int(ids[0]) for ids in batch.prompt_ids] == expected
  owners = np.repeat(expected, G)
  assert [sample.prompt.id for sample in batch.samples] == [f'p{owner}' for owner in owners]
  np.testing.assert_array_equal(batch.rollout.ids[:, 0], owners)
  np.testing.assert_array_equal(batch.rollout.logp[:, -1], -owners)
  np.testing.assert_array_equal(batch.rollout.lengths, owners + 1)
  assert batch.scores.valid.shape == (P, G) and teaches(batch).all()


def test_where_too_few_teach_the_shapes_stay():
  draws, teaching = [draw(0), draw(1, 1)], np.array([False, False, False, True])
  batch = sampling.choose(draws, teaching)
  assert [int(ids[0]) for ids in batch.prompt_ids] == [11, 0]
  assert 'tokens/per_second' not in sampling.figures(draws, teaching, 2.0)  # not in one go
  draws = [dataclasses.replace(x, figures={'rollout/wasted': 0.5}) for x in draws]
  figures = sampling.figures(draws, teaching, seconds=2.0)
  assert (figures['draws/num'], figures['draws/teaching']) == (2, 0.25)
  assert figures['tokens/trajectory'] == 1.5  # of the first
  assert figures['tokens/per_second'] == (3 * (1 + 2) + 3 * (11 + 12)) / 2


def test_it_draws_until_enough_groups_teach_and_no_further_than_there_are_numbers():
  made = {5: draw(5, 0), 6: draw(6), 7: draw(7, 1), 8: draw(8, 0, 1)}
  draws, teaching = sampling.enough(made.get, range(5, 9), teaches)
  assert draws == [made[5], made[6], made[7]]
  assert teaching.tolist() == [True, False, False, False, False, True]
  assert [int(ids[0]) for ids in sampling.choose(draws, teaching).prompt_ids] == [50, 71]
  draws, teaching = sampling.enough(made.get, range(5, 7), teaches)
  assert draws == [made[5], made[6]] and teaching.sum() == 1


def test_no_two_draws_of_a_run_have_one_number():
  c = grpo_think.get_config('micro')
  assert [*sampling.numbers(c, 7)] == [7]  # without redraws, the number is the step
  c.rl.max_redraws = 2
  found = [number for step in range(5) for number in sampling.numbers(c, step)]
  assert found == [*range(15)]


def test_redraws_leave_no_prompt_out_and_first_draws_as_they_are():
  c = grpo_think.get_config('micro')
  asked = [types.Prompt(f'p{i}', 'Write.', 1, 2) for i in range(10)]
  P, steps = c.rl.prompts_per_step, 5
  without = [sampling.take(c, asked, step) for step in range(steps)]
  c.rl.max_redraws = 2
  numbers = [sampling.numbers(c, step) for step in range(steps)]
  assert [sampling.take(c, asked, of_step[0]) for of_step in numbers] == without
  again = [sampling.take(c, asked, number) for of_step in numbers for number in of_step[1:]]
  assert sorted(prompt.id for taken in again for prompt in taken) == sorted(
    prompt.id for prompt in asked * (2 * steps * P // len(asked))
  )


def test_a_negative_number_of_redraws_is_refused():
  c = grpo_think.get_config('micro')
  c.rl.max_redraws = -1
  with pytest.raises(ValueError, match=r'rl\.max_redraws=-1 must not be negative'):
    learner.check(c)
