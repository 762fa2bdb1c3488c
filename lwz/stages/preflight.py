"""Preflight: the very programs of a run, compiled for devices that need not be there.

1. the devices, and the mesh of the run over them              programs.cost.topology
2. each phase of the run's step: its program, what else stays  programs.cost.memory_plan
3. compile, add up, estimate                                   programs.cost.fit
4. where it does not fit: what to change, and compile that     programs.cost.suggestions
5. a table: on the terminal, as Markdown and JSON              report.fit_table
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import sys
from typing import Any

import jax

from lwz import types
from lwz.model import sharding
from lwz.programs.cost import fit, hardware, memory_plan, suggestions, topology
from lwz.report import fit_table
from lwz.runtime import keys, setup
from lwz.store import atomic

READS = (*setup.READS, 'mesh', 'preflight', 'init', 'data', 'train', 'rl', 'rollout', 'reward')


def check(c, stage) -> None:
  """`stage` is the module of the stage whose programs are compiled."""
  _phases(c, topology.load(c.preflight.topology), stage)


def run(c, stage) -> None:
  over = topology.load(c.preflight.topology)
  if not over.is_local:  # what is compiled for other devices cannot be loaded from the cache here
    jax.config.update('jax_enable_compilation_cache', False)
  verdicts = _judge(c, over, stage)
  found = [
    (verdict, _remedies(c, verdict, over, stage)) for verdict in verdicts if not verdict.fits
  ]
  record = _record(c, over, verdicts, found)
  name = f'{c.preflight.experiment}-{c.size}_{over.name}'.replace(':', '-')
  folder = setup.run_folder(c)
  folder.mkdir(parents=True, exist_ok=True)
  atomic.write_text(folder / f'{name}.json', json.dumps(record, indent=1) + '\n')
  atomic.write_text(folder / f'{name}.md', fit_table.markdown(record))
  fit_table.show(record)
  print(f'table: {folder / name}.md')


def _phases(c, over: topology.Topology, stage) -> list[fit.Phase]:
  mesh = sharding.make_mesh([c.mesh[axis] for axis in types.AXES], over.devices)
  models = stage.models(c)
  programs = stage.programs(c, models, mesh)
  calls = {}
  if c.preflight.stage == 'grpo':
    num = c.rl.prompts_per_step * c.rl.group_size
    calls = {
      'prefill': c.rl.prompts_per_step,
      'decode': -(-c.rollout.max_tokens // c.rollout.block),
      'score': -(-num // programs['score'].abstract_args[1]['ids'].shape[0]),
      'logprob': c.rl.num_minibatches,
      'reference': c.rl.num_minibatches,
      'grpo': c.rl.num_epochs * c.rl.num_minibatches,
    }
  return memory_plan.phases(programs, calls)


def _judge(c, over: topology.Topology, stage, name: str = '') -> list[fit.Verdict]:
  """Verdicts of all phases, or of the one of a name."""
  verdicts = []
  for phase in _phases(c, over, stage):
    if name in ('', phase.program.name):
      print(f'compiling {phase.name}: {phase.program.name} for {over.name} ...', flush=True)
      verdicts.append(fit.judge(phase, over.chip, per_host=over.per_host))
  return verdicts


def _remedies(c, verdict: fit.Verdict, over: topology.Topology, stage) -> list[dict]:
  """Changes, in the order of `remedy.remedies`; they are compiled until one fits."""
  found = suggestions.remedies(
    verdict,
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
      said['compiled'] = _again(c, stage, one.keys, verdict.fit.name)
      proven = said['compiled']['fits']
    tried.append(said)
  return tried


def _again(c, stage, changes: dict, name: str) -> dict:
  """What comes of a program where some keys are others."""
  changed = c.copy_and_resolve_references()
  changed.update_from_flattened_dict(changes)
  try:
    verdict = _judge(changed, topology.load(changed.preflight.topology), stage, name)[0]
  except ValueError as error:  # a mesh that does not divide some dimension
    return {'fits': False, 'needed': None, 'refused': str(error)}
  return {'fits': verdict.fits, 'needed': _finite(verdict.needed)}


def _record(c, over, verdicts, found) -> dict:
  """All that is known, as JSON."""
  packages = ('jax', 'jaxlib', 'libtpu', 'jax-cuda13-plugin', 'jax-cuda12-plugin')
  return {
    'experiment': f'{c.preflight.experiment}:{c.size}',
    'topology': over.name,
    'chip': over.chip.name,
    'devices': len(over.devices),
    'mesh': verdicts[0].fit.mesh,
    'capacity': hardware.usable(over.chip),
    'fits': all(verdict.fits for verdict in verdicts),
    'phases': [_phase_record(verdict, over.chip) for verdict in verdicts],
    'remedies': {f'{v.phase}: {v.fit.name}': tried for v, tried in found},
    'roofline': hardware.MODEL,
    'shapes': {
      key: keys.get(c, key)
      for key in (
        *('rl.prompts_per_step', 'rl.group_size', 'rollout.max_prompt_tokens'),
        *('rollout.max_tokens', 'data.row_length', 'train.rows', 'train.micro_rows'),
        *('train.chunk', 'train.remat'),
      )
    },
    'versions': {name: version for name in packages if (version := _version(name))},
    'command': _command(),
  }


def _command() -> str:
  platforms = os.environ.get('JAX_PLATFORMS')
  words = ['python', '-m', 'lwz.launch', *sys.argv[1:]]
  return ' '.join([f'JAX_PLATFORMS={platforms}', *words] if platforms else words)


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ''


def _phase_record(verdict: fit.Verdict, chip: hardware.Chip) -> dict:
  one = verdict.fit
  return {
    'phase': verdict.phase,
    'calls': verdict.calls,
    'fits': verdict.fits,
    'needed': _finite(verdict.needed),
    'residents': verdict.residents,
    'seconds': fit.seconds(one, chip),
    **{k: v for k, v in dataclasses.asdict(one).items() if k != 'collectives'},
    'asked': _finite(one.asked),
    'collectives': [dataclasses.asdict(collective) for collective in one.collectives],
  }


def _finite(size: float) -> float | None:
  """A number that JSON knows; None where the compiler did not say how much."""
  return size if math.isfinite(size) else None
