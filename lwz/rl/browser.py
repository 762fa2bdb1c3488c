"""The browser of a run's rollouts: written as the run goes on, or later from its archive.

pages = browser.Browser(c, tok, run.folder)
pages.write(step, batches, advantage_PG, informative, rang, beyond)  # in place of an earlier try

`report.browser` has `fill` write what a run lacks, of a version before, or cut short.
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from lwz import hosts, jsonl
from lwz.data import tokenizer
from lwz.report import browser as pages
from lwz.reward import length
from lwz.reward.hacking import alarms, signals
from lwz.rl import archived, comparison, sampling, scoring
from lwz.runtime import sources
from lwz.store import atomic, lock, metrics
from lwz.store import run as run_lib

READS = ('log.browser', 'reward.weights', 'rl.max_resamples', 'train.num_steps')
PAGE, FOLDER = 'rollouts.html', 'browser'
_SHOWN = 160  # characters of a prompt in the index
_LARGEST = 1 << 30  # bytes of an index file: our own, which must not stop a run


class Browser:
  """The page and the data files in a run's folder; process 0 writes them."""

  def __init__(self, c, tok, folder: epath.Path):
    self._c, self._page, self._folder = c, folder / PAGE, folder / FOLDER
    self._decode = tokenizer.decoder(tok)
    anchor = tokenizer.encode(tok, ['a'], end=False)[0]
    behind = len(self._decode(anchor))  # a decoder may treat the first token in its own way
    self._spell = functools.cache(lambda token: self._decode([*anchor, token])[behind:])
    hosts.first(self._describe)

  def steps(self) -> set[int]:
    """Returns the steps that are there."""
    return {step for name in self._indices() for step, _ in _lines(self._folder / name)}

  def write(
    self,
    step: int,
    batches: Sequence[sampling.Batch],
    advantage_PG: np.ndarray,
    informative: np.ndarray,
    rang: Sequence[str],
    beyond: Sequence[tuple[str, ...]],
  ) -> None:
    """Writes a step in place of an earlier one: its alarms, and its batches.

    `advantage_PG` are those of the groups that trained, NaN where a sample did not; `informative`
    says which groups of all batches have advantages. `beyond` is of the first batch's samples: the
    rules that each breaks.
    """
    G = advantage_PG.shape[1]
    placed_PG = np.full((len(informative), G), np.nan)
    placed_PG[sampling.chosen_groups(batches, informative)] = advantage_PG

    def put() -> None:
      numbers, by_batch = sampling.batch_numbers(self._c, step), np.split(placed_PG, len(batches))
      new = []
      for k, batch in enumerate(batches):
        line = {'step': step, 'alarms': list(rang), 'flags': None if k else beyond}
        new.append(line | self._put(numbers[k], batch, by_batch[k].reshape(-1)))
      path = self._folder / f'index-{step // pages.INDEX_STEPS:04d}.js'
      is_new = not path.exists()
      old = [] if is_new else [line for of, line in _lines(path) if of != step]
      atomic.write_text(path, ''.join([*old, *map(pages.line, new)]))
      if is_new:
        self._describe()

    hosts.first(put)

  def _put(self, number: int, batch: sampling.Batch, advantage_B: np.ndarray) -> dict[str, Any]:
    """Writes the texts of a batch; returns its line of the index."""
    P, G, R = batch.scores.values.shape
    rollout, judged_B = batch.rollout, batch.scores.valid.reshape(-1)
    values_BR = batch.scores.values.reshape(-1, R)
    groups = []
    for p in range(P):
      group: dict[str, Any] = {'prompt': batch.samples[p * G].prompt.text}
      group |= {'texts': [], 'sizes': [], 'logp': []}
      for b in range(p * G, (p + 1) * G):
        ids, ended = np.asarray(rollout.ids[b, : rollout.lengths[b]]), bool(rollout.finished[b])
        text = batch.samples[b].text
        written = ids[: len(ids) - ended].tolist()
        found = pages.sizes(written, text, self._spell, self._decode)
        group['texts'].append(text)
        group['sizes'].append(pages.encode([*found, *[0] * ended]))
        group['logp'].append(pages.encode(np.rint(-100 * np.asarray(rollout.logp[b, : len(ids)]))))
      groups.append(group)
    files, places = pages.pieces(f'batch-{number:06d}', groups)
    for name, file in files.items():
      atomic.write_text(self._folder / f'{name}.js', file)
    prompts = [batch.samples[p * G].prompt for p in range(P)]
    return {
      'number': number,
      'pieces': places,
      'prompts': [[prompt.text[:_SHOWN], prompt.lower, prompt.upper] for prompt in prompts],
      'rewards': [_numbers(v) if ok else None for v, ok in zip(values_BR, judged_B, strict=True)],
      'advantage': _numbers(advantage_B),
      'words': [length.count_words(s.parsed.answer) for s in batch.samples],
      'tokens': np.asarray(rollout.lengths).tolist(),
      'finished': np.asarray(rollout.finished, int).tolist(),
      'faults': [sample.parsed.fault for sample in batch.samples],
    }

  def _indices(self) -> list[str]:
    return sorted(path.name for path in self._folder.glob('index-*.js'))

  def _describe(self) -> None:
    c = self._c
    self._folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(self._page, pages.html(self._folder.parent.name))
    facts = {
      'steps': c.train.num_steps,
      'rounds': 1 + c.rl.max_resamples,
      'weights': c.reward.weights.to_dict(),
      'alarms': {rule.name: [rule.meaning, bool(rule.share)] for rule in alarms.RULES},
      'index': [name.removesuffix('.js') for name in self._indices()],
    }
    atomic.write_text(self._folder / 'run.js', pages.run(facts))


