"""Atomic writes: what is written is complete or absent, whenever the writing process dies."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
  """Whether the path is an object of a bucket (`gs://...`): no append, no rename."""
  return '://' in os.fspath(path)


_guards: dict[str, Callable[[], None]] = {}  # folder -> raises if this process may not write there


def guard(folder: epath.PathLike, may_write: Callable[[], None]) -> None:
  """Has `check` call `may_write` for every path in the folder, until `unguard`."""
  _guards[os.fspath(folder)] = may_write


def unguard(folder: epath.PathLike, may_write: Callable[[], None]) -> None:
  """Ends that, unless another guard has taken its place."""
  if _guards.get(os.fspath(folder)) == may_write:
    del _guards[os.fspath(folder)]


def check(path: epath.PathLike) -> None:
  """Raises RuntimeError if the path lies in a run that another process has taken over."""
  for folder, may_write in list(_guards.items()):
    if os.fspath(path).startswith(f'{folder}{os.sep}'):
      may_write()


def write_text(path: epath.PathLike, text: str) -> None:
  """Writes UTF-8 text: a reader sees the old file or the new one, never a part of either."""
  write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, data: bytes) -> None:
  """`write_text` of bytes."""
  check(path)
  path = epath.Path(path)
  if is_remote(path):
    path.write_bytes(data)  # an object appears when its upload is complete
    return
  tmp = path.parent / f'.{path.name}.tmp'
  with named(path):
    with tmp.open('wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())  # the contents must reach the disk before the name does
    tmp.replace(path)


@contextlib.contextmanager
def named(path: epath.PathLike) -> Iterator[None]:
  """Inside, an error of the system names the file: that of a full disk names none."""
  try:
    yield
  except OSError as error:
    if error.filename is not None:
      raise
    full = (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # numpy's short write has no number
    is_full = error.errno in full and not isinstance(error, TimeoutError)
    remedy = '; make room, and run the same command again' if is_full else ''
    why = f'{error.strerror or error}{remedy}'
    raise OSError(f'{path}: cannot be written whole: {why}') from error


@contextlib.contextmanager
def folder(path: epath.PathLike) -> Iterator[epath.Path]:
  """Yields an empty folder for files, which takes the place of `path` when the block ends."""
  check(path)
  path = epath.Path(path)
  tmp = path.parent / f'.{path.name}.tmp'
  remove(tmp)
  tmp.mkdir(parents=True)
  yield tmp
  for file in tmp.iterdir():
    with file.open('rb') as opened:
      os.fsync(opened.fileno())
  remove(path)
  tmp.rename(path)


def remove(path: epath.PathLike) -> None:
  """Removes a folder, if there is one."""
  if epath.Path(path).exists():
    epath.Path(path).rmtree()
