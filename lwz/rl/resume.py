"""Batches that a run has sampled and scored, kept as they come and found again after a resume.

store = resume.BatchStore(c, run.folder, stop_if_asked=loop.stop_if_asked)
stored = store.open(7, state.params)
for trajectory in stream(requests not in stored.trajectories):
  stored.add(trajectory)                  # journal/, in a moment
stored.archive(rollout, scores)           # rollouts/, when the batch is scored
store.settle()                            # before a checkpoint that counts on them
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from absl import logging
from etils import epath

from lwz import hosts, types
from lwz.model import qwen
from lwz.rl import archived
from lwz.rollout import local, scheduler
from lwz.store import behind, checksum, journal

READS = (
  *('reward.weights', 'rl.group_size', 'rl.max_resamples', 'rl.prompts_per_step'),
  *('rollout.max_tokens', 'train.num_steps'),
)


class BatchStore:
  """The archive of a run's batches, and the journal of the batch that is being sampled.

  Process 0 writes, behind the loop (`store.behind`); what a kill loses is sampled or scored again.
  `stop_if_asked` is called whenever a trajectory is kept, since a run that was asked to stop need
  not generate the others; `close` then keeps those that it has.
  """

  def __init__(self, c, folder: epath.Path, *, stop_if_asked: Callable[[], None]):
    self._folder, self._max_tokens = folder, c.rollout.max_tokens
    self._stop_if_asked, self._writer = stop_if_asked, behind.Writer()
    self._num_samples = c.rl.prompts_per_step * c.rl.group_size
    self._rounds = 1 + c.rl.max_resamples
    self._archive = archived.archive(c, folder)

  def open(self, number: int, params: qwen.Params) -> 'StoredBatch':
    """Returns what is stored of a batch that these parameters sampled."""
    self.settle()
    policy = checksum.of(params)
    found = self._archive.read(number, policy)
    # All processes must agree, though a shared disk may show a file to one of them later.
    if not hosts.all_gather(np.bool_(found is not None)).all():
      found = None
    kept = journal.TrajectoryJournal(self._folder, number, policy, self._writer)
    entries = {} if found else kept.read()
    here = np.array([_entry_name(b) in entries for b in range(self._num_samples)])
    everywhere = hosts.all_gather(here).all(axis=0)
    trajectories = {
      b: _trajectory(b, entries[_entry_name(b)]) for b in np.flatnonzero(everywhere).tolist()
    }
    rollout, scores = found or (None, None)
    if len(trajectories) == self._num_samples:
      rollout = local.rollout(list(trajectories.values()), self._max_tokens)

    def archive(rollout: types.Rollout, scores: types.Scores) -> None:
      def write() -> None:
        # What an undone attempt has sampled further in this step may not be needed now.
        for later in range(number + 1, (number // self._rounds + 1) * self._rounds):
          self._archive.drop(later, policy)
        self._archive.write(number, policy, rollout, scores)
        kept.clear()

      if jax.process_index() == 0:
        self._writer.submit(f'{self._folder}/rollouts, batch {number}', write)

    return StoredBatch(kept, archive, self._stop_if_asked, trajectories, rollout, scores)

  def settle(self) -> None:
    """Returns when all that was kept is on disk. All processes call it."""
    hosts.first(self._writer.flush)

  def close(self) -> None:
    """`settle` of a process that ends, whatever the others do; an error is logged.

    Another error may be what ends it, and would be lost.
    """
    try:
      self._writer.close()
    except Exception as error:
      logging.error('%s: some texts were not kept, and are sampled again: %s', self._folder, error)

  def rollout(self, number: int) -> types.Rollout | None:
    """Returns the archived rollout of a batch, whatever policy sampled it, or None."""
    self.settle()
    found = self._archive.read(number)
    return found and found[0]


class StoredBatch:
  """One batch: its finished `trajectories` by index; `rollout` and `scores` once complete."""

  def __init__(
    self,
    kept: journal.TrajectoryJournal,
    archive: Callable[[types.Rollout, types.Scores], None],
    stop_if_asked: Callable[[], None],
    trajectories: Mapping[int, scheduler.Trajectory],
    rollout: types.Rollout | None,
    scores: types.Scores | None,
  ):
    self._journal, self._archive, self._stop_if_asked = kept, archive, stop_if_asked
    self.trajectories, self.rollout, self.scores = trajectories, rollout, scores

  def add(self, trajectory: scheduler.Trajectory) -> None:
    """Keeps a trajectory that has ended."""
    if jax.process_index() == 0:
      self._journal.add(
        _entry_name(trajectory.index),
        ids=trajectory.ids,
        logp=trajectory.logp,
        finished=np.asarray(trajectory.finished),
      )
    self._stop_if_asked()

  def archive(self, rollout: types.Rollout, scores: types.Scores) -> None:
    """Keeps the whole batch with its scores, and clears the journal, in a moment."""
    self._archive(rollout, scores)


def _entry_name(index: int) -> str:
  return f'trajectory-{index:05d}'


def _trajectory(index: int, entry: Mapping[str, np.ndarray]) -> scheduler.Trajectory:
  return scheduler.Trajectory(index, entry['ids'], entry['logp'], bool(entry['finished']))
