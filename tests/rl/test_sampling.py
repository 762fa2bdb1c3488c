"""The groups that a step learns from under dynamic sampling."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.data import tokenizer
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.rl import sampling

P, G, T = 2, 3, 4


def batch_of(number, *spread):
  """P groups whose every array names batch and group; those in `spread` have unequal rewards."""
  base = 10 * number
  owners = np.repeat(np.arange(P), G)
  ids = np.broadcast_to((base + owners)[:, None], (P * G, T)).astype(np.int32)
  values = np.full((P, G, 3), 0.5, np.float32)
  values[list(spread), 0] = 0.75
  prompts = [types.Prompt(f'p{base + p}', 'Write.', 1, 2) for p in range(P)]
  return sampling.Batch(
    prompt_ids=[np.array([base + p]) for p in range(P)],
    samples=[components.Sample(prompts[p], '', format_lib.parse('', 'think')) for p in owners],
    rollout=types.Rollout(ids, -ids.astype(np.float32), ids[:, 0] + 1, ids[:, 0] > 0),
    scores=types.Scores(values, np.ones((P, G), bool)),
  )


def informative(batch):
  return np.ptp(batch.scores.values[..., 0], axis=1) > 0


def test_a_batch_whose_groups_are_all_informative_is_taken_as_it_is():
  first = batch_of(0, 0, 1)
  assert sampling.merge([first], informative(first)) is first


def test_informative_groups_replace_others_with_all_that_belongs_to_them():
  batch = sampling.merge(
    [batch_of(0, 1), batch_of(1), batch_of(2, 0)], np.array([0, 1, 0, 0, 1, 0], bool)
  )
  expected = [1, 20]
  assert [int(ids[0]) for ids in batch.prompt_ids] == expected
  owners = np.repeat(expected, G)
  assert [sample.prompt.id for sample in batch.samples] == [f'p{owner}' for owner in owners]
  np.testing.assert_array_equal(batch.rollout.ids[:, 0], owners)
  np.testing.assert_array_equal(batch.rollout.logp[:, -1], -owners)
  np.testing.assert_array_equal(batch.rollout.lengths, owners + 1)
  assert batch.scores.valid.shape == (P, G) and informative(batch).all()


def test_where_too_few_are_informative_the_shapes_stay():
  batches, found = [batch_of(0), batch_of(1, 1)], np.array([False, False, False, True])
  batch = sampling.merge(batches, found)
  assert [int(ids[0]) for ids in batch.prompt_ids] == [11, 0]
  assert 'tokens/per_second' not in sampling.measure(batches, found, 2.0)  # partly resumed
  batches = [dataclasses.replace(x, metrics={'rollout/wasted': 0.5}) for x in batches]
  measured = sampling.measure(batches, found, seconds=2.0)
  assert (measured['sampling/rounds'], measured['sampling/informative_groups']) == (2, 0.25)
  assert measured['tokens/trajectory'] == 1.5  # of the first
  assert measured['tokens/per_second'] == (3 * (1 + 2) + 3 * (11 + 12)) / 2


def test_as_many_groups_are_enough_as_a_batch_has():
  c = grpo_think.get_config('micro')
  assert c.rl.prompts_per_step == 2
  assert not sampling.is_enough(c, np.array([False, True, False, False]))
  assert sampling.is_enough(c, np.array([False, True, False, True]))


def test_no_two_batches_of_a_run_have_one_number():
  c = grpo_think.get_config('micro')
  assert [*sampling.batch_numbers(c, 7)] == [7]  # without resampling, the number is the step
  c.rl.max_resamples = 2
  found = [number for step in range(5) for number in sampling.batch_numbers(c, step)]
  assert found == [*range(15)]


def test_resampling_leaves_no_prompt_out_and_first_batches_as_they_are():
  c = grpo_think.get_config('micro')
  asked = [types.Prompt(f'p{i}', 'Write.', 1, 2) for i in range(10)]
  P, steps = c.rl.prompts_per_step, 5
  without = [sampling.take(c, asked, step) for step in range(steps)]
  c.rl.max_resamples = 2
  numbers = [sampling.batch_numbers(c, step) for step in range(steps)]
  assert [sampling.take(c, asked, of_step[0]) for of_step in numbers] == without
  again = [sampling.take(c, asked, number) for of_step in numbers for number in of_step[1:]]
  assert sorted(prompt.id for taken in again for prompt in taken) == sorted(
    prompt.id for prompt in asked * (2 * steps * P // len(asked))
  )


def test_short_requests_come_first_and_all_of_them_once_the_schedule_is_over():
  c = grpo_think.get_config('micro')
  c.rl.short_first, c.rl.prompts_per_step = 4, 2
  asked = [types.Prompt(f'p{i}', 'Write.', 1, upper) for i, upper in enumerate([7, 5, 3, 1, 8, 6])]
  for step, longest in enumerate([3, 5, 7, 8]):  # of 2, 3, 5 and all 6 prompts
    assert max(p.upper for p in sampling._short_first(c, asked, step)) == longest
    assert max(p.upper for p in sampling.take(c, asked, step)) <= longest
  late = sampling.take(c, asked, 5)
  c.rl.short_first = 0
  assert sampling.take(c, asked, 5) == late


def test_prompts_of_a_step_are_alike_in_length_and_none_is_lost():
  c = grpo_think.get_config('micro')
  c.rl.prompts_per_step, steps = 4, 5
  rng = np.random.default_rng(0)
  asked = [
    types.Prompt(f'p{i}', 'Write.', 1, int(n)) for i, n in enumerate(rng.integers(2, 99, 60))
  ]
  plain = [sampling.take(c, asked, number) for number in range(3 * steps)]
  c.rl.alike = steps
  found = [sampling.take(c, asked, number) for number in range(3 * steps)]
  assert found == [sampling.take(c, asked, number) for number in range(3 * steps)]
  for begin in range(0, 3 * steps, steps):
    window, before = (
      sorted(p.id for one in steps_of[begin : begin + steps] for p in one)
      for steps_of in (found, plain)
    )
    assert window == before
    by_length = sorted(found[begin : begin + steps], key=lambda one: one[0].upper)
    uppers = [p.upper for one in by_length for p in one]
    assert uppers == sorted(uppers)
  assert any(a[0].upper > b[0].upper for a, b in itertools.pairwise(found))


def test_short_requests_of_like_length_are_no_copies_of_a_few():
  c = grpo_think.get_config('micro')
  c.rl.prompts_per_step, c.rl.alike, c.rl.short_first = 4, 4, 40
  asked = [types.Prompt(f'p{i}', 'Write.', 1, 2 + i) for i in range(20)]
  window = [prompt for step in range(4) for prompt in sampling.take(c, asked, step)]
  assert {*window} == {*asked[:16]}


def test_long_prompts_are_counted_and_too_few_for_steps_of_like_length_are_refused(capsys):
  c = grpo_think.get_config('micro')
  tok = tokenizer.train(['Write about rivers and mills.'], 300)
  short = [types.Prompt(f'p{i}', f'Write {i}.', 1, 2) for i in range(7)]
  c.rl.prompts_per_step, c.rl.alike = 2, 3
  found = sampling.fitting(c, tok, [*short, types.Prompt('long', 'mills ' * 900, 1, 2)])
  assert [*found] == short and '1 of 8 prompts left out: longer than' in capsys.readouterr().out
  c.rl.alike = 4
  with pytest.raises(ValueError, match=r'rl\.alike=4 steps of rl\.prompts_per_step=2 .* 7 prompts'):
    sampling.fitting(c, tok, short)
