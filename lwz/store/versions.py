"""The versions that ran: of lwz its commit, of Python, of packages."""

import importlib.metadata
import pathlib
import platform
import subprocess
from collections.abc import Iterable

_PATIENCE = 60.0  # seconds that git has: of a disk that hangs, it would wait for ever
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'transformers', 'numpy')


def now() -> dict[str, str | None]:
  """Returns versions: of lwz its commit, of Python and `PACKAGES`."""
  return {'lwz': commit(), 'python': platform.python_version()} | of(PACKAGES)


def of(packages: Iterable[str]) -> dict[str, str | None]:
  """Returns the version of each package, None for one that is not installed."""
  found: dict[str, str | None] = {}
  for package in packages:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  return found


def commit() -> str | None:
  """Returns the commit of lwz (`-dirty` if edited), None outside its repository or if git hangs."""
  here = pathlib.Path(__file__)
  # Installed inside another repository, the file is not tracked: that commit isn't ours.
  for arguments in (
    ['ls-files', '--error-unmatch', here.name],
    ['describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'],
  ):
    try:
      out = subprocess.run(
        ['git', *arguments], cwd=here.parent, capture_output=True, text=True, timeout=_PATIENCE
      )
    except (OSError, subprocess.TimeoutExpired):
      return None
    if out.returncode:
      return None
  return out.stdout.strip()
