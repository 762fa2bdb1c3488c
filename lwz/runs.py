"""The door to the folders of runs.

    python -m lwz.runs [list|size|clean] [NAME ...] [--runs_dir=runs] [--checkpoints] [--yes]

`list` shows each run's state, step, size and the runs that need it; `size` what takes the space;
names, which may hold * and ?, select runs. `clean` asks, and then deletes what no complete or
interrupted run needs: runs that saved nothing, encoded tokens of complete runs; with --checkpoints
also those of complete runs that no other run needs, whose metrics, samples and report stay; and the
runs that are named. A run that a process writes, or another one needs, is never deleted.
"""

import argparse
import fnmatch
import json
import os
import shutil
import sys
import types
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import rich.console
import rich.table
import rich.text
from etils import epath

from lwz.report import number
from lwz.runtime import keys, refusal, setup
from lwz.store import atomic, lock, run, status

_STYLES = {'complete': 'green', 'running': 'cyan', 'unreadable': 'red'}


class Found(NamedTuple):
  """A run's folder; `needs` are names of other ones."""

  folder: epath.Path
  status: status.Status
  needs: frozenset[str]

  @property
  def name(self) -> str:
    return self.folder.name


def find(runs_dir: epath.PathLike) -> list[Found]:
  """Returns the runs of a folder by name; raises FileNotFoundError if there is no such folder."""
  root = epath.Path(runs_dir)
  if not root.is_dir():
    raise FileNotFoundError(f'{root}: no folder of runs here; name it by --runs_dir')
  found = []
  for folder in sorted(root.iterdir(), key=lambda path: path.name):
    if (folder / 'config.json').exists():
      seen = status.read(folder)
      found.append(Found(folder, seen, frozenset(_needs(root, seen)) - {folder.name}))
  return found


def needed_by(found: Sequence[Found]) -> dict[str, list[str]]:
  """Returns, by run, the complete, running and interrupted ones that need it, even through others.

  An unreadable run may need any: nothing is known about it.
  """
  by_name = {one.name: one for one in found}
  users: dict[str, list[str]] = {one.name: [] for one in found}
  for one in found:
    if one.status.state == 'empty':
      continue
    seen, todo = set(), list(one.needs)
    while todo:
      name = todo.pop()
      if name in by_name and name not in seen and name != one.name:
        seen.add(name)
        users[name].append(one.name)
        todo += by_name[name].needs
  return users


def garbage(
  found: Sequence[Found], named: Sequence[Found], *, checkpoints: bool
) -> list[tuple[epath.Path, str]]:
  """Returns the folders that `clean` deletes, and why.

  Raises ValueError if a named run is needed by one that is not named, or is being written.
  """
  users, names = needed_by(found), {one.name for one in named}
  for one in named:
    if others := sorted(set(users[one.name]) - names):
      raise ValueError(f'{one.name}: needed by {", ".join(others)}; name them, too, or keep it')
    if one.status.state == 'running':
      raise ValueError(f'{one.name}: {lock.holder(one.folder / "LOCK")} writes it; stop it first')
  paths = []
  for one in found:
    state = one.status.state
    if one.name in names:
      paths.append((one.folder, f'{state}, named'))
    elif state == 'empty':
      paths.append((one.folder, 'saved nothing'))
    elif state == 'complete':
      if (one.folder / 'tokens').exists():
        paths.append((one.folder / 'tokens', 'complete; its texts would be encoded again'))
      if checkpoints and not users[one.name] and (one.folder / 'checkpoints').exists():
        paths.append((one.folder / 'checkpoints', 'complete, no run needs it'))
  return paths


def size(path: epath.PathLike) -> int:
  """Returns the bytes of a file or of a folder's files."""
  path = epath.Path(path)
  if not path.is_dir():
    return path.stat().length if path.exists() else 0
  if atomic.is_remote(path):
    return sum(size(child) for child in path.iterdir())
  total = 0
  for folder, _, names in os.walk(path):
    files = (os.path.join(folder, name) for name in names)
    total += sum(os.lstat(file).st_size for file in files if os.path.lexists(file))
  return total


def delete(path: epath.Path, folder: epath.Path) -> None:
  """Deletes a folder of runs, or a part of one, as the only writer of the run.

  If it is cut short, the run is listed and no longer complete: DONE goes first, config.json last.

  Raises RuntimeError where another process has begun to write it.
  """
  order = {'DONE': 0, 'config.json': 2}
  held = lock.acquire(folder / 'LOCK')
  try:
    children = sorted(folder.iterdir(), key=lambda child: order.get(child.name, 1))
    for child in children if path == folder else [path]:
      if child.name != 'LOCK':
        _remove(child)
  finally:
    held.release()
  if path == folder:
    path.rmdir()


