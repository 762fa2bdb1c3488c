"""A step of GRPO finds again what it had done, if the policy is the same."""

import jax.numpy as jnp
import ml_collections
import numpy as np

from lwz import types
from lwz.rl import resume
from lwz.rollout import scheduler

P, G, T = 1, 2, 4
PARAMS = {'w': jnp.arange(3.0)}


def open_history(folder, rest=lambda: None):
  c = ml_collections.ConfigDict()
  c.rollout = {'max_tokens': T}
  c.rl = {'prompts_per_step': P, 'group_size': G, 'max_redraws': 0}
  c.train = {'num_steps': 3}
  return resume.History(c, folder, num_rewards=1, rest=rest)


def reply(index, num):
  ids = np.arange(num, dtype=np.int32)
  return scheduler.Trajectory(index, ids, -ids.astype(np.float32), finished=num < T)


def test_replies_are_found_one_by_one_then_the_whole_step(tmp_path):
  done = open_history(tmp_path).step(1, PARAMS)
  assert (done.replies, done.rollout, done.scores) == ({}, None, None)
  done.add(reply(1, 4))

  done = open_history(tmp_path).step(1, PARAMS)
  assert list(done.replies) == [1] and done.rollout is None
  assert not done.replies[1].finished
  done.add(reply(0, 2))

  done = open_history(tmp_path).step(1, PARAMS)
  np.testing.assert_array_equal(done.rollout.lengths, [2, 4])
  np.testing.assert_array_equal(done.rollout.ids, [[0, 1, 0, 0], [0, 1, 2, 3]])
  np.testing.assert_array_equal(done.rollout.finished, [True, False])
  assert done.scores is None
  scores = types.Scores(np.array([[[0.5], [0.25]]], np.float32), np.array([[True, False]]))
  done.judged(done.rollout, scores)
  assert not (tmp_path / 'journal').exists()

  done = open_history(tmp_path).step(1, PARAMS)
  np.testing.assert_array_equal(done.rollout.lengths, [2, 4])
  np.testing.assert_array_equal(done.scores.values, scores.values)
  np.testing.assert_array_equal(done.scores.valid, scores.valid)


def test_what_another_policy_wrote_does_not_count(tmp_path):
  open_history(tmp_path).step(1, PARAMS).add(reply(0, 2))
  other = {'w': PARAMS['w'].at[2].set(9.0)}
  assert open_history(tmp_path).step(1, other).replies == {}
  assert open_history(tmp_path).step(2, PARAMS).replies == {}


def test_a_run_may_rest_whenever_a_trajectory_is_kept(tmp_path):
  kept = []

  def rest():
    kept.append(list(open_history(tmp_path).step(0, PARAMS).replies))

  done = open_history(tmp_path, rest).step(0, PARAMS)
  done.add(reply(1, 4))
  done.add(reply(0, 2))
  assert kept == [[1], [0, 1]]