def links(folder: epath.Path) -> list[tuple[str, str]]:
  """Returns the link to the browser of a run's folder, if it has one."""
  return [('Every rollout, token by token', PAGE)] if (folder / PAGE).exists() else []


def fill(c, folder: epath.Path) -> None:
  """Writes the browser of a GRPO run from its archive, as far as the browser lacks steps.

  Advantages and the rules that samples break are computed again; alarms are those recorded. A run
  without an archive is left alone. Raises RuntimeError if another process writes the run.
  """
  if not (folder / 'rollouts').exists():
    return
  with contextlib.ExitStack() as stack:
    stack.callback(lock.acquire(folder / 'LOCK').release)
    _fill(c, folder)


def _fill(c, folder: epath.Path) -> None:
  own = archived.config(c, run_lib.Run(folder))
  tok = tokenizer.load(folder / 'tokenizer')
  made, decode = Browser(own, tok, folder), tokenizer.decoder(tok)
  ids_by = sampling.fitting(own, tok, sources.writing_prompts(own))
  archive, known = archived.archive(own, folder), made.steps()

  def advantages(batch: sampling.Batch) -> np.ndarray:
    return comparison.trained(own, *comparison.advantages(own, None, batch.scores, batch.rollout))

  for record in metrics.read(folder):
    batches = []
    for number in sampling.batch_numbers(own, step := int(record['step'])):
      if step in known or (stored := archive.read(number)) is None:
        break
      chosen = sampling.take(own, list(ids_by), number)
      samples = scoring.samples(own, decode, chosen, stored[0])
      batches.append(sampling.Batch([ids_by[one] for one in chosen], samples, *stored))
    if batches:
      informative = np.nan_to_num(np.concatenate([*map(advantages, batches)])).any(axis=1)
      advantage_PG = advantages(sampling.merge(batches, informative))
      beyond = alarms.beyond(signals.measure(batches[0].samples))
      made.write(step, batches, advantage_PG, informative, _rang(record), beyond)


def _rang(record: Mapping[str, Any]) -> list[str]:
  return [rule.name for rule in alarms.RULES if record.get(f'alarm/{rule.name}')]


def _numbers(values: np.ndarray) -> list[float | None]:
  return [round(float(x), 4) if np.isfinite(x) else None for x in values]


def _lines(path: epath.Path) -> list[tuple[int, str]]:
  return pages.lines(jsonl.contents(path, largest=_LARGEST).decode(errors='replace'))
