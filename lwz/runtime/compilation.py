"""Settings of JAX before its first use: the folder of compiled programs, and the same bits."""

import os

import jax

from lwz.store import atomic


def prepare(c) -> None:
  """Keeps what is compiled in `runs_dir`, and asks for `same_bits` if `rollout.exact`."""
  cache = os.path.join(os.path.expanduser(c.runs_dir), '.compilation-cache')
  jax.config.update('jax_compilation_cache_dir', cache)
  # Small programs, too: a first step runs a hundred of them, which take longer to compile than to
  # read.
  least = 0.5 if atomic.is_remote(c.runs_dir) else 0.0  # seconds; a bucket is slow
  jax.config.update('jax_persistent_cache_min_compile_time_secs', least)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  if c.rollout.exact:
    same_bits()


def same_bits() -> None:
  """Asks XLA for the same bits at every start, before it reads its flags.

  On a GPU: no atomic additions, and no autotuning, which may choose otherwise next time; slower.
  Elsewhere nothing changes.
  """
  given = os.environ.get('XLA_FLAGS', '')
  if '--xla_gpu_deterministic_ops' not in given:  # else the user has decided
    os.environ['XLA_FLAGS'] = f'{given} --xla_gpu_deterministic_ops=true'.strip()
