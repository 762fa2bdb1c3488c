"""Settings of JAX before its first use: the folder of compiled programs, and the same bits."""

import contextlib
import os
import pathlib

import jax

from lwz.store import atomic

LIMIT = 4 << 30  # bytes of compiled programs that a start leaves; a program takes 0.1 to 50 MB


def prepare(c) -> None:
  """Keeps what is compiled in `runs_dir`, and asks for `same_bits` if `rollout.exact`."""
  cache = os.path.join(os.path.expanduser(c.runs_dir), '.compilation-cache')
  jax.config.update('jax_compilation_cache_dir', cache)
  # Small programs, too: a first step runs a hundred of them, which take longer to compile than to
  # read.
  remote = atomic.is_remote(c.runs_dir)
  if not remote:
    prune(pathlib.Path(cache), LIMIT)
  least = 0.5 if remote else 0.0  # seconds; a bucket is slow
  jax.config.update('jax_persistent_cache_min_compile_time_secs', least)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  if c.rollout.exact:
    same_bits()


def prune(folder: pathlib.Path, limit: int) -> None:
  """Removes files that were not used for longest, until `limit` bytes at most are left.

  JAX's own limit wants a lock, and files that caches of earlier versions lack.
  """
  used = []
  with contextlib.suppress(OSError):  # another process removes some, too
    for path in folder.rglob('*'):
      if path.is_file():
        stat = path.stat()
        used.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
  left = sum(size for _, size, _ in used)
  for _, size, path in sorted(used):
    if left <= limit:
      break
    with contextlib.suppress(OSError):
      path.unlink()
    left -= size


def same_bits() -> None:
  """Asks XLA for the same bits at every start, before it reads its flags.

  On a GPU: no atomic additions, and no autotuning, which may choose otherwise next time; slower.
  Elsewhere nothing changes.
  """
  given = os.environ.get('XLA_FLAGS', '')
  if '--xla_gpu_deterministic_ops' not in given:  # else the user has decided
    os.environ['XLA_FLAGS'] = f'{given} --xla_gpu_deterministic_ops=true'.strip()
