"""Sources of rows: a file or the files of a folder, each read by its format."""

from collections.abc import Iterator

from etils import epath

from lwz.data.funnel import conversations, parquet

KINDS = ('.parquet', '.jsonl', '.ndjson', '.jsonl.gz', '.json')


def files(source: epath.PathLike) -> list[epath.Path]:
  """The file itself, or the readable files of a folder and its subfolders, sorted.

  Raises FileNotFoundError if there is no such file or folder, or nothing to read in it.
  """
  root = epath.Path(source).expanduser()
  if root.is_dir():
    found = sorted(_below(root))
    if not found:
      raise FileNotFoundError(f'{root}: nothing to read in it; expected {", ".join(KINDS)} files')
    return found
  if not root.exists():
    raise FileNotFoundError(f'{root}: no such file or folder')
  if not root.name.endswith(KINDS):
    raise FileNotFoundError(f'{root}: expected one of {", ".join(KINDS)}')
  return [root]


def _below(folder: epath.Path) -> Iterator[epath.Path]:
  for path in folder.iterdir():
    if path.name.startswith('.'):
      continue  # a downloader's cache
    if path.is_dir():
      yield from _below(path)
    elif path.name.endswith(KINDS):
      yield path


def name(source: epath.PathLike) -> str:
  """The name of a source in every output: its folder's, or its file's without the suffix."""
  root = epath.Path(source).expanduser()
  kind = next((kind for kind in sorted(KINDS, key=len) if root.name.endswith(kind)), '')
  return root.name.removesuffix(kind) if kind else root.resolve().name


def read(
  path: epath.PathLike, paths: conversations.Paths = conversations.GUESSED
) -> Iterator[conversations.Row]:
  """The rows of one file. Never raises for its content: an unreadable row has a `fault`."""
  name = epath.Path(path).name
  if name.endswith('.parquet'):
    return parquet.read(path, paths)
  if name.endswith('.json'):
    return conversations.read_array(path, paths)
  return conversations.read_lines(path, paths)
