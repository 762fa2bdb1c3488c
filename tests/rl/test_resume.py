"""A resumed step of GRPO finds what it had sampled and scored, if the policy is the same."""

import jax.numpy as jnp
import ml_collections
import numpy as np

from lwz import types
from lwz.rl import resume
from lwz.rollout import scheduler

P, G, T = 1, 2, 4
PARAMS = {'w': jnp.arange(3.0)}


def open_store(folder, stop_if_asked=lambda: None):
  c = ml_collections.ConfigDict()
  c.rollout = {'max_tokens': T}
  c.rl = {'prompts_per_step': P, 'group_size': G, 'max_resamples': 0}
  c.train = {'num_steps': 3}
  return resume.BatchStore(c, folder, num_rewards=1, stop_if_asked=stop_if_asked)


def trajectory(index, num):
  ids = np.arange(num, dtype=np.int32)
  return scheduler.Trajectory(index, ids, -ids.astype(np.float32), finished=num < T)


def test_trajectories_are_found_one_by_one_then_the_whole_batch(tmp_path):
  stored = open_store(tmp_path).open(1, PARAMS)
  assert (stored.trajectories, stored.rollout, stored.scores) == ({}, None, None)
  stored.add(trajectory(1, 4))

  stored = open_store(tmp_path).open(1, PARAMS)
  assert list(stored.trajectories) == [1] and stored.rollout is None
  assert not stored.trajectories[1].finished
  stored.add(trajectory(0, 2))

  stored = open_store(tmp_path).open(1, PARAMS)
  np.testing.assert_array_equal(stored.rollout.lengths, [2, 4])
  np.testing.assert_array_equal(stored.rollout.ids, [[0, 1, 0, 0], [0, 1, 2, 3]])
  np.testing.assert_array_equal(stored.rollout.finished, [True, False])
  assert stored.scores is None
  scores = types.Scores(np.array([[[0.5], [0.25]]], np.float32), np.array([[True, False]]))
  stored.archive(stored.rollout, scores)
  assert not (tmp_path / 'journal').exists()

  stored = open_store(tmp_path).open(1, PARAMS)
  np.testing.assert_array_equal(stored.rollout.lengths, [2, 4])
  np.testing.assert_array_equal(stored.scores.values, scores.values)
  np.testing.assert_array_equal(stored.scores.valid, scores.valid)


def test_what_another_policy_sampled_does_not_count(tmp_path):
  open_store(tmp_path).open(1, PARAMS).add(trajectory(0, 2))
  other = {'w': PARAMS['w'].at[2].set(9.0)}
  assert open_store(tmp_path).open(1, other).trajectories == {}
  assert open_store(tmp_path).open(2, PARAMS).trajectories == {}


def test_a_run_may_stop_whenever_a_trajectory_is_kept(tmp_path):
  kept = []

  def stop_if_asked():
    kept.append(list(open_store(tmp_path).open(0, PARAMS).trajectories))

  stored = open_store(tmp_path, stop_if_asked).open(0, PARAMS)
  stored.add(trajectory(1, 4))
  stored.add(trajectory(0, 2))
  assert kept == [[1], [0, 1]]
