"""Preflight: the very programs of a run, compiled for devices that need not be there.

1. the devices, and the mesh of the run over them              programs.topology, model.sharding
2. each phase of the run's step: its program, what else stays  the stage's own `phases`
3. compile, add up, estimate                                   programs.fit
4. where it does not fit: what to change, and compile that     programs.remedy
5. a table: on the terminal, as Markdown and JSON              this
"""

import dataclasses
import importlib
import importlib.metadata
import json
import math
import sys

import jax
import rich.console
import rich.table

from lwz import types
from lwz.model import sharding
from lwz.programs import chip as chip_lib
from lwz.programs import fit, remedy, topology
from lwz.report import number
from lwz.stages import prepare
from lwz.store import atomic

GIB = chip_lib.GIB
HEADER = (
  *('phase', 'program', 'fits', 'needed', 'of', 'arguments', 'temporaries', 'peak', 'residents'),
  *('PFLOP', 'moved', 'sent', 'seconds', 'bound by', 'calls', 'compile s'),
)
LEGEND = (
  'GiB of one device. needed = peak (arguments and what lives beside them at the worst moment) + '
  'residents (what others keep there meanwhile). temporaries: as XLA counts them, more than live at '
  'once. PFLOP: of all devices, one call. moved, sent: GiB per device and call, through its memory '
  'and to other devices. seconds: of one call, estimated. calls: per step, at most.'
)


def check(c) -> None:
  if c.preflight.topology != 'local':
    # The devices asked for are elsewhere; none of this machine's is needed.
    jax.config.update('jax_enable_compilation_cache', False)
  _phases(c, topology.load(c.preflight.topology))


def run(c) -> None:
  over = topology.load(c.preflight.topology)
  verdicts = _judge(c, over)
  found = [(verdict, _remedies(c, verdict, over)) for verdict in verdicts if not verdict.fits]
  record = _record(c, over, verdicts, found)
  name = f'{c.preflight.experiment}-{c.size}_{over.name}'.replace(':', '-')
  folder = prepare.run_folder(c)
  folder.mkdir(parents=True, exist_ok=True)
  atomic.write_text(folder / f'{name}.json', json.dumps(record, indent=1) + '\n')
  atomic.write_text(folder / f'{name}.md', _markdown(record))
  _show(record)
  print(f'table: {folder / name}.md')


def _phases(c, over: topology.Topology) -> list[fit.Phase]:
  mesh = sharding.make_mesh([c.mesh[axis] for axis in types.AXES], over.devices)
  return importlib.import_module(f'lwz.stages.{c.preflight.stage}').phases(c, mesh)


def _judge(c, over: topology.Topology, name: str = '') -> list[fit.Verdict]:
  """Verdicts of all phases, or of the one of a name."""
  verdicts = []
  for phase in _phases(c, over):
    if name in ('', phase.program.name):
      print(f'compiling {phase.name}: {phase.program.name} for {over.name} ...', flush=True)
      verdicts.append(fit.judge(phase, over.chip, per_host=over.per_host))
  return verdicts


def _remedies(c, verdict: fit.Verdict, over: topology.Topology) -> list[dict]:
  """Changes, in the order of `remedy.remedies`; they are compiled until one fits."""
  config = prepare.expected_model(c, 'init')
  found = remedy.remedies(
    verdict,
    name=over.name,
    micro_rows=c.train.micro_rows,
    heads=config.num_attention_heads,
    remat=c.train.remat,
  )
  tried, proven = [], False
  for one in found:
    said = {'keys': one.keys, 'reason': one.reason, 'compiled': None}
    if not proven:
      changed = c.copy_and_resolve_references()
      changed.update_from_flattened_dict(one.keys)
      again = _judge(changed, topology.load(changed.preflight.topology), verdict.fit.name)[0]
      said['compiled'] = {'fits': again.fits, 'needed': _finite(again.needed)}
      proven = again.fits
    tried.append(said)
  return tried


