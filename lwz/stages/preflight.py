"""Preflight: the very programs of a run, compiled for devices that need not be there.

1. the devices, and the mesh of the run over them              programs.cost.topology
2. each part of the run's step: its program, what else stays   programs.cost.memory_plan
3. compile, add up, estimate                                   programs.cost.fit
4. where it does not fit: what to change, and compile that     programs.cost.suggestions
5. a table: on the terminal, as Markdown and JSON              report.fit_table
"""

import dataclasses
import json
import math
import os
import sys
from typing import Any

import jax

from lwz.programs.cost import fit, hardware, memory_plan, suggestions, topology
from lwz.report import fit_table
from lwz.runtime import keys, setup
from lwz.store import atomic, versions

READS = (
  *(*setup.READS, *setup.MESH, 'preflight', 'init', 'data', 'train', 'lora', 'rl', 'rollout'),
  *('reward', 'checkpoint', 'eval', 'judge'),
)


def check(c, stage) -> None:
  """`stage` is the module of the stage whose programs are compiled: what it refuses, this does."""
  stage.check(c)
  _plan(c, stage)


def run(c, stage) -> None:
  over = topology.load(c.preflight.topology)
  if not over.is_local:  # what is compiled for other devices cannot be loaded from the cache here
    jax.config.update('jax_enable_compilation_cache', False)
  estimates = _estimates(c, over, stage)
  found = [
    (estimate, _suggestions(c, estimate, over, stage))
    for estimate in estimates
    if not estimate.fits
  ]
  record = _record(c, over, estimates, found)
  name = f'{c.preflight.experiment}-{c.size}_{over.name}'.replace(':', '-')
  folder = setup.run_folder(c)
  folder.mkdir(parents=True, exist_ok=True)
  atomic.write_text(folder / f'{name}.json', json.dumps(record, indent=1) + '\n')
  atomic.write_text(folder / f'{name}.md', fit_table.markdown(record))
  fit_table.show(record)
  print(f'table: {folder / name}.md')


def _plan(c, stage) -> list[fit.Entry]:
  programs = stage.programs(c, stage.models(c), setup.mesh(c))
  calls = {}
  if c.preflight.stage == 'grpo':
    num = c.rl.prompts_per_step * c.rl.group_size
    calls = {
      'prefill': c.rl.prompts_per_step,
      'decode': -(-c.rollout.max_tokens // c.rollout.block),
      'logprob': c.rl.num_minibatches,
      'reference': c.rl.num_minibatches,
      'teacher': c.rl.num_minibatches,
      'grpo': c.rl.num_epochs * c.rl.num_minibatches,
    }
    if 'score' in programs:  # else a server scores
      calls['score'] = -(-num // programs['score'].abstract_args[1]['ids'].shape[0])
  return memory_plan.plan(programs, calls)


def _estimates(c, over: topology.Topology, stage, name: str = '') -> list[fit.Estimate]:
  """Returns the estimates of all programs, or of the one of a name."""
  estimates = []
  for entry in _plan(c, stage):
    if name in ('', entry.program.name):
      print(f'compiling {entry.part}: {entry.program.name} for {over.name} ...', flush=True)
      estimates.append(fit.estimate(entry, over.chip, per_host=over.per_host))
  return estimates


def _suggestions(c, estimate: fit.Estimate, over: topology.Topology, stage) -> list[dict]:
  """Changes, in the order of `suggestions.suggest`; they are compiled until one fits."""
  found = suggestions.suggest(
    estimate,
    name=over.name,
    micro_rows=c.train.micro_rows,
    heads=stage.models(c)['policy'].num_attention_heads,
    remat=c.train.remat,
  )
  tried: list[dict[str, Any]] = []
  proven = False
  for one in found:
    said: dict[str, Any] = {'keys': one.keys, 'reason': one.reason, 'compiled': None}
    if not proven:
      said['compiled'] = _again(c, stage, one.keys, estimate.fit.name)
      proven = said['compiled']['fits']
    tried.append(said)
  return tried


def _again(c, stage, changes: dict, name: str) -> dict:
  """Returns the outcome for a program after changes of some keys."""
  changed = c.copy_and_resolve_references()
  changed.update_from_flattened_dict(changes)
  try:
    estimate = _estimates(changed, topology.load(changed.preflight.topology), stage, name)[0]
  except ValueError as error:  # a mesh that does not divide some dimension
    return {'fits': False, 'needed': None, 'refused': str(error)}
  return {'fits': estimate.fits, 'needed': _finite(estimate.needed)}


def _record(c, over, estimates, found) -> dict:
  """All that is known, as JSON."""
  packages = ('jax', 'jaxlib', 'libtpu', 'jax-cuda13-plugin', 'jax-cuda12-plugin')
  return {
    'experiment': f'{c.preflight.experiment}:{c.size}',
    'topology': over.name,
    'chip': over.chip.name,
    'devices': len(over.devices),
    'mesh': estimates[0].fit.mesh,
    'capacity': hardware.usable(over.chip),
    'fits': all(estimate.fits for estimate in estimates),
    'phases': [_program_record(estimate, over.chip) for estimate in estimates],
    'remedies': {f'{v.part}: {v.fit.name}': tried for v, tried in found},
    'roofline': hardware.MODEL,
    'shapes': {
      key: keys.get(c, key)
      for key in (
        *('rl.prompts_per_step', 'rl.group_size', 'rollout.max_prompt_tokens'),
        *('rollout.max_tokens', 'data.row_length', 'train.rows', 'train.micro_rows'),
        *('train.chunk', 'train.remat'),
      )
    },
    'versions': {name: version for name, version in versions.of(packages).items() if version},
    'command': _command(),
  }


def _command() -> str:
  platforms = os.environ.get('JAX_PLATFORMS')
  words = ['python', '-m', 'lwz.launch', *sys.argv[1:]]
  return ' '.join([f'JAX_PLATFORMS={platforms}', *words] if platforms else words)


def _program_record(estimate: fit.Estimate, chip: hardware.Chip) -> dict:
  one = estimate.fit
  return {
    'phase': estimate.part,
    'calls': estimate.calls,
    'fits': estimate.fits,
    'needed': _finite(estimate.needed),
    'residents': estimate.residents,
    'seconds': fit.seconds(one, chip),
    **{k: v for k, v in dataclasses.asdict(one).items() if k != 'collectives'},
    'asked': _finite(one.asked),
    'collectives': [dataclasses.asdict(collective) for collective in one.collectives],
  }


def _finite(size: float) -> float | None:
  """A number that JSON knows; None where the compiler did not say how much."""
  return size if math.isfinite(size) else None
