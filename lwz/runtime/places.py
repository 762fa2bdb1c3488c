"""Places: the folder of the experiments, and what a config names: paths, buckets, run folders."""

import os
import pathlib
import re
import runpy
from collections.abc import Sequence

import ml_collections

from lwz.store import checkpoint

_BUCKETS = ('gs://', 's3://', 'az://', 'hf://')
# In the path of a run: what the libraries that write checkpoints misread, and what is no text.
_UNSAFE = re.compile(rf'[{re.escape("".join(checkpoint.UNSAFE))}\x00-\x1f\x7f\ud800-\udfff]')
_PASSWORD = re.compile(r'://[^/?#\s]*@')  # user:password@ in an address


def experiments() -> pathlib.Path:
  """Returns the folder of the experiments: here, above, or beside lwz, cloned or installed."""
  here = pathlib.Path.cwd()
  for folder in (here, *here.parents, pathlib.Path(__file__).parents[2]):
    if (folder / 'experiments/base.py').exists():
      return folder / 'experiments'
  raise FileNotFoundError(f'{here}: no experiments/base.py here, above, or beside lwz; install lwz')


def defaults(size: str) -> ml_collections.ConfigDict:
  """Returns the config of base.py, which has every key."""
  return runpy.run_path(str(experiments() / 'base.py'))['get_config'](size)


def check_password(key: str, value: object) -> None:
  """Raises ValueError for an address that holds a password."""
  if _PASSWORD.search(str(value)):
    raise ValueError(
      f'{key}: an address must not hold a password; put it into an environment variable and name '
      'that under the key_env of its group, as judge.key_env'
    )


def check(key: str, value: str | Sequence[str]) -> None:
  """Raises ValueError for an address that is no bucket's: it would be taken for a path."""
  for one in (value,) if isinstance(value, str) else value:
    if '://' in str(one) and not str(one).startswith(_BUCKETS):
      raise ValueError(
        f'{key}={one}: name a path, or a bucket: {", ".join(_BUCKETS)}; a model behind a server is '
        'MODEL@http://host/v1, where one may be named'
      )


def check_folder(runs_dir: str, name: str) -> None:
  """Raises ValueError where files of the run would lie outside of a folder of its own."""
  given = f'runs_dir={runs_dir!r}, name={name!r}'
  # A name with a dot in front is a file of ours or hidden, and so are '.' and '..'.
  if not runs_dir or (name and (name[0] in './' or os.path.normpath(name) != name)):
    raise ValueError(f'{given}: a run needs a folder of its own in runs_dir; choose a plain name')
  folder = os.path.join(os.path.expanduser(runs_dir), name)
  if not runs_dir.startswith(_BUCKETS) and '\0' not in folder:
    folder = os.path.realpath(folder)
  if found := _UNSAFE.search(folder):
    raise ValueError(f'{given}: {found[0]!r} cannot be in the path {folder!r}; choose another name')
