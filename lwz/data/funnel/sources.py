"""Sources of rows: a file or the files of a folder, each read by its format."""

from collections.abc import Iterator

from etils import epath

from lwz import jsonl
from lwz.data import files as files_lib
from lwz.data.funnel import conversations, parquet

KINDS = (*files_lib.RECORDS, '.json')


def files(source: epath.PathLike) -> list[epath.Path]:
  """The file itself, or the readable files of a folder and its subfolders, sorted.

  Raises FileNotFoundError if there is no such file or folder, or nothing to read in it.
  """
  root = epath.Path(source).expanduser()
  if root.is_dir():
    return files_lib.find(root, KINDS)
  if not root.exists():
    raise FileNotFoundError(f'{root}: no such file or folder')
  if files_lib.kind(root) not in KINDS:
    raise FileNotFoundError(f'{root}: expected one of {", ".join(KINDS)}')
  return [root]


def name(source: epath.PathLike) -> str:
  """The name of a source in every output: its folder's, or its file's without the suffix."""
  root = epath.Path(source).expanduser()
  return (
    files_lib.stem(root) if files_lib.kind(root) in KINDS else files_lib.text(root.resolve().name)
  )


def read(
  path: epath.PathLike, paths: conversations.Paths = conversations.GUESSED
) -> Iterator[conversations.Row]:
  """The rows of one file. Never raises for its content: an unreadable row has a `fault`.

  Raises ValueError for a FIFO or a device.
  """
  jsonl.check_regular(path)
  read_file = parquet.read if files_lib.kind(path) == '.parquet' else conversations.read
  return read_file(path, paths)