def _remove(path: epath.Path) -> None:
  if path.is_dir() and not os.path.islink(path):
    path.rmtree() if atomic.is_remote(path) else shutil.rmtree(path)
  else:
    path.unlink()


def _needs(root: epath.Path, seen: status.Status) -> Iterator[str]:
  """Yields the runs that the references of a config name."""
  flat = keys.upgrade(run.flatten(seen.config))
  known = {'needs_seed': '0', 'base_model': '""'} | flat  # an older run may not hold them
  seed, base = json.loads(known['needs_seed']), json.loads(known['base_model'])
  places = types.SimpleNamespace(runs_dir=os.fspath(root), needs_seed=seed, base_model=base)
  for key in keys.names(lambda key: key.holds == 'reference'):
    value = json.loads(flat.get(key, '""'))
    for one in value if isinstance(value, list) else [value]:
      if isinstance(one, str) and one:
        path = epath.Path(setup.reference(places, keys.alias(one)[1]))
        if os.path.abspath(path.parent) == os.path.abspath(root) or path.parent == root:
          yield path.name


def _show(found: Sequence[Found], users: dict[str, list[str]], *, parts: bool) -> None:
  table = rich.table.Table(box=None, pad_edge=False, header_style='bold')
  for name in ('run', 'state', 'step', 'size', 'largest parts' if parts else 'needed by'):
    right = name in ('step', 'size')
    table.add_column(name, justify='right' if right else 'left', no_wrap=right, overflow='fold')
  for one in found:
    sizes = {child.name: size(child) for child in one.folder.iterdir()}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:4]
    last = [f'{name} {_bytes(sizes[name])}' for name in largest] if parts else users[one.name]
    state = rich.text.Text(one.status.state, _STYLES.get(one.status.state, ''))
    table.add_row(
      *(rich.text.Text(one.name), state, one.status.progress, _bytes(sum(sizes.values()))),
      rich.text.Text(', '.join(last)),
    )
  console = rich.console.Console()
  (console if console.is_terminal else rich.console.Console(width=400)).print(table)


def _bytes(num: float) -> str:
  units = ['B', 'kB', 'MB', 'GB', 'TB']
  while num >= 1000 and len(units) > 1:
    num, units = num / 1000, units[1:]
  return f'{number.show(num)} {units[0]}'


def _clean(found: Sequence[Found], named: Sequence[Found], options: argparse.Namespace) -> None:
  paths = garbage(found, named, checkpoints=options.checkpoints)
  if not paths:
    print('nothing to delete')
    return
  sizes = [size(path) for path, _ in paths]
  for (path, why), num in zip(paths, sizes, strict=True):
    print(f'{os.fspath(path)}: {_bytes(num)}, {why}')
  if not options.yes and not _agreed(f'delete {_bytes(sum(sizes))}? [y/N] '):
    print('nothing was deleted')
    return
  folders = {one.folder for one in found}
  for path, _ in paths:
    delete(path, path if path in folders else path.parent)
  print(f'deleted {_bytes(sum(sizes))}')


def _agreed(question: str) -> bool:
  try:
    return input(question).strip().lower() in ('y', 'yes')
  except EOFError:
    return False


def main(argv: Sequence[str]) -> None:
  """Does what the command line says."""
  parser = argparse.ArgumentParser('python -m lwz.runs', allow_abbrev=False)
  parser.add_argument('what', nargs='?', choices=('list', 'size', 'clean'), default='list')
  parser.add_argument('names', nargs='*', metavar='NAME', help='runs; * and ? stand for any text')
  parser.add_argument('--runs_dir', default='runs', help='parent of all runs; default: runs')
  parser.add_argument('--checkpoints', action='store_true', help='clean: those of complete runs')
  parser.add_argument('--yes', action='store_true', help='clean: do not ask')
  options = parser.parse_args(argv)
  options.runs_dir = os.path.expanduser(options.runs_dir)  # no shell does so behind a '='
  found = find(options.runs_dir)
  named = [
    one for one in found if any(fnmatch.fnmatchcase(one.name, name) for name in options.names)
  ]
  for name in options.names:
    if not any(fnmatch.fnmatchcase(one.name, name) for one in found):
      raise FileNotFoundError(f'{name}: no such run in {options.runs_dir}')
  if options.what == 'clean':
    return _clean(found, named, options)
  users = needed_by(found)
  _show(named if options.names else found, users, parts=options.what == 'size')
  if options.what == 'size':
    print(f'{options.runs_dir}: {_bytes(size(options.runs_dir))}, with caches and sweeps')


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except Exception as error:
    if not refusal.is_refusal(error):
      raise
    refusal.show(error)
    sys.exit(refusal.STATUS)
