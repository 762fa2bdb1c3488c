"""Monitoring of the policy in a GRPO run: metrics and alarms of each step, its texts on disk."""

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from lwz import hosts
from lwz.reward.hacking import alarms, monitor
from lwz.rl import browser, registry, sampling
from lwz.store import metrics
from lwz.store import samples as sample_files

READS = (
  *('log.samples_every', 'reward.writing_floor', 'rl.stop_on_alarm', 'train.num_steps'),
  *browser.READS,
)

PLOTS = (
  {
    'keys': ['repeat/all', 'repeat/sentences', 'repeat/paragraphs'],
    'title': 'repeated text, broken ones included',
  },
  {'keys': ['distinct/1', 'distinct/2', 'distinct/3'], 'title': 'distinct-n in 512 words'},
  {'keys': ['copy/prompt', 'copy/think'], 'title': 'copied text'},
  {'keys': ['disorder', 'function_words'], 'title': 'grammar: words out of place, little words'},
  {'keys': ['edge/lower', 'edge/upper', 'cap_hit'], 'title': 'texts at an edge, or cut'},
)


def check(c) -> None:
  """Raises ValueError if `rl.stop_on_alarm` names an alarm that there is not."""
  alarms.stops(alarms.RULES, c.rl.stop_on_alarm, {})


class Observer:
  """Observes every step of a run. Its `state` goes into checkpoints and starts a resumed run.

  `begin` starts to measure the first batch, groups of later ones being selected by their rewards;
  the host measures while the devices learn, and `step` has the result.
  """

  def __init__(self, c, mesh, tok, folder: epath.Path, state: dict[str, Any]):
    self._c, self._folder, self.state = c, folder, state
    self._heldout = registry.heldout(c, mesh)
    self._browser = browser.Browser(c, tok, folder) if c.log.browser else None
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'monitor')
    self._observed: concurrent.futures.Future[monitor.Observation]

  def stops(self) -> str:
    """Returns why the steps so far end the run, as `rl.stop_on_alarm` says, or ''."""
    return alarms.stops(alarms.RULES, self._c.rl.stop_on_alarm, self.state.get('rung', {}))

  def begin(self, step: int, batch: sampling.Batch, names: list[str]) -> None:
    """Starts to measure a batch; a held-out reward model is asked first, on the devices.

    Samples are written to disk every `log.samples_every` steps, and when an alarm begins: then the
    worst ones by that alarm.
    """
    heldout_B = None
    if self._heldout:
      heldout_B = self._heldout.values(batch.samples, self._c.rl.group_size)
    self._observed = self._pool.submit(self._observe, step, batch, names, heldout_B)

  def _observe(
    self, step: int, batch: sampling.Batch, names: list[str], heldout_B: np.ndarray | None
  ) -> monitor.Observation:
    c, samples, scores = self._c, batch.samples, batch.scores
    observed = monitor.observe(
      samples,
      scores,
      names,
      state=self.state,
      finished_B=np.asarray(batch.rollout.finished),
      heldout_B=heldout_B,
      heldout_of=registry.HELDOUT_OF,
    )
    logged = step % c.log.samples_every == 0 or step + 1 == c.train.num_steps
    if jax.process_index() == 0 and (logged or observed.new_alarms):
      shown = monitor.show(samples, scores, names, num=8) if logged else []
      shown += monitor.worst(samples, scores, names, observed.alarms)
      sample_files.write(self._folder, step, shown)
    return observed

  def step(
    self,
    step: int,
    batches: Sequence[sampling.Batch],
    advantage_PG: np.ndarray,
    informative: np.ndarray,
  ) -> dict[str, float]:
    """Returns the metrics of the first batch, which `begin` has been given.

    With `log.browser` all batches are written for it; `advantage_PG` are those of their merger.
    """
    hosts.first(self._observed.result)  # process 0 alone writes: its error is that of all
    observed = self._observed.result()
    self.state = observed.state
    if self._browser:
      rang = [alarm.rule.name for alarm in observed.alarms]
      self._browser.write(step, batches, advantage_PG, informative, rang, observed.beyond)
    return observed.metrics


def tables(folder: epath.Path) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
  """Returns the table of the alarms of a run, for its report."""
  rang = alarms.table(metrics.read(folder))
  return [('Alarms', alarms.HEADER, rang)] if rang else []
