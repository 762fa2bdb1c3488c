"""Compiled programs on disk, found by what they are built from: nothing is traced or lowered.

JAX's own cache finds a program by its lowered text, and takes longer to make that than to read what
was compiled. Here the key is all that determines the text and the code: sources, versions, settings
of JAX and XLA, the processor, and the function of a program with everything that is bound to it.
What has no such description (`_Unknown`) is compiled as ever, and so is what cannot be read.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import pickle
import re
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from lwz.store import atomic

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
_ROOMS = ('lwz.model', 'lwz.learn', 'lwz.rollout', 'lwz.programs')  # what a program calls
_DIGEST = 32  # bytes before the content


class _Unknown(Exception):
  """A value that has no description that only equal ones have."""


def kept(program: Any, compile: Callable[[], jax.stages.Compiled]) -> jax.stages.Compiled:
  """Returns a program as it is on disk, or as `compile` makes it, which is then kept."""
  devices = {d for x in jax.tree.leaves(program.abstract_args) for d in _devices(x)}
  if (path := _path(program, devices)) is None:
    return compile()
  with contextlib.suppress(Exception):  # none, or damaged, or of another form
    return _read(path, *devices)
  compiled = compile()
  with contextlib.suppress(Exception):  # no room, or what cannot be kept: the next start compiles
    _write(path, compiled)
  return compiled


def _devices(abstract: jax.ShapeDtypeStruct) -> set[jax.Device]:
  return getattr(abstract.sharding, 'device_set', set())


def _path(program: Any, devices: set[jax.Device]) -> pathlib.Path | None:
  """Returns the file of a program of one CPU device; None of any other, and of an unknown one."""
  folder = _folder()
  if not folder or [getattr(device, 'platform', '') for device in devices] != ['cpu']:
    return None
  try:
    parts = [*_process(), *_settings(), *_described(program)]
  except Exception:  # any doubt, such as a closure in a circle, or a system without /proc
    return None
  key = hashlib.sha256('\0'.join(parts).encode()).hexdigest()
  return pathlib.Path(folder) / 'programs' / f'{program.name}-{key[:40]}'


def _folder() -> str:
  """Returns JAX's folder of compiled programs; '' where it is off, or in a bucket."""
  values = jax.config.values
  folder = values['jax_compilation_cache_dir'] or ''
  return folder if values['jax_enable_compilation_cache'] and '://' not in folder else ''


def _read(path: pathlib.Path, device: jax.Device) -> jax.stages.Compiled:
  if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o022:
    raise ValueError(f'{path}: others may write to it, and a pickle is a program')
  data = path.read_bytes()
  if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
    raise ValueError(f'{path}: is damaged')
  content, in_tree, out_tree = pickle.loads(data[_DIGEST:])
  return serialize_executable.deserialize_and_load(
    content, in_tree, out_tree, backend=device.client, execution_devices=[device]
  )


def _write(path: pathlib.Path, compiled: jax.stages.Compiled) -> None:
  data = pickle.dumps(serialize_executable.serialize(compiled))
  path.parent.mkdir(parents=True, exist_ok=True)
  atomic.write_bytes(path, hashlib.sha256(data).digest() + data)
  path.chmod(0o600)


@functools.cache
def _process() -> tuple[str, ...]:
  """Returns what stays as it is in a process: sources, versions, the processor, its cores."""
  folder, sources, began = pathlib.Path(__file__).parents[1], hashlib.sha256(), _began()
  for path in sorted(folder.rglob('*.py')):
    if path.stat().st_mtime > began:
      raise _Unknown(f'{path}: may have changed since it was imported')
    sources.update(f'{path.relative_to(folder)}\0'.encode() + path.read_bytes())
  lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  kinds = ('model name', 'flags', 'CPU ', 'Features')
  processor = sorted({line for line in lines if line.startswith(kinds)})
  versions = [f'{name} {importlib.metadata.version(name)}' for name in _PACKAGES]
  cores = f'{os.cpu_count()} {len(os.sched_getaffinity(0))} {jax.local_device_count("cpu")}'
  return (sources.hexdigest(), sys.version, *versions, *processor, cores)


def _began() -> float:
  """Returns the time at which this process began, in seconds since the epoch."""
  ticks = pathlib.Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19]  # from boot on
  booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
  return booted + int(ticks) / os.sysconf('SC_CLK_TCK')


def _settings() -> Iterator[str]:
  """Yields settings of JAX and XLA, and constants of lwz; raises `_Unknown` where it is patched."""
  yield from (f'{k}={v}' for k, v in sorted(os.environ.items()) if k.startswith(('XLA_', 'JAX_')))
  values = jax.config.values
  yield from (f'{k}={values[k]}' for k in sorted(values) if k != 'jax_compilation_cache_dir')
  for name, module in sorted(sys.modules.items()):
    for key, value in sorted(vars(module).items()) if name.startswith(_ROOMS) else ():
      if isinstance(value, types.FunctionType):
        _check(value)  # one that was put there from outside is in none of the sources
      elif isinstance(value, int | float | str | tuple | list | dict) and not key.startswith('__'):
        yield f'{name}.{key}=' + re.sub(r' at 0x\w+', '', repr(value))


def _check(named: Any) -> None:
  if named.__module__.split('.')[0] not in ('lwz', *_PACKAGES, *sys.stdlib_module_names):
    raise _Unknown(named)


def _described(x: Any) -> Iterator[str]:
  """Yields a description, the same in every process; raises `_Unknown` where there is none."""
  yield f'{type(x).__module__}.{type(x).__qualname__}'
  match x:
    case None | bool() | int() | float() | str() | np.dtype() | np.generic():
      yield repr(x)
    case jax.sharding.Mesh():
      yield f'{dict(x.shape)} {[(d.id, d.device_kind) for d in x.devices.flat]} {x.axis_types}'
    case jax.sharding.NamedSharding():
      yield from (*_described(x.mesh), f'{x.spec} {x.memory_kind}')
    case jax.ShapeDtypeStruct():
      yield from (f'{x.shape} {x.dtype} {x.weak_type}', *_described(x.sharding))
    case tuple() | list():
      yield from (f'{len(x)}', *(part for one in x for part in _described(one)))
    case dict():
      yield from (f'{len(x)}', *(part for one in x.items() for part in _described(one)))
    case functools.partial():
      yield from (*_described(x.func), *_described(x.args), *_described(x.keywords))
    case types.FunctionType():
      _check(x)
      yield f'{x.__module__} {x.__qualname__} {[*x.__code__.co_positions()]}'  # in its sources
      if vars(sys.modules[x.__module__]).get(x.__qualname__) is not x:  # it is bound to more
        cells = [cell.cell_contents for cell in x.__closure__ or ()]
        yield from (*_described(cells), *_described(x.__defaults__), *_described(x.__kwdefaults__))
    case type():
      _check(x)
      yield f'{x.__module__}.{x.__qualname__}'
    case _ if dataclasses.is_dataclass(x):
      _check(type(x))
      yield from _described({f.name: getattr(x, f.name) for f in dataclasses.fields(x) if f.init})
    case _:
      raise _Unknown(x)
