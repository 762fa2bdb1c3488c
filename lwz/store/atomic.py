"""Atomic writes: a file is complete or absent, whenever the process that writes it dies."""

import os

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
  """Whether the path is an object of a bucket (`gs://...`): no append, no rename."""
  return '://' in os.fspath(path)


def write_text(path: epath.PathLike, text: str) -> None:
  """Writes UTF-8 text: a reader sees the old file or the new one, never a part of either."""
  write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, data: bytes) -> None:
  """`write_text` of bytes."""
  path = epath.Path(path)
  if is_remote(path):
    path.write_bytes(data)  # an object appears when its upload is complete
    return
  tmp = path.parent / f'.{path.name}.tmp'
  with tmp.open('wb') as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())  # the contents must reach the disk before the name does
  tmp.replace(path)
