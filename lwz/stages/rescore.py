"""Rescoring: archived samples of a GRPO run, judged by rewards that did not train it.

1. read the batches of the run, with the rewards and advantages that trained   rl.archived
2. judge them by the rewards, the composition and the advantage named here     rl.registry
3. compare both within each group: their order, and which sample is best       reward.agreement
4. write results.json, table.md, report.html                                   report

The policy does not move: this is what a step would have seen, not where it would have led.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lwz import types
from lwz.data import tokenizer
from lwz.report import curves, groups, intervals, number, page, terminal
from lwz.report import table as table_lib
from lwz.reward import agreement, components
from lwz.rl import archived, comparison, judged, registry, sampling, scoring, tasks
from lwz.runtime import keys, setup, sources
from lwz.store import atomic, record
from lwz.store import run as run_lib

# Of this config; all else, as prompts and sizes, is of the run.
TAKEN = (
  *('reward', 'judge', 'mesh', 'runs_dir', 'needs_seed', 'train.micro_rows'),
  *('rl.advantage', 'rl.composition', 'rl.constraints', 'rl.satisfied'),
)
READS = (*setup.READS, *TAKEN, 'rescore')

ADVANTAGE = 'advantage'
HEADER = (
  *('judged here', 'what trained', 'groups', 'silent', "Kendall's tau", '95 %', 'best changes'),
  *('95 %', 'failed'),
)


def check(c, rewards: registry.Given = None) -> None:
  keys.check(c)
  judged.check_moving(c)
  comparison.check(c)
  if not c.rescore.run:
    raise ValueError('rescore.run is empty: name a GRPO run, as grpo_think:tiny, or its folder')
  folder = epath.Path(setup.reference(c, c.rescore.run))
  if setup.is_experiment(c.rescore.run) and not folder.exists():
    return  # it is to be run first
  own, anew, _ = _opened(c, folder)
  comparison.check(anew)
  registry.check_rewards(anew, rewards)
  judged.check_prompts(anew, judged.guided(anew, sources.writing_prompts(own)))


def run(c, rewards: registry.Given = None) -> None:
  opened, mesh = setup.open_run(c, READS), setup.mesh(c)
  folder = epath.Path(setup.reference(c, c.rescore.run))
  own, anew, written = _opened(c, folder)
  registry.check_rewards(anew, rewards)
  by_judge = judged.JudgedRewards(anew, opened.folder)
  by_name = registry.rewards(anew, mesh, by_judge.rewards(rewards))
  decode = tokenizer.decoder(tokenizer.load(folder / 'tokenizer'))
  chosen = tasks.spread(written, c.rescore.batches)
  found, num_failed, steps = [], dict.fromkeys(by_name, 0), []
  progress = terminal.Progress(len(chosen), label=setup.run_name(c))
  with contextlib.closing(by_judge), progress as bar:
    for batch in archived.batches(own, folder, chosen):
      chosen_prompts = judged.guided(anew, batch.prompts)
      samples = scoring.samples(own, decode, chosen_prompts, batch.rollout)
      values = {name: one.values(samples, own.rl.group_size) for name, one in by_name.items()}
      if why := by_judge.refused():
        raise RuntimeError(f'{why} to go on')
      for name, values_B in values.items():
        num_failed[name] += int(np.sum(~np.isfinite(values_B)))
      scores = components.scores(values, len(batch.prompts))
      if not scores.valid.any():  # what was judged before is kept in the journal
        raise RuntimeError(f'no sample of batch {batch.number} could be judged; check the rewards')
      by_judge.step(list(values), [sampling.Batch([], samples, batch.rollout, scores)])
      found.append(_compared(own, anew, mesh, batch, values, scores))
      steps.append(batch.number // (1 + own.rl.max_resamples))
      opened.check()
      bar.update(len(found))
  if not found:
    raise ValueError(f'rescore.run={c.rescore.run}: no batch of {folder / "rollouts"} can be read')
  num_samples = len(found) * own.rl.prompts_per_step * own.rl.group_size
  failed = {name: num / num_samples for name, num in num_failed.items()}
  facts = {
    'run': folder.name,
    'batches': f'{len(found)} of {len(written)}, steps {steps[0]} to {steps[-1]}',
    'samples': num_samples,
    'trained by': _described(own),
    'judged by': _described(anew),
  } | judged.facts(anew)
  _write(c, opened, facts, found, steps, failed)


def _opened(c, folder: epath.Path) -> tuple[ConfigDict, ConfigDict, list[int]]:
  """Returns the config of the run, the same with the rewards of `c`, and the batches there are."""
  begin = f'rescore.run={c.rescore.run}: '
  if not (folder / 'config.json').exists():
    raise FileNotFoundError(f'{begin}no config.json in {folder}; name a GRPO run')
  opened = run_lib.Run(folder)
  own = archived.config(c, opened)
  written = archived.numbers(own, folder) if own.stage == 'grpo' else []
  if not written:
    raise ValueError(f'{begin}no archived rollouts in {folder}; name a GRPO run that has begun')
  anew = own.copy_and_resolve_references()
  for key in TAKEN:
    keys.set_value(anew, key, keys.get(c, key))
  anew.reward = ConfigDict(c.reward.to_dict())
  anew.reward.weights = {name: weight for name, weight in c.reward.weights.items() if weight}
  anew.init, anew.name = setup.reference(own, own.init), setup.run_name(c)
  return own, anew, written


def _described(c) -> str:
  """Returns the rewards and the advantage of a config, for readers."""
  weights = ', '.join(f'{name} x {weight:g}' for name, weight in c.reward.weights.items())
  return f'{weights}; {c.rl.composition + ", " if c.rl.composition else ""}{c.rl.advantage}'


def _compared(
  own,
  anew,
  mesh,
  batch: archived.Batch,
  values: Mapping[str, np.ndarray],
  scores: types.Scores,
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
  """Returns (tau [P], changed [P]) by (reward here, reward that trained), advantages included."""
  shape = batch.scores.valid.shape
  trained_PG, _, trained_valid_PG = comparison.advantages(own, mesh, batch.scores, batch.rollout)
  advantage_PG, _, valid_PG = comparison.advantages(anew, mesh, scores, batch.rollout)
  before = {name: batch.scores.values[:, :, r] for r, name in enumerate(own.reward.weights)}
  before_valid = dict.fromkeys(before, batch.scores.valid) | {ADVANTAGE: trained_valid_PG}
  before |= {ADVANTAGE: np.asarray(trained_PG)}
  now = {name: values_B.reshape(shape) for name, values_B in values.items()}
  now_valid = {name: np.isfinite(now_PG) for name, now_PG in now.items()} | {ADVANTAGE: valid_PG}
  now |= {ADVANTAGE: np.asarray(advantage_PG)}
  return {
    (here, there): agreement.within_groups(
      now[here], before[there], np.asarray(now_valid[here]) & np.asarray(before_valid[there])
    )
    for here in now
    for there in dict.fromkeys((here, ADVANTAGE))
    if there in before
  }


def _write(c, opened, facts: dict[str, Any], found, steps: list[int], failed) -> None:
  """results.json, table.md, report.html, DONE."""
  rows, records = [], [dict[str, float](step=step) for step in steps]
  for here, there in found[0]:
    tau_P, changed_P = (
      np.concatenate([one[here, there][part] for one in found]) for part in (0, 1)
    )
    tau, changed = groups.interval(tau_P), groups.interval(changed_P)
    rows.append((here, there, tau, changed, len(tau_P) - tau.num, failed.get(here, float('nan'))))
    for entry, one in zip(records, found, strict=True):
      heard_P = one[here, there][0]
      if there == ADVANTAGE and np.isfinite(heard_P).any():
        entry[here] = float(np.nanmean(heard_P))
  names = [here for here, there in found[0] if there == ADVANTAGE]
  table = [
    (
      *(here, there, tau.num, silent, tau.mean, number.interval(tau.low, tau.high)),
      *(changed.mean, number.interval(changed.low, changed.high), missing),
    )
    for here, there, tau, changed, silent, missing in rows
  ]
  notes = [
    'Within groups, of the samples that both judged. Silent groups have equal rewards by either; '
    'the best changes where no sample is the best by both. Intervals take groups as independent.'
  ]
  results = {
    'facts': facts,
    'agreement': [
      {
        **{'here': here, 'trained': there, 'tau': tau._asdict(), 'best_changes': changed._asdict()},
        **{'silent': silent, 'failed': missing},
      }
      for here, there, tau, changed, silent, missing in rows
    ],
  }
  opened.check()
  text = json.dumps(record.plain(results), indent=2)
  atomic.write_text(opened.folder / 'results.json', text + '\n')
  caption = f'{facts["run"]}, judged again'
  markdown = table_lib.markdown(caption, HEADER, table)
  atomic.write_text(opened.folder / 'table.md', '\n'.join([markdown, *notes]) + '\n')
  shown = [(f'{here} v. {there}', tau.mean, tau.low, tau.high) for here, there, tau, *_ in rows]
  plot = intervals.draw(shown, title="Kendall's tau within groups", unit='95 %', covers=(-1, 1))
  over = f"Kendall's tau with the {ADVANTAGE} that trained"
  page.write(
    opened.report,
    title=setup.run_name(c),
    subtitle=f'{c.experiment}, {facts["run"]}',
    facts=facts,
    plots=[('', plot)],
    curves=[('', curves.draw(records, names, title=over))],
    tables=[(caption, HEADER, table)],
    notes=notes,
  )
  print(markdown + '\n'.join(notes))
  opened.mark_done(record.plain(facts))
  print(f'report: {opened.report}')