def _record(c, over, verdicts, found) -> dict:
  """All that is known, as JSON."""
  packages = ('jax', 'jaxlib', 'libtpu', 'jax-cuda13-plugin', 'jax-cuda12-plugin')
  return {
    'experiment': f'{c.preflight.experiment}:{c.size}',
    'topology': over.name,
    'chip': over.chip.name,
    'devices': len(over.devices),
    'mesh': verdicts[0].fit.mesh,
    'capacity': chip_lib.usable(over.chip),
    'fits': all(verdict.fits for verdict in verdicts),
    'phases': [_phase_record(verdict, over.chip) for verdict in verdicts],
    'remedies': {f'{v.phase}: {v.fit.name}': tried for v, tried in found},
    'roofline': chip_lib.MODEL,
    'shapes': {
      key: prepare.get(c, key)
      for key in (
        *('rl.prompts_per_step', 'rl.group_size', 'rollout.max_prompt_tokens'),
        *('rollout.max_tokens', 'data.row_length', 'train.rows', 'train.micro_rows'),
        *('train.chunk', 'train.remat'),
      )
    },
    'versions': {name: version for name in packages if (version := _version(name))},
    'command': 'python -m lwz.launch ' + ' '.join(sys.argv[1:]),
  }


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ''


def _phase_record(verdict: fit.Verdict, chip: chip_lib.Chip) -> dict:
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


def _rows(record: dict) -> list[tuple[str, ...]]:
  rows = []
  for one in record['phases']:
    times = one['seconds']
    bound = max(times, key=times.get) if times else ''
    rows.append(
      (
        one['phase'],
        one['name'],
        'yes' if one['fits'] else 'NO',
        _gib(one['needed']),
        _gib(record['capacity']),
        _gib(one['arguments']),
        _gib(one['temporaries']),
        _gib(one['peak']),
        ', '.join(f'{name} {_gib(size)}' for name, size in one['residents'].items()) or '-',
        f'{one["flops"] / 1e15:.3g}',
        _gib(one['moved']),
        _gib(sum(c['bytes'] for c in one['collectives'])),
        f'{times[bound]:.3g}' if times else '-',
        bound or '-',
        f'{one["calls"]:,}',
        f'{one["lower_seconds"] + one["compile_seconds"]:.0f}',
      )
    )
  return rows


def _gib(size: float | None) -> str:
  return '?' if size is None else '0' if not size else number.show(size / GIB)


def _verdict(record: dict) -> str:
  mesh = ' x '.join(f'{axis} {size}' for axis, size in record['mesh'].items()) or '1'
  fits = 'fits' if record['fits'] else 'does NOT fit'
  return (
    f'{record["experiment"]} {fits} {record["topology"]}: {record["devices"]} devices, mesh {mesh}, '
    f'{_gib(record["capacity"])} GiB each'
  )


def _advice(record: dict) -> list[str]:
  """A line per change that was computed, and what came of compiling it."""
  lines = []
  for name, tried in record['remedies'].items():
    for one in tried:
      keys = ' '.join(f'--config.{key}={value}' for key, value in one['keys'].items())
      proof = 'not compiled'
      if came := one['compiled']:
        proof = f'compiled: {"fits" if came["fits"] else "still too large"}, {_gib(came["needed"])} GiB'
      lines.append(f'{name}: {keys} ({one["reason"]}; {proof})')
    if not tried:
      lines.append(f'{name}: no change of one key suffices; take larger chips, or a smaller model')
  return lines


def _markdown(record: dict) -> str:
  lines = [f'# {_verdict(record)}', '', f'`{record["command"]}`', '']
  lines += [', '.join(f'{name} {version}' for name, version in record['versions'].items()), '']
  lines += [', '.join(f'{key} {value}' for key, value in record['shapes'].items()), '']
  lines += [f'| {" | ".join(HEADER)} |', '|' + ' --- |' * len(HEADER)]
  lines += [f'| {" | ".join(row)} |' for row in _rows(record)]
  lines += ['', LEGEND, '', f'Seconds: {record["roofline"]}', '']
  if advice := _advice(record):
    lines += ['What to change:', '', *[f'* {line}' for line in advice], '']
  lines += ['Largest collectives of one call:', '']
  lines += ['| program | kind | along | devices | result | count | GiB sent |', '|' + ' --- |' * 7]
  for one in record['phases']:
    lines += [
      f'| {one["name"]} | {c["kind"]} | {", ".join(c["axes"])} | {c["group"]} | {c["shape"]} '
      f'| {c["count"]:,} | {_gib(c["bytes"])} |'
      for c in one['collectives'][:6]
    ]
  return '\n'.join(lines) + '\n'


def _show(record: dict) -> None:
  console = rich.console.Console()
  if not console.is_terminal:
    console = rich.console.Console(width=200)
  table = rich.table.Table(title=_verdict(record), title_justify='left', caption=LEGEND)
  for name in HEADER:
    table.add_column(name)
  for row in _rows(record):
    table.add_row(*row, style='' if row[2] == 'yes' else 'red')
  console.print(table)
  print(record['roofline'])
  for line in _advice(record):
    print(f'  {line}')
