"""A resumed step of GRPO finds what it had sampled and scored, if the policy is the same."""

import contextlib
import time

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lwz import types
from lwz.rl import resume
from lwz.rollout import local, scheduler
from lwz.runtime import interrupts
from lwz.store import atomic, rollouts

P, G, T = 1, 2, 4
PARAMS = {'w': jnp.arange(3.0)}


def open_store(folder, stop_if_asked=lambda: None, max_resamples=0):
  c = ml_collections.ConfigDict()
  c.rollout = {'max_tokens': T}
  c.rl = {'prompts_per_step': P, 'group_size': G, 'max_resamples': max_resamples}
  c.train = {'num_steps': 3}
  c.reward = {'weights': {'length': 1.0}}
  return resume.BatchStore(c, folder, stop_if_asked=stop_if_asked)


def trajectory(index, num):
  ids = np.arange(num, dtype=np.int32)
  return scheduler.Trajectory(index, ids, -ids.astype(np.float32), finished=num < T)


def test_trajectories_are_found_one_by_one_then_the_whole_batch(tmp_path):
  store = open_store(tmp_path)
  stored = store.open(1, PARAMS)
  assert (stored.trajectories, stored.rollout, stored.scores) == ({}, None, None)
  stored.add(trajectory(1, 4))
  store.close()

  store = open_store(tmp_path)
  stored = store.open(1, PARAMS)
  assert list(stored.trajectories) == [1] and stored.rollout is None
  assert not stored.trajectories[1].finished
  stored.add(trajectory(0, 2))
  store.close()

  store = open_store(tmp_path)
  stored = store.open(1, PARAMS)
  np.testing.assert_array_equal(stored.rollout.lengths, [2, 4])
  np.testing.assert_array_equal(stored.rollout.ids, [[0, 1, 0, 0], [0, 1, 2, 3]])
  np.testing.assert_array_equal(stored.rollout.finished, [True, False])
  assert stored.scores is None
  scores = types.Scores(np.array([[[0.5], [0.25]]], np.float32), np.array([[True, False]]))
  stored.archive(stored.rollout, scores)
  store.settle()
  assert not (tmp_path / 'journal').exists()

  stored = open_store(tmp_path).open(1, PARAMS)
  np.testing.assert_array_equal(stored.rollout.lengths, [2, 4])
  np.testing.assert_array_equal(stored.scores.values, scores.values)
  np.testing.assert_array_equal(stored.scores.valid, scores.valid)


def test_what_another_policy_sampled_does_not_count(tmp_path):
  store = open_store(tmp_path)
  store.open(1, PARAMS).add(trajectory(0, 2))
  store.close()
  other = {'w': PARAMS['w'].at[2].set(9.0)}
  assert open_store(tmp_path).open(1, other).trajectories == {}
  assert open_store(tmp_path).open(2, PARAMS).trajectories == {}


def test_what_another_policy_sampled_further_in_a_step_is_dropped(tmp_path):
  rollout = local.rollout([trajectory(0, 2), trajectory(1, 2)], T)
  scores = types.Scores(np.zeros((1, 2, 1), np.float32), np.ones((1, 2), bool))

  def archive(number, params):
    with contextlib.closing(open_store(tmp_path, max_resamples=1)) as store:
      store.open(number, params).archive(rollout, scores)
    return store._archive.written()

  other = {'w': PARAMS['w'] + 1}
  found = [archive(*one) for one in ((2, PARAMS), (3, PARAMS), (2, PARAMS), (4, other), (2, other))]
  assert found == [[2], [2, 3], [2, 3], [2, 3, 4], [2, 4]]


def test_a_run_may_stop_whenever_a_trajectory_is_kept_and_closes_with_all_on_disk(tmp_path):
  asked = []

  def stop_if_asked():
    asked.append(True)
    if len(asked) == 2:
      raise interrupts.Stopped('stopped')

  store = open_store(tmp_path, stop_if_asked)
  with pytest.raises(interrupts.Stopped), contextlib.closing(store):
    for index in (1, 0):
      store.open(0, PARAMS).add(trajectory(index, 2))
  assert sorted(open_store(tmp_path).open(0, PARAMS).trajectories) == [0, 1]


def test_what_cannot_be_written_stops_where_all_wait_and_hides_no_other_error(
  tmp_path, monkeypatch, caplog
):
  def full(path, data):
    raise OSError(28, 'No space left on device', str(path))

  store = open_store(tmp_path)
  stored = store.open(0, PARAMS)
  monkeypatch.setattr(atomic, 'write_bytes', full)
  for index in (0, 1):
    stored.add(trajectory(index, 2))
    time.sleep(0.05)
  with pytest.raises(OSError, match='No space left'):
    store.settle()
  stored.add(trajectory(0, 2))
  with pytest.raises(KeyError, match='another'), contextlib.closing(store):
    raise KeyError('another')
  assert 'some texts were not kept' in caplog.text


def test_the_next_batch_waits_for_the_archive_of_the_last(tmp_path, monkeypatch):
  def late(self, *args, write=rollouts.Archive.write):
    time.sleep(0.2)
    write(self, *args)

  monkeypatch.setattr(rollouts.Archive, 'write', late)
  store = open_store(tmp_path)
  stored = store.open(0, PARAMS)
  for index in range(2):
    stored.add(trajectory(index, 2))
  rollout = local.rollout([trajectory(0, 2), trajectory(1, 2)], T)
  began = time.monotonic()
  stored.archive(rollout, types.Scores(np.zeros((1, 2, 1), np.float32), np.ones((1, 2), bool)))
  assert time.monotonic() - began < 0.15
  assert store.open(0, PARAMS).scores is not None and not (tmp_path / 'journal').exists()
