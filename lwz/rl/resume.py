"""What steps of GRPO have written and judged, kept as it comes and found again after a resume.

past = history.History(c, run.folder, num_rewards=3, rest=loop.rest)
done = past.step(7, state.params)
for reply in stream(requests not in done.replies):
  done.add(reply)                       # journal/, at once
scores = done.scores or done.judged(rollout, judge(...))   # rollouts/, when the step is judged
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from etils import epath

from lwz import hosts, types
from lwz.model import qwen
from lwz.rollout import local, scheduler
from lwz.store import checksum, journal, rollouts


class History:
  """The archive of a run, and the journal of the step that it is in. Process 0 writes.

  `rest`, of the training loop, is called when a trajectory is kept: a run that was asked to stop
  need not write the others.
  """

  def __init__(self, c, folder: epath.Path, *, num_rewards: int, rest: Callable[[], None]):
    self._folder, self._max_tokens, self._rest = folder, c.rollout.max_tokens, rest
    self._num = c.rl.prompts_per_step * c.rl.group_size
    self._archive = rollouts.Archive(
      folder,
      num_steps=c.train.num_steps * (1 + c.rl.max_redraws),
      num_prompts=c.rl.prompts_per_step,
      num_samples=c.rl.group_size,
      max_tokens=c.rollout.max_tokens,
      num_rewards=num_rewards,
    )

  def step(self, step: int, params: qwen.Params) -> 'Step':
    """What is there of a step, written by these parameters."""
    policy = checksum.of(params)
    found = self._archive.read(step, policy)
    # All go by the same, though a shared disk may show it to one of them later.
    if not hosts.all_gather(np.bool_(found is not None)).all():
      found = None
    kept = journal.Journal(self._folder, step, policy)
    entries = {} if found else kept.read()
    here = np.array([f'trajectory-{b:05d}' in entries for b in range(self._num)])
    everywhere = hosts.all_gather(here).all(axis=0)
    replies = {
      int(b): _reply(int(b), entries[f'trajectory-{b:05d}']) for b in np.flatnonzero(everywhere)
    }
    rollout, scores = found or (None, None)
    if len(replies) == self._num:
      rollout = local.rollout(list(replies.values()), self._max_tokens)

    def archive(rollout, scores):
      self._archive.write(step, policy, rollout, scores)
      kept.clear()

    return Step(kept, archive, self._rest, replies, rollout, scores)


class Step:
  """One step: the `replies` that are there, by index; `rollout` and `scores` where all are."""

  def __init__(
    self,
    kept: journal.Journal,
    archive: Callable[[types.Rollout, types.Scores], None],
    rest: Callable[[], None],
    replies: Mapping[int, scheduler.Trajectory],
    rollout: types.Rollout | None,
    scores: types.Scores | None,
  ):
    self._journal, self._archive, self._rest = kept, archive, rest
    self.replies, self.rollout, self.scores = replies, rollout, scores

  def add(self, reply: scheduler.Trajectory) -> None:
    """Keeps a trajectory that has ended."""
    if jax.process_index() == 0:
      self._journal.add(
        f'trajectory-{reply.index:05d}',
        ids=reply.ids,
        logp=reply.logp,
        finished=np.asarray(reply.finished),
      )
    self._rest()

  def judged(self, rollout: types.Rollout, scores: types.Scores) -> types.Scores:
    """Archives the step; returns the scores."""
    hosts.first(lambda: self._archive(rollout, scores))
    return scores


def _reply(index: int, entry: Mapping[str, np.ndarray]) -> scheduler.Trajectory:
  return scheduler.Trajectory(index, entry['ids'], entry['logp'], bool(entry['finished']))
