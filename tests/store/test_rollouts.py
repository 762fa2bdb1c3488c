"""A step of the archive comes back bit for bit, to the policy that wrote it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz import types
from lwz.store import checkpoint, rollouts

P, G, T, R = 2, 3, 5, 2
B = P * G


def archive(folder, num_steps=4, **changes):
  sizes = {'num_prompts': P, 'num_samples': G, 'max_tokens': T, 'num_rewards': R} | changes
  return rollouts.Archive(folder, num_steps=num_steps, **sizes)


def step(seed):
  rng = np.random.default_rng(seed)
  rollout = types.Rollout(
    ids=rng.integers(0, 99, (B, T), np.int32),
    logp=-rng.random((B, T), np.float32),
    lengths=rng.integers(1, T + 1, B).astype(np.int32),
    finished=rng.random(B) < 0.5,
  )
  scores = types.Scores(rng.random((P, G, R), np.float32), rng.random((P, G)) < 0.5)
  return rollout, scores


def assert_same(found, wanted):
  for mine, theirs in zip(found, wanted, strict=True):
    for name, value in vars(theirs).items():
      assert getattr(mine, name).dtype == value.dtype
      np.testing.assert_array_equal(getattr(mine, name), value)


def test_steps_come_back(tmp_path):
  for number in (0, 2):
    archive(tmp_path).write(number, 7 + number, *step(number))
  again = archive(tmp_path)
  assert_same(again.read(2, 9), step(2))
  assert_same(again.read(0, 7), step(0))
  assert again.read(1, 7) is None
  assert again.read(2, 8) is None  # of another policy


def test_nothing_is_there_at_first(tmp_path):
  assert archive(tmp_path).read(0, 7) is None
  assert not (tmp_path / 'rollouts').exists()


def test_what_is_read_before_a_run_goes_further_is_read_afterwards(tmp_path):
  archive(tmp_path).write(3, 1, *step(3))
  longer = archive(tmp_path, num_steps=9)
  assert longer.read(8, 2) is None
  longer.write(8, 2, *step(8))
  assert_same(longer.read(8, 2), step(8))


def test_a_run_may_go_further(tmp_path):
  archive(tmp_path).write(3, 1, *step(3))
  assert archive(tmp_path, num_steps=9).read(8, 1) is None
  longer = archive(tmp_path, num_steps=9)
  longer.write(8, 2, *step(8))
  assert_same(longer.read(8, 2), step(8))
  assert_same(archive(tmp_path).read(3, 1), step(3))


def test_a_step_is_written_over(tmp_path):
  kept = archive(tmp_path)
  kept.write(1, 1, *step(1))
  kept.write(1, 2, *step(5))
  assert kept.read(1, 1) is None
  assert_same(kept.read(1, 2), step(5))


def test_a_step_cut_short_or_broken_is_none(tmp_path):
  kept = archive(tmp_path)
  kept.write(1, 1, *step(1))
  chunk = tmp_path / 'rollouts' / 'lengths' / 'c' / '1' / '0'
  chunk.unlink()
  assert kept.read(1, 1) is None
  kept.write(1, 1, *step(1))
  chunk = tmp_path / 'rollouts' / 'logp' / 'c' / '1' / '0' / '0'
  chunk.write_bytes(chunk.read_bytes()[:-3])
  assert archive(tmp_path).read(1, 1) is None
  kept.write(1, 1, *step(1))
  kept.write(2, 1, *step(2))
  chunk = tmp_path / 'rollouts' / 'lengths' / 'c' / '1' / '0'
  chunk.write_bytes(chunk.read_bytes()[:-3])
  again = archive(tmp_path)
  assert again.read(1, 1) is None
  assert again.written() == [2]


@pytest.mark.parametrize('num_steps', [4, 9])
@pytest.mark.parametrize('opened', range(1, 7))
def test_a_first_write_may_be_killed_between_any_two_arrays(
  opened, num_steps, tmp_path, monkeypatch
):
  """Of a new run, and of one that goes further."""
  if num_steps > 4:
    archive(tmp_path).write(3, 1, *step(3))
  real, calls = rollouts.Archive._create, []

  def create(self, spec, name):
    if len(calls) == opened:
      raise KeyboardInterrupt
    calls.append(name)
    return real(self, spec, name)

  with monkeypatch.context() as patch:
    patch.setattr(rollouts.Archive, '_create', create)
    with pytest.raises(KeyboardInterrupt):
      archive(tmp_path, num_steps).write(num_steps - 1, 2, *step(5))
  again = archive(tmp_path, num_steps)
  assert again.read(num_steps - 1, 2) is None
  assert num_steps - 1 not in again.written()
  again.write(num_steps - 1, 2, *step(5))
  assert_same(again.read(num_steps - 1, 2), step(5))


def test_another_shape_is_named(tmp_path):
  archive(tmp_path).write(0, 1, *step(0))
  with pytest.raises(ValueError, match=r'ids has steps of shape \(6, 5\), not \(6, 7\)'):
    archive(tmp_path, max_tokens=7).write(0, 1, *step(0))


@pytest.mark.parametrize(
  'name',
  ['a%20b', 'a%2Fb', '%', 'a?b', 'a#b', 'a|b', 'a b', 'ü 海', 'a:b', 'a;b&c=d', 'a@b', 'a*b'],
)
def test_the_archive_and_the_checkpoints_lie_inside_a_folder_of_any_name(name, tmp_path):
  folder = tmp_path / name / 'run'
  archive(folder).write(0, 7, *step(0))
  assert_same(archive(folder).read(0, 7), step(0))
  state = {'w': jnp.ones(3)}
  for wanted in (None, jax.eval_shape(lambda: state)):
    saved = checkpoint.Checkpoints(folder)
    if wanted is None:
      saved.save(1, state, {'step': 1})
    else:
      assert (saved.restore(wanted)[0]['w'] == 1.0).all()
    saved.close()
  assert [path.name for path in tmp_path.iterdir()] == [name]
  assert {path.name for path in folder.iterdir()} == {'checkpoints', 'rollouts'}


@pytest.mark.parametrize('name', ['a\\b', 'a[b]'])
def test_where_they_would_not_they_are_refused(name, tmp_path):
  with pytest.raises(ValueError, match='cannot be kept under a name with'):
    checkpoint.Checkpoints(tmp_path / name)
  assert list(tmp_path.iterdir()) == []


def test_an_archive_in_a_bucket_is_named_by_its_parts():
  place = {'driver': 'gcs', 'bucket': 'mine', 'path': 'runs/a%20b/rollouts/ids/'}
  assert rollouts._place('gs://mine/runs/a%20b/rollouts/ids') == place
